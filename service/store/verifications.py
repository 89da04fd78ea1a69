"""Verifications: executions that only look, and the repairs that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select, update

from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, CopyState, ExecutionState
from service.store import codec
from service.store.creation import REPAIR, WANTED, insert_tags, insert_verification
from service.store.database import Database
from service.store.tables import copies, execution_unchanged, executions

FINDINGS = ("missing", "stale", "hole")
MAX_REPAIRED = 100_000


@dataclass(frozen=True, slots=True)
class Findings:
    """What a verification came to: names at destinations, and how many of them are what."""

    checked: int
    whole: int
    holes: int
    repaired: int
    unreachable: int


class VerificationStore:
    """Starts verifications and their repairs, and sums up what they found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, rule: SyncRule, *, trigger: str, repair: bool) -> str:
        """Save a pending verification and return its execution's id."""
        return self._database.write(
            lambda connection: insert_verification(connection, rule, trigger=trigger, repair=repair)
        )

    def start_repairs(self) -> list[str]:
        """Start the repair of each ended verification that wants one; returns the new executions.

        One transaction each: a repair is started once, whoever asks and whatever dies meanwhile.
        """
        query = select(executions.c.id).where(
            executions.c.repair == WANTED,
            executions.c.state.in_(ENDED_EXECUTIONS - {ExecutionState.STOPPED}),
        )
        with self._database.read() as connection:
            waiting = list(connection.execute(query).scalars())
        return [made for identity in waiting if (made := self._start_repair(identity))]

    def _start_repair(self, identity: str) -> str:
        def work(connection: Connection) -> str:
            row = connection.execute(
                select(executions.c.spec)
                .where(executions.c.id == identity, executions.c.repair == WANTED)
                .with_for_update()
            ).first()
            if row is None:
                return ""
            references = _found(connection, identity)
            made = ""
            if references:
                made = insert_tags(
                    connection, codec.load_rule(row.spec), references, trigger=REPAIR
                )
            connection.execute(
                update(executions).where(executions.c.id == identity).values(repair=made)
            )
            return made

        return self._database.write(work)

    def repair_of(self, identity: str) -> str:
        """Return the execution that repairs what a verification found; empty when there is none."""
        with self._database.read() as connection:
            repair = connection.execute(
                select(executions.c.repair).where(executions.c.id == identity)
            ).scalar_one_or_none()
        return "" if repair in (None, WANTED) else str(repair)

    def findings(self, identity: str) -> Findings:
        """Sum up a verification, and what its repair has put right so far."""
        by_class = select(copies.c.failure_class, func.count()).where(
            copies.c.execution_id == identity, copies.c.state == CopyState.FAILED
        )
        whole = select(func.sum(execution_unchanged.c.unchanged)).where(
            execution_unchanged.c.execution_id == identity
        )
        repair = self.repair_of(identity)
        finding = copies.alias("finding")
        repaired = select(func.count()).where(
            copies.c.execution_id == repair,
            copies.c.state == CopyState.COPIED,
            exists().where(
                finding.c.execution_id == identity,
                finding.c.failure_class.in_(FINDINGS),
                finding.c.destination_registry == copies.c.destination_registry,
                finding.c.destination_repository == copies.c.destination_repository,
                finding.c.destination_reference == copies.c.destination_reference,
            ),
        )
        with self._database.read() as connection:
            classes: dict[str, int] = {
                name: int(count)
                for name, count in connection.execute(by_class.group_by(copies.c.failure_class))
            }
            good = int(connection.execute(whole).scalar_one() or 0)
            done = int(connection.execute(repaired).scalar_one()) if repair else 0
        found = sum(classes.get(name, 0) for name in FINDINGS)
        unreachable = sum(classes.values()) - found
        return Findings(good + found + unreachable, good, found, done, unreachable)


def _found(connection: Connection, identity: str) -> Sequence[tuple[str, str]]:
    rows = connection.execute(
        select(copies.c.source_repository, copies.c.source_reference)
        .where(
            copies.c.execution_id == identity,
            copies.c.state == CopyState.FAILED,
            copies.c.failure_class.in_(FINDINGS),
        )
        .distinct()
        .limit(MAX_REPAIRED)
    ).all()
    return [(row.source_repository, row.source_reference) for row in rows]
