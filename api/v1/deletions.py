"""/api/v1/deletions: what went at a source and is to go at a destination; approved, or undone in time."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api import changes, render
from api.bodies import query, refuse_body, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import NoBodySchema
from api.schemas.deletion import DeletionPageSchema, DeletionSchema, DeletionTagPageSchema
from api.v1.shared import actor, answer, is_own
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.rule_check import suggest
from service.store.deletion_values import STATES, Deletion, DeletionTag

blueprint = Blueprint("deletions", __name__, url_prefix="/api/v1/deletions")


@blueprint.get("")
@operation(
    "List deletions, the newest first",
    role="viewer",
    results={200: ("one page", DeletionPageSchema)},
    query={"rule": "only those of this rule", "state": "only those in this state"},
    paged=True,
)
def list_deletions() -> Response:
    """Answer one page."""
    return page(
        "deletions",
        lambda after, limit, given: services().deletions.list(
            rule=single(given, "rule"),
            state=_state(single(given, "state")),
            project=actor().project,
            after=after,
            limit=limit,
        ),
        lambda found: found.id,
        show,
        grammar=r"[0-9a-f]{24}",
        filters=("rule", "state"),
    )


@blueprint.get("/<identity>")
@operation("Show a deletion", role="viewer", results={200: ("the deletion", DeletionSchema)})
def show_deletion(identity: str) -> Response:
    """Answer one deletion."""
    query(())
    return answer(show(find(identity)))


@blueprint.get("/<identity>/tags")
@operation(
    "List the tags of a deletion, and what became of each",
    role="viewer",
    results={200: ("one page", DeletionTagPageSchema)},
    paged=True,
)
def list_deletion_tags(identity: str) -> Response:
    """Answer one page."""
    found = find(identity)
    return page(
        f"deletions/{found.id}",
        lambda after, limit, _: services().deletions.tags(found.id, after=after or "", limit=limit),
        _name,
        show_tag,
        grammar=r"[a-z0-9._/-]{1,255}:[\w][\w.-]{0,127}",
    )


@blueprint.post("/<identity>/approve")
@operation(
    "Approve a deletion that waits; its grace period begins",
    role="admin",
    body=NoBodySchema,
    results={200: ("the deletion", DeletionSchema)},
)
def approve_deletion(identity: str) -> Response:
    """Let it go on."""
    refuse_body()
    found = find(identity)
    changes.note(name=found.id, project=found.project, before=show(found))
    return answer(show(services().deletions.approve(found.id, by=actor().name)))


@blueprint.post("/<identity>/cancel")
@operation(
    "Undo a deletion: what is not deleted yet is kept, now and later",
    role="operator",
    body=NoBodySchema,
    results={200: ("the deletion", DeletionSchema)},
)
def cancel_deletion(identity: str) -> Response:
    """Keep what is left of it."""
    refuse_body()
    found = find(identity)
    changes.note(name=found.id, project=found.project, before=show(found))
    return answer(show(services().deletions.cancel(found.id, by=actor().name)))


def find(identity: str) -> Deletion:
    """Return a deletion that the caller may see. Raises NotFoundInStore."""
    found = services().deletions.get(identity)
    if not is_own(found.project):
        raise NotFoundInStore(f"there is no deletion {identity}")
    return found


def show(found: Deletion) -> dict[str, Any]:
    """Return a deletion as JSON."""
    return {
        "id": found.id,
        "rule": found.rule,
        "project": found.project,
        "execution": found.execution,
        "registry": found.registry,
        "state": found.state,
        "tags": found.tags,
        "of_tags": found.of_tags,
        "reason": found.reason,
        "due_at": render.instant(found.due_at),
        "decided_by": found.decided_by or None,
        "decided_at": render.instant(found.decided_at),
        "created_at": render.instant(found.created_at),
        "finished_at": render.instant(found.finished_at),
    }


def show_tag(item: DeletionTag) -> dict[str, Any]:
    """Return a tag of a deletion as JSON."""
    tag = item.written
    return {
        "source": f"{tag.source_registry}/{tag.source_repository}:{tag.source_reference}",
        "tag": _name(item),
        "digest": tag.digest,
        "state": item.state,
        "class": item.failure_class,
        "reason": item.reason,
        "hint": item.hint,
    }


def _name(item: DeletionTag) -> str:
    return f"{item.written.repository}:{item.written.tag}"


def _state(given: str | None) -> str | None:
    if given is not None and given not in STATES:
        raise InvalidFields(
            (FieldProblem("state", f"{given[:40]!r} is no state", suggest(given, STATES)),)
        )
    return given
