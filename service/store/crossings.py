"""Crossings of borders, in the audit log: what went from where to where, by which rule, how much of it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from service.model.work import CopyWork, Counters
from service.store.audit import Change, append
from service.store.tables import executions

MAX_NAME = 255


def note_crossings(connection: Connection, work: CopyWork, counters: Counters) -> None:
    """Write which bytes of a step of work went across a border, whatever becomes of its copy.

    One row a step and border: a large image has one for each part. In the transaction of its outcome.
    """
    if not counters.borders:
        return
    of = select(executions.c.project).where(executions.c.id == work.execution)
    project = connection.execute(of).scalar_one()
    place = f"{work.destination_registry}/{work.destination_repository}"
    for sender, (here, there) in sorted(counters.borders.items()):
        append(
            connection,
            Change(
                actor=f"rule {work.rule}",
                action="cross",
                kind="copy",
                name=f"{place}:{work.destination_reference}"[:MAX_NAME],
                project=project,
                after={
                    "execution": work.execution,
                    "from": here,
                    "to": there,
                    "read_at": sender,
                    "digest": work.digest,
                    "bytes": counters.crossed.get(sender, 0),
                },
            ),
        )
