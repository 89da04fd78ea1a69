"""How executions come to be: one full execution a rule at a time, and those of single tags beside it."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Double, bindparam, select

from service.errors import Conflict
from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, ExecutionState
from service.store import codec, keys
from service.store.clock import now_epoch
from service.store.database import insert_of
from service.store.tables import executions

PRIORITIES = {"urgent": 0, "normal": 1, "bulk": 2}
CREATE_TRIES = 3
REPAIR = "repair"
"""The trigger of an execution that copies again what a verification found."""

RETRY = "retry"
"""The trigger of an execution of what failed in another one."""

BY_HAND = "api"
"""The trigger of an execution that somebody has asked for."""

ASKED = frozenset({"event", RETRY, REPAIR})
"""Triggers whose references may have gone meanwhile without that being a failure."""

ONE_SHOT = frozenset({"command", "demo"})
"""Triggers of engines that live for one job: they have no memory that anything could differ from."""

WANTED = "wanted"
"""In the column repair: findings are to be copied again; the repairing execution's id follows."""

DEADLINE_SECONDS = 7 * 86400.0
"""How long an execution of a rule without a deadline may take: everything ends (promise 5)."""


def insert_full(
    connection: Connection, rule: SyncRule, *, trigger: str, idempotency_key: str | None = None
) -> tuple[str, float | None]:
    """Save a pending execution of the whole rule; return its id, and when it was created.

    While a full execution of the rule is open, that one's is returned, without a time. The same
    idempotency key returns the execution that it came to first, also when that one was open already;
    with another rule it raises Conflict.
    """
    known = keys.recall(connection, rule.name, idempotency_key)
    if known is not None:
        return known, None
    identity, created_at = _insert_full(
        connection, rule, trigger=trigger, idempotency_key=idempotency_key
    )
    keys.remember(connection, rule.name, idempotency_key, identity)
    return identity, created_at


def _insert_full(
    connection: Connection, rule: SyncRule, *, trigger: str, idempotency_key: str | None
) -> tuple[str, float | None]:
    identity = new_id()
    for _ in range(CREATE_TRIES):
        made = _insert(
            connection, identity, rule, trigger, kind="full", idempotency_key=idempotency_key
        )
        if made is not None:
            return identity, made
        standing = _standing(connection, rule.name, idempotency_key)
        if standing is not None:
            return standing, None
    raise Conflict(f"executions of rule {rule.name} come and go too fast; try again")


def insert_tags(
    connection: Connection,
    rule: SyncRule,
    references: Sequence[tuple[str, str]],
    *,
    trigger: str = "event",
    idempotency_key: str | None = None,
    changed_at: float | None = None,
) -> str:
    """Save a pending execution of some source references, each (repository, tag or digest).

    `changed_at`: when the oldest change was told of, in seconds since 1970 by the database's clock.

    It runs beside the rule's full execution, whatever that is at. What an event asks for goes one
    step before the rule's own priority: somebody waits for it.
    """
    identity = new_id()
    made = _insert(
        connection,
        identity,
        rule,
        trigger,
        kind="tags",
        only=json.dumps([list(reference) for reference in dict.fromkeys(references)]),
        idempotency_key=idempotency_key,
        sooner=1 if trigger == "event" else 0,
        changed_at=changed_at,
    )
    if made is not None:
        return identity
    standing = _standing(connection, rule.name, idempotency_key)
    if standing is None:
        raise Conflict(f"an execution of rule {rule.name} could not be saved; try again")
    return standing


def insert_verification(
    connection: Connection, rule: SyncRule, *, trigger: str, repair: bool
) -> str:
    """Save a pending verification of what a rule says; `repair`: copy again what is found."""
    identity = new_id()
    _insert(connection, identity, rule, trigger, kind="verify", repair=WANTED if repair else "")
    return identity


def insert_plan(connection: Connection, rule: SyncRule, *, trigger: str) -> str:
    """Save a pending plan: an execution that finds out what its rule would do, and does nothing."""
    identity = new_id()
    _insert(connection, identity, rule, trigger, kind="plan")
    return identity


def insert_carrying_out(connection: Connection, rule: SyncRule, plan: str, *, trigger: str) -> str:
    """Save a pending execution that carries a plan out as it is; once begun, that one is returned."""
    identity = new_id()
    key = f"plan:{plan}"
    made = _insert(
        connection,
        identity,
        rule,
        trigger,
        kind="carry",
        only=json.dumps(plan),
        idempotency_key=key,
    )
    return identity if made is not None else str(_standing(connection, rule.name, key))


def _insert(
    connection: Connection,
    identity: str,
    rule: SyncRule,
    trigger: str,
    *,
    kind: str,
    only: str = "[]",
    repair: str = "",
    idempotency_key: str | None = None,
    sooner: int = 0,
    changed_at: float | None = None,
) -> float | None:
    """Save a pending execution, and return when that was; None when another one stands in its way."""
    created_at = connection.execute(
        _statement(connection.dialect.name),
        {
            "id": identity,
            "rule": rule.name,
            "project": rule.project,
            "trigger": trigger,
            "kind": kind,
            "only": only,
            "repair": repair,
            "idempotency_key": idempotency_key,
            "priority": max(0, PRIORITIES[rule.priority] - sooner),
            "spec": codec.dump(rule),
            "state": ExecutionState.PENDING,
            "changed_at": changed_at,
            "deadline_seconds": rule.deadline_seconds or DEADLINE_SECONDS,
        },
    ).scalar_one_or_none()
    return None if created_at is None else float(created_at)


@cache
def _statement(dialect: str) -> Any:
    """Return the one INSERT of all kinds: built once, since building it costs more than running it."""
    return (
        insert_of(dialect, executions)
        .values(
            created_at=now_epoch(),
            deadline_at=now_epoch() + bindparam("deadline_seconds", type_=Double),
        )
        .on_conflict_do_nothing()
        .returning(executions.c.created_at)
    )


def _standing(connection: Connection, rule: str, idempotency_key: str | None) -> str | None:
    """Return the execution that stands in the way of a new one: of the same key, or the open one."""
    if idempotency_key is not None:
        known = connection.execute(
            select(executions.c.id, executions.c.rule).where(
                executions.c.idempotency_key == idempotency_key
            )
        ).first()
        if known is not None:
            if known.rule != rule:
                raise Conflict("the Idempotency-Key was used for another rule")
            return str(known.id)
    running = connection.execute(
        select(executions.c.id).where(
            executions.c.rule == rule,
            executions.c.kind == "full",
            executions.c.state.not_in(ENDED_EXECUTIONS),
        )
    ).scalar_one_or_none()
    return None if running is None else str(running)


def made_at(identity: str) -> float:
    """Return when an id was made, in seconds since 1970; 0 for one that is not of new_id."""
    try:
        return int(identity[:12], 16) / 1000
    except ValueError:
        return 0.0


class _Ids:
    """Ids that sort by time, and those of one process in the order in which it made them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = (0, 0)  # milliseconds, random part

    def new(self, now: float) -> str:
        """Return an id for a moment in seconds since 1970."""
        moment, chance = int(now * 1000), secrets.randbits(47)
        with self._lock:
            if moment == self._last[0]:
                chance = self._last[1] + 1 + secrets.randbits(32)
            self._last = (moment, chance)
        return f"{moment:012x}{chance:012x}"


_ids = _Ids()


def new_id() -> str:
    """Return an id that sorts by time: 12 hex digits of milliseconds, 12 random ones.

    What one process makes within a millisecond sorts in the order in which it was made.
    """
    return _ids.new(time.time())
