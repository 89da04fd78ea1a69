"""Crossings of borders, in the audit log: what went from where to where, by which rule, how much of it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from service.model.states import CopyState
from service.model.work import CopyEnded
from service.store.audit import Change, append
from service.store.tables import copies, executions


def note_crossing(connection: Connection, outcome: CopyEnded) -> None:
    """Write that a copy's bytes went across a border, in the transaction that ends it.

    A copy that failed is told of, too, when bytes of it had crossed by then; one that moved nothing is not.
    """
    work = outcome.work
    row = connection.execute(
        select(copies.c.bytes_copied, executions.c.project)
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(copies.c.id == work.ref.id)
    ).one()
    if outcome.border is None or not (row.bytes_copied or outcome.state is CopyState.COPIED):
        return
    here, there = outcome.border
    place = work.reads_from
    append(
        connection,
        Change(
            actor=f"rule {work.rule}",
            action="cross",
            kind="copy",
            name=f"{work.destination_registry}/{work.destination_repository}:{work.destination_reference}"[
                :255
            ],
            project=row.project,
            after={
                "execution": work.execution,
                "from": here,
                "to": there,
                "read_at": f"{place.registry}/{place.repository}",
                "digest": outcome.digest or work.digest,
                "bytes": row.bytes_copied,
                "state": str(outcome.state),
            },
        ),
    )
