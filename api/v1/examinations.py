"""/api/v1/registries/{name}/examination: what a registry can do, found out by trying.

From here, or, with `from`, by a worker of a region: then the answer is waited for by whoever asks.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from api import render
from api.bodies import query, read_json
from api.changes import note
from api.context import context, services
from api.operations import operation
from api.problems import Problem
from api.schemas.common import load
from api.schemas.examination import (
    ExaminationSchema,
    NewExaminationSchema,
    RemoteExaminationSchema,
)
from api.v1.shared import answer
from service.errors import Conflict, NotFoundInStore
from service.registry.doctor import SCRATCH, examine
from service.replication.examine import told, written_to
from service.store.examinations import Examination, Question
from service.store.redis_errors import is_redis_error

blueprint = Blueprint("examinations", __name__, url_prefix="/api/v1/registries")

PATIENCE_SECONDS = 180.0
"""So long a worker has for an answer, from the question on."""


@blueprint.post("/<name>/examination")
@operation(
    "Find out what a registry can do; writes into a scratch repository, and takes it back. "
    "With `from`, a worker of that region does it",
    role="admin",
    platform=True,
    body=NewExaminationSchema,
    results={
        200: ("what was found", ExaminationSchema),
        202: ("a worker of the region was asked", RemoteExaminationSchema),
    },
)
def examine_registry(name: str) -> Response:
    """Try everything at one registry."""
    query(())
    wanted = load(NewExaminationSchema(), read_json(optional=True))
    services().registries.get(name)
    question = Question(name, wanted.get("repository", SCRATCH), wanted.get("write", True))
    noted: dict[str, Any] = {"repository": question.repository, "write": question.write}
    if "region" in wanted:
        note(after={**noted, "from": wanted["region"]})
        return _asked(question, wanted["region"])
    note(after=noted)
    services().database.write(lambda _: True)  # who had it written to is known before it is
    found = examine(services().clients.get(name), question.repository, write=question.write)
    return answer(
        {
            "schema": 1,
            "registry": name,
            "written": written_to(question.repository, write=question.write),
            "findings": told(found),
        }
    )


@blueprint.get("/<name>/examinations/<identity>")
@operation(
    "Show an examination by a worker of a region, and what it found",
    role="admin",
    platform=True,
    results={200: ("the examination", RemoteExaminationSchema)},
)
def show_examination(name: str, identity: str) -> Response:
    """Answer one examination."""
    query(())
    found = services().examinations.get(identity)
    if found.question.registry != name:
        raise NotFoundInStore(f"there is no examination {identity} of registry {name}")
    return answer(_shown(found))


def _asked(question: Question, region: str) -> Response:
    """Ask the workers of a region. Raises Conflict where none lives, Problem without a queue."""
    alive = services().region_load.workers()
    if region not in alive:
        raise Conflict(
            f"no worker of region {region} is alive: nobody can look from there",
            hint=_who_there_is(region, sorted(alive)),
        )
    publisher = context().publisher
    if publisher is None:
        raise _without_queue()
    asked = services().examinations.ask(question, region, seconds=PATIENCE_SECONDS)
    try:
        if region not in services().dispatching.attended():  # an agent fetches it with its copies
            publisher.examine(region, asked.id)
    except Exception as error:
        if isinstance(error, OSError) or is_redis_error(error):
            raise _without_queue() from error
        raise
    where = f"{request.path.removesuffix('/examination')}/examinations/{asked.id}"
    return answer(_shown(asked), 202, Location=where)


def _who_there_is(region: str, alive: list[str]) -> str:
    others = f"; workers live in {', '.join(alive)}" if alive else ""
    if services().settings.one_machine:
        return f"start this engine with TRANSSHIP_REGION={region}, or ask from its own{others}"
    return f"start one: `transship worker --region {region}`{others}"


def _without_queue() -> Problem:
    return Problem(503, "queue_unavailable", "the queue does not answer", hint="look at its Redis")


def _shown(found: Examination) -> dict[str, Any]:
    question = found.question
    return {
        "schema": 1,
        "id": found.id,
        "registry": question.registry,
        "region": found.region,
        "state": found.state,
        "worker": found.worker,
        "written": written_to(question.repository, write=question.write),
        "findings": list(found.findings),
        "reason": found.reason,
        "hint": found.hint,
        "created_at": render.instant(found.created_at),
        "deadline_at": render.instant(found.deadline_at),
        "ended_at": render.instant(found.ended_at),
    }
