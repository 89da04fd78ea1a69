"""/api/v1/executions: runs of rules, their copies, and live totals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response, json

from api import render
from api.bodies import idempotency_key, query, read_json, refuse_body, single
from api.context import ApiContext, context, services
from api.operations import operation
from api.pagination import page
from api.problems import Problem
from api.schemas.answers import (
    CopyPageSchema,
    ExecutionDetailSchema,
    ExecutionPageSchema,
    NoBodySchema,
    ReportSchema,
)
from api.schemas.common import load
from api.schemas.run import RetryInputSchema
from api.v1.shared import actor, announce, answer, find_execution, is_own
from service.errors import FieldProblem, InvalidFields, TransshipError
from service.model.rule_check import suggest
from service.model.states import CopyState, ExecutionState
from service.replication import executions
from service.replication.report import report
from service.store.executions import CopyRecord, ExecutionRecord
from service.store.standing import Hold

blueprint = Blueprint("executions", __name__, url_prefix="/api/v1/executions")
MAX_STREAM_SECONDS = 3600.0
KEEP_ALIVE_SECONDS = 15.0


@blueprint.get("")
@operation(
    "List executions, the newest first",
    role="viewer",
    results={200: ("one page", ExecutionPageSchema)},
    query={
        "rule": "only runs of this rule",
        "state": "only runs in this state",
        "project": "only runs of rules of this project",
        "since": "only runs that were created at this time or later, as RFC 3339",
    },
    paged=True,
)
def list_executions() -> Response:
    """Answer one page."""
    held: dict[str, list[Hold]] = {}

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[ExecutionRecord]:
        state = single(given, "state")
        if state is not None:
            _check_states([state], [one.value for one in ExecutionState])
        project = single(given, "project")
        if project is not None and not is_own(project):
            return []
        found = services().executions.list(
            rule=single(given, "rule"),
            state=state,
            project=project or actor().project,
            since=moment(single(given, "since")),
            after=after,
            limit=limit,
        )
        held.update(services().standing.holds(found))
        return found

    return page(
        "executions",
        fetch,
        lambda record: record.id,
        lambda record: render.execution(record, held.get(record.id, ())),
        grammar=r"[0-9a-f]{24}",
        filters=("rule", "state", "project", "since"),
    )


@blueprint.get("/<identity>")
@operation(
    "Show an execution with its totals",
    role="viewer",
    results={200: ("the execution", ExecutionDetailSchema)},
)
def show_execution(identity: str) -> Response:
    """Answer one execution."""
    query(())
    record = find_execution(identity)
    return answer(render.execution_detail(record, services()))


@blueprint.get("/<identity>/copies")
@operation(
    "List the copies of an execution; unchanged tags make none",
    role="viewer",
    results={200: ("one page", CopyPageSchema)},
    query={"state": "only copies in this state; may be repeated"},
    paged=True,
)
def list_copies(identity: str) -> Response:
    """Answer one page."""
    find_execution(identity)

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[CopyRecord]:
        states = given.get("state")
        if states is not None:
            _check_states(states, [one.value for one in CopyState])
        return services().executions.copies(
            identity, states=states, after=None if after is None else int(after), limit=limit
        )

    return page(
        f"copies-{identity}",
        fetch,
        lambda record: str(record.id),
        render.copy,
        grammar=r"[0-9]{1,18}",
        filters=("state",),
    )


@blueprint.post("/<identity>/stop")
@operation(
    "Stop an execution; what is under way ends, what is committed stays",
    role="operator",
    body=NoBodySchema,
    results={202: ("the execution", ExecutionDetailSchema)},
)
def stop_execution(identity: str) -> Response:
    """Begin to stop one execution; an ended one is answered as it is."""
    refuse_body()
    find_execution(identity)
    record = executions.stop(services().executions, identity)
    return answer(render.execution_detail(record, services()), 202)


@blueprint.post("/<identity>/retry")
@operation(
    "Run again what failed or was stopped in an ended execution, and only that; with `class`, only these failures",
    role="operator",
    body=RetryInputSchema,
    results={202: ("the new execution", ExecutionDetailSchema)},
    headers={"Idempotency-Key": "repeating it answers the execution that it made first"},
)
def retry_execution(identity: str) -> Response:
    """Save an execution of what is left of an ended one."""
    query(())
    classes = load(RetryInputSchema(), read_json(optional=True)).get("classes", ())
    find_execution(identity)
    record = executions.retry(
        services().executions, identity, classes=classes, idempotency_key=idempotency_key()
    )
    announce(record)
    return answer(
        render.new_execution(record, services()),
        202,
        Location=f"/api/v1/executions/{record.id}",
    )


@blueprint.get("/<identity>/report")
@operation(
    "Show what an execution came to, with its failures: the object that `sync --json` prints",
    role="viewer",
    results={200: ("the report", ReportSchema)},
)
def report_execution(identity: str) -> Response:
    """Answer the report of one execution."""
    query(())
    record = find_execution(identity)
    seconds = render.execution(record)["seconds"]
    return answer(report(services().executions, [identity], seconds))


@blueprint.get("/<identity>/events")
@operation(
    "Watch an execution: an event `totals` at every change, `end` with the last ones",
    role="viewer",
    results={200: ("server-sent events; data as of GET /executions/{identity}", None)},
    media_type="text/event-stream",
)
def watch_execution(identity: str) -> Response:
    """Answer a stream that ends with the execution, or after an hour."""
    query(())
    find_execution(identity)
    surroundings = context()
    if not surroundings.stream_slots.acquire(blocking=False):
        raise Problem(
            503,
            "too_many_streams",
            "too many executions are being watched",
            hint=f"ask GET /api/v1/executions/{identity} instead",
            headers={"Retry-After": "5"},
        )
    stream = _Stream(surroundings, identity)
    response = Response(stream, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
    response.call_on_close(stream.close)
    return response


class _Stream:
    """The events of one execution; gives its slot back however it ends."""

    def __init__(self, surroundings: ApiContext, identity: str) -> None:
        self._surroundings = surroundings
        self._events = _events(surroundings, identity)
        self._open = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._events)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._surroundings.stream_slots.release()


def _events(surroundings: ApiContext, identity: str) -> Iterator[str]:
    store = surroundings.services.executions
    begun = spoken = time.monotonic()
    last: Any = None
    while time.monotonic() - begun < MAX_STREAM_SECONDS:
        try:
            record = store.get(identity)
            if record.state.ended:
                yield _event("end", render.execution_detail(record, surroundings.services))
                return
            seen = surroundings.watched.get(
                identity, partial(render.execution_detail, record, surroundings.services)
            )
        except TransshipError as error:
            yield _event("problem", {"code": error.code})
            return
        changed = {key: value for key, value in seen.items() if key != "seconds"}
        if changed != last:
            last, spoken = changed, time.monotonic()
            yield _event("totals", seen)
        elif time.monotonic() - spoken >= KEEP_ALIVE_SECONDS:
            spoken = time.monotonic()
            yield ": still there\n\n"
        if surroundings.closing.wait(surroundings.stream_seconds):
            return


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def moment(text: str | None) -> float | None:
    """Return the seconds since 1970 of an RFC 3339 time with its zone; raises InvalidFields."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text[:40])
        seconds = found.timestamp() if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        problem = FieldProblem(
            "since", f"{text[:40]!r} is no time", "write 2026-01-31T12:00:00Z, with the zone"
        )
        raise InvalidFields((problem,))
    return seconds


def _check_states(given: list[str], known: list[str]) -> None:
    for state in given:
        if state not in known:
            raise InvalidFields(
                (FieldProblem("state", f"{state[:40]!r} is no state", suggest(state, known)),)
            )
