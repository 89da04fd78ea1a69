"""What the resources need: who asks, what that caller may see, how answers look."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from flask import Response, g, json, request

from api import changes
from api.bodies import query, single
from api.context import context, services
from api.schemas.common import READ_ONLY
from api.versions import etag
from service import tracing
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.borders import Borders
from service.model.endpoint import RegistryEndpoint
from service.model.project import Project
from service.model.rule_check import suggest
from service.model.states import ExecutionState
from service.replication import executions
from service.store.executions import LISTED, ExecutionRecord
from service.store.registries import StoredRegistry
from service.store.rules import StoredRule
from service.store.tokens import TokenRecord
from service.telemetry import get_logger

T = TypeVar("T")
_PAGE = 500

log = get_logger("api")
NAME = r"[a-z0-9][a-z0-9._-]{0,62}"


def named(document: Any, name: str) -> Any:
    """Return the document with the path's name in it.

    Raises InvalidFields for a body that names another object, or writes what is read only.
    """
    if not isinstance(document, dict):
        return document
    wrong = [
        FieldProblem(key, "is read only", "leave it out") for key in READ_ONLY if key in document
    ]
    if wrong:
        raise InvalidFields(tuple(wrong))
    if document.get("name", name) != name:
        problem = FieldProblem("name", f"differs from {name!r} in the path", "leave it out")
        raise InvalidFields((problem,))
    return {**document, "name": name}


def actor() -> TokenRecord:
    """Return whose token the request bears."""
    found: TokenRecord = g.actor
    return found


def is_own(project: str | None) -> bool:
    """Whether the caller sees what belongs to a project; None is the platform's own."""
    scope = actor().project
    return scope is None or scope == project


def scoped_project() -> Project | None:
    """Return what the caller's project may do; None for a caller of the whole platform."""
    scope = actor().project
    return None if scope is None else services().projects.access(scope)


def sees_registry(name: str) -> bool:
    """Whether the caller may know of a registry: a project knows those that it names."""
    scope = scoped_project()
    return scope is None or scope.knows(name)


def find_rule(name: str) -> StoredRule:
    """Return a rule that the caller may see. Raises NotFoundInStore, whatever the reason."""
    try:
        stored = services().rules.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not is_own(stored.rule.project):
        raise missing("rule", name, (one.rule.name for one in all_rules() if _own_rule(one)))
    changes.note(name=name, project=stored.rule.project, before=stored.document)
    return stored


def _own_rule(stored: StoredRule) -> bool:
    return is_own(stored.rule.project)


def find_registry(name: str) -> StoredRegistry:
    """Return a registry that the caller may see. Raises NotFoundInStore."""
    try:
        stored = services().registries.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not sees_registry(name):
        raise missing("registry", name, (one for one in endpoints() if sees_registry(one)))
    changes.note(before=stored.document)
    return stored


def find_execution(identity: str) -> ExecutionRecord:
    """Return an execution that the caller may see. Raises NotFoundInStore."""
    record = services().executions.get(identity)
    if not is_own(record.project):
        raise NotFoundInStore(f"there is no execution {identity}", hint=LISTED)
    changes.note(project=record.project)
    return record


def missing(kind: str, name: str, known: Iterable[str]) -> NotFoundInStore:
    """Return the error for a name that is not there, with the one that was probably meant."""
    hint = suggest(name, list(known)) or f"there is no {kind} yet that this token sees"
    return NotFoundInStore(f"there is no {kind} named {name}", hint=hint)


def keep(
    fetch: Callable[[str | None, int], Sequence[T]],
    key: Callable[[T], str],
    wanted: Callable[[T], bool],
    after: str | None,
    limit: int,
) -> list[T]:
    """Return up to `limit` items that the caller is to see, reading on as far as that takes."""
    found: list[T] = []
    while len(found) < limit:
        page = fetch(after, max(limit, _PAGE))
        found += [item for item in page if wanted(item)]
        if len(page) < max(limit, _PAGE):
            break
        after = key(page[-1])
    return found[:limit]


def set_parameter() -> str | None:
    """Return ?set=, the set that the object is to belong to; other parameters are refused."""
    name = single(query(("set",)), "set")
    if name is not None and not re.fullmatch(NAME, name):
        raise InvalidFields((FieldProblem("set", f"{name[:80]!r} is not a name"),))
    return name


def borders() -> Borders:
    """Return the borders that the declared regions draw.

    Rules are held to them when they are saved. A registry or region may be changed so that a rule reaches
    across a border: apply changes one after the other. Then its executions fail, and nothing crosses.
    """
    return Borders(services().regions.jurisdictions())


def endpoints() -> dict[str, RegistryEndpoint]:
    """Return all registries by name."""
    found: dict[str, RegistryEndpoint] = {}
    after: str | None = None
    while page := services().registries.list(after, _PAGE):
        found.update((stored.endpoint.name, stored.endpoint) for stored in page)
        after = page[-1].endpoint.name
    return found


def all_rules() -> Iterator[StoredRule]:
    """Yield every rule."""
    after: str | None = None
    while page := services().rules.list(after, _PAGE):
        yield from page
        after = page[-1].rule.name


def answer(
    document: Any, status: int = 200, *, version: int | None = None, **headers: str
) -> Response:
    """Return a JSON answer, with its ETag when it has a version."""
    response = Response(f"{json.dumps(document)}\n", status=status, mimetype="application/json")
    if version is not None:
        response.headers["ETag"] = etag(version)
    for name, value in headers.items():
        response.headers[name] = value
    return response


def announce(record: ExecutionRecord) -> None:
    """Tell the queue of a new execution; losing this costs only the scheduler's next look."""
    tracing.told(
        f"{request.method} {request.url_rule}",
        record.id,
        record.created_at,
        time.time(),
        **{"transship.rule": record.rule, "transship.token": actor().name},
    )
    publisher = context().publisher
    if publisher is None or record.state is not ExecutionState.PENDING:
        return
    try:
        executions.send_now(publisher, record)
    except Exception as error:  # noqa: BLE001 - Redis may be away: the row is what counts
        log.warning("announcement_lost", execution=record.id, error=type(error).__name__)


def in_own_project(document: Any, kind: str) -> Any:
    """Put what a project's token writes into that project; `kind`, in the plural, is for the error.

    Raises InvalidFields for a document that names another project.
    """
    scope = actor().project
    if scope is None or not isinstance(document, dict):
        return document
    if document.get("project", scope) != scope:
        problem = FieldProblem(
            "project", f"this token writes {kind} of {scope} only", "leave it out"
        )
        raise InvalidFields((problem,))
    return {**document, "project": scope}
