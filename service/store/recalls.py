"""What home takes back from the agents of far regions, as each of its answers tells (docs/adr/0017)."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, and_, or_, select
from sqlalchemy.sql.elements import ColumnElement

from service.model.states import ENDED_EXECUTIONS, CopyState, ExecutionState
from service.store.conditions import rule_is_paused
from service.store.tables import copies, executions, registries

WATCH_SECONDS = 1.2
"""How often an agent that has copies in hand is to ask: it hears of what is taken back within two seconds, the
way there and back among them."""


def lent_to(agent: str, region: str) -> ColumnElement[bool]:
    """Return the condition that a row of copies is in an agent's hands."""
    return and_(
        copies.c.owner == agent,
        copies.c.state == CopyState.RUNNING,
        copies.c.region == region,
    )


def recalled(
    connection: Connection, agent: str, region: str, held: Collection[tuple[int, int]]
) -> list[int]:
    """Return those of the copies that an agent has which it is to let go of, by id.

    `held`: each with the fence that it was lent with. Another fence, or another owner, means that somebody
    has taken it back: a release its tag, a project its grant, a newer execution its turn. And nobody goes on with
    what is of a paused rule or registry, or of an execution that is stopped.
    """
    lent = {
        (row.id, row.fence)
        for row in connection.execute(
            select(copies.c.id, copies.c.fence).where(lent_to(agent, region))
        )
    }
    resting = select(registries.c.name).where(registries.c.paused_at.is_not(None))
    unwanted = (
        select(copies.c.id)
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            lent_to(agent, region),
            or_(
                rule_is_paused(copies.c.rule),
                executions.c.state.in_([ExecutionState.STOPPING, *ENDED_EXECUTIONS]),
                copies.c.source_registry.in_(resting),
                copies.c.destination_registry.in_(resting),
            ),
        )
    )
    gone = {copy for copy, _ in set(held) - lent}
    return sorted(gone | set(connection.execute(unwanted).scalars()))


def lent_to_or_from(
    connection: Connection, agent: str, region: str, names: Collection[str]
) -> list[int]:
    """Return an agent's copies that are read or written at one of these registries, by id."""
    wanted = list(names)
    named = or_(copies.c.source_registry.in_(wanted), copies.c.destination_registry.in_(wanted))
    query = select(copies.c.id).where(lent_to(agent, region), named).order_by(copies.c.id)
    return list(connection.execute(query).scalars()) if wanted else []
