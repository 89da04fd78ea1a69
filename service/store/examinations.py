"""Examinations of registries by workers of a region: each row carries a question and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, case, delete, insert, literal, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.errors import NotFoundInStore, TransshipError
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import new_id
from service.store.database import Database, upsert
from service.store.tables_regions import examinations

KEPT_SECONDS = 86_400.0
"""So long an answer can be read after its deadline."""

PENDING, RUNNING, ENDED, FAILED, EXPIRED = "pending", "running", "ended", "failed", "expired"


@dataclass(frozen=True, slots=True)
class Question:
    """What a worker is to find out."""

    registry: str
    repository: str
    write: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """A question with what became of it.

    `state`: pending, running, then ended with findings, failed with a reason, or expired: the deadline
    has passed without an answer; the reason says how far it came.
    """

    id: str
    question: Question
    region: str
    state: str
    worker: str
    findings: tuple[dict[str, Any], ...]
    reason: str
    hint: str
    created_at: float
    deadline_at: float
    ended_at: float | None


class ExaminationStore:
    """The table of examinations; old ones go when a new one comes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, question: Question, region: str, *, seconds: float) -> Examination:
        """Write a question down for the workers of a region; it is good for so many seconds."""
        identity = new_id()

        def work(connection: Connection) -> None:
            connection.execute(
                delete(examinations).where(examinations.c.deadline_at < now_epoch() - KEPT_SECONDS)
            )
            connection.execute(
                insert(examinations).values(
                    id=identity,
                    registry=question.registry,
                    region=region,
                    repository=question.repository,
                    write=question.write,
                    state=PENDING,
                    created_at=now_epoch(),
                    deadline_at=now_epoch() + seconds,
                )
            )

        self._database.write(work)
        return self.get(identity)

    def begin(self, identity: str, worker: str) -> Question | None:
        """Take a question; None when somebody has it, or nobody waits for its answer any more."""
        taken = (
            update(examinations)
            .where(
                examinations.c.id == identity,
                examinations.c.state == PENDING,
                examinations.c.deadline_at > now_epoch(),
            )
            .values(state=RUNNING, worker=worker)
        )

        def work(connection: Connection) -> Question | None:
            if connection.execute(taken).rowcount != 1:
                return None
            row = connection.execute(
                select(examinations).where(examinations.c.id == identity)
            ).one()
            return Question(row.registry, row.repository, bool(row.write))

        return self._database.write(work)

    def lend(self, region: str, agent: str) -> list[dict[str, Any]]:
        """Take all questions for a far region, for its agent; each with the seconds that it is good for."""

        def work(connection: Connection) -> list[dict[str, Any]]:
            taken = connection.execute(
                update(examinations)
                .where(
                    examinations.c.region == region,
                    examinations.c.state == PENDING,
                    examinations.c.deadline_at > now_epoch(),
                )
                .values(state=RUNNING, worker=agent)
                .returning(*examinations.c, now_epoch().label("now"))
            )
            return [
                {
                    "id": row.id,
                    "registry": row.registry,
                    "repository": row.repository,
                    "write": bool(row.write),
                    "seconds": row.deadline_at - row.now,
                }
                for row in taken
            ]

        with self._database.read() as connection:
            waiting = connection.execute(
                select(examinations.c.id)
                .where(examinations.c.region == region, examinations.c.state == PENDING)
                .limit(1)
            ).first()
        return self._database.write(work) if waiting is not None else []

    def borrow(self, asked: Mapping[str, Any], region: str) -> None:
        """Write down a question from home."""
        values = {name: asked[name] for name in ("id", "registry", "repository", "write")}

        def work(connection: Connection) -> None:
            connection.execute(
                upsert(connection, examinations)
                .values(
                    **values,
                    region=region,
                    state=PENDING,
                    created_at=now_epoch(),
                    deadline_at=now_epoch() + asked["seconds"],
                )
                .on_conflict_do_nothing()
            )

        self._database.write(work)

    def end(self, identity: str, findings: Sequence[dict[str, Any]]) -> None:
        """Answer a question that was taken."""
        self._answer(identity, state=ENDED, findings=codec.dump(list(findings)))

    def fail(self, identity: str, error: TransshipError) -> None:
        """Say why a question that was taken has no answer."""
        self._answer(identity, state=FAILED, reason=error.message, hint=error.hint)

    def get(self, identity: str) -> Examination:
        """Return one examination. Raises NotFoundInStore."""
        query = select(examinations, _state().label("stands")).where(examinations.c.id == identity)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundInStore(f"there is no examination {identity}")
        return Examination(
            id=row.id,
            question=Question(row.registry, row.repository, bool(row.write)),
            region=row.region,
            state=row.stands,
            worker=row.worker,
            findings=tuple(json.loads(row.findings)),
            reason=_late(row)[0] if row.stands == EXPIRED else row.reason,
            hint=_late(row)[1] if row.stands == EXPIRED else row.hint,
            created_at=row.created_at,
            deadline_at=row.deadline_at,
            ended_at=row.ended_at,
        )

    def _answer(self, identity: str, **values: Any) -> None:
        statement = (
            update(examinations)
            .where(examinations.c.id == identity, examinations.c.state == RUNNING)
            .values(ended_at=now_epoch(), **values)
        )
        self._database.write(lambda connection: connection.execute(statement).rowcount)


def answered(connection: Connection) -> list[dict[str, Any]]:
    """Return what was found out, as home is told of it."""
    rows = connection.execute(
        select(examinations).where(examinations.c.state.in_([ENDED, FAILED])).limit(100)
    )
    return [
        {
            "id": row.id,
            "state": row.state,
            "findings": json.loads(row.findings),
            "reason": row.reason,
            "hint": row.hint,
        }
        for row in rows
    ]


def take_answers(connection: Connection, agent: str, answers: Sequence[Mapping[str, Any]]) -> None:
    """Record what an agent has found out."""
    for answer in answers:
        connection.execute(
            update(examinations)
            .where(
                examinations.c.id == answer["id"],
                examinations.c.state == RUNNING,
                examinations.c.worker == agent,
            )
            .values(
                state=answer["state"],
                findings=codec.dump(answer["findings"]),
                reason=answer["reason"],
                hint=answer["hint"],
                ended_at=now_epoch(),
            )
        )


def forget(connection: Connection, answers: Sequence[Mapping[str, Any]]) -> None:
    """Forget answers that home has, and questions whose time is over."""
    ids = [answer["id"] for answer in answers]
    late = examinations.c.deadline_at < now_epoch() - KEPT_SECONDS
    connection.execute(delete(examinations).where(examinations.c.id.in_(ids) | late))


def _late(row: Row[Any]) -> tuple[str, str]:
    """Return why a question was not answered in time, and what to do."""
    seconds = f"{row.deadline_at - row.created_at:g} s"
    if row.state == PENDING:
        return (
            f"no worker of region {row.region} took it within {seconds}",
            f"look at `transship regions show {row.region}`: its workers may be gone, or all of their slots taken",
        )
    hint = (
        f"look at the log of region {row.region}'s workers: the registry {row.registry} may be silent, the worker "
        "gone, or a far region's link cut; then ask again"
    )
    return f"{row.worker} took it and did not answer within {seconds}", hint


def _state() -> ColumnElement[str]:
    late = examinations.c.state.in_([PENDING, RUNNING]) & (examinations.c.deadline_at < now_epoch())
    return case((late, literal(EXPIRED)), else_=examinations.c.state)
