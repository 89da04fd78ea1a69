"""/api/v1/images/{repository}/{reference}/locations: where one image is, and why not elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from api.bodies import query, single
from api.context import services
from api.operations import operation
from api.schemas.locations import LocationsSchema
from api.v1.shared import answer, endpoints, missing, scoped_project, sees_registry
from service.errors import FieldProblem, InvalidFields, InvalidInput
from service.model.digest import Digest
from service.model.reference import validate_repository, validate_tag
from service.model.selection import is_digest, members_of_groups
from service.replication.locate import Location

blueprint = Blueprint("images", __name__, url_prefix="/api/v1/images")
MAX_PROVED = 50
"""Registries that one request may have asked."""


@blueprint.get("/<path:repository>/<reference>/locations")
@operation(
    "Say where an image is: one row a registry, from what is known or by asking",
    role="viewer",
    results={200: ("the rows", LocationsSchema)},
    query={
        "source": "the registry that the reference is of; else every rule's that takes it",
        "digest": "what has to be there; else what the source has, or was last seen with",
        "in": "a registry, or a group, to look at; may be repeated; else all",
        "prove": "true: ask the registries, down to a byte of every blob",
    },
)
def locations(repository: str, reference: str) -> Response:
    """Answer one row a registry, by name."""
    given = query(("source", "digest", "in", "prove"))
    _check(repository, reference)
    digest = _digest(single(given, "digest"))
    prove = _flag(single(given, "prove"))
    source = single(given, "source")
    only = _registries(given.get("in", []))
    if source is not None and not sees_registry(source):
        raise missing("registry", source, (one for one in endpoints() if sees_registry(one)))
    visible = only or [name for name in endpoints() if sees_registry(name)]
    if prove and len(visible) > MAX_PROVED:
        problem = FieldProblem(
            "in", f"at most {MAX_PROVED} registries are asked at once", "name some by ?in="
        )
        raise InvalidFields((problem,))
    rows = services().locator.locate(
        repository,
        reference,
        source=source,
        digest=digest,
        prove=prove,
        only=visible,
        project=scoped_project(),
    )
    return answer(
        {
            "schema": 1,
            "repository": repository,
            "reference": reference,
            "locations": [show(row) for row in rows],
        }
    )


def show(row: Location) -> dict[str, Any]:
    """Return one row as JSON."""
    return {
        "registry": row.registry,
        "state": row.state.value,
        "why": row.why,
        "repository": row.repository or None,
        "reference": row.reference or None,
        "digest": row.digest or None,
        "rule": row.rule or None,
        "proved": row.proved,
    }


def _check(repository: str, reference: str) -> None:
    try:
        validate_repository(repository)
    except InvalidInput as error:
        raise InvalidFields((FieldProblem("repository", error.message, error.hint),)) from error
    if is_digest(reference):
        return
    try:
        validate_tag(reference)
    except InvalidInput as error:
        raise InvalidFields((FieldProblem("reference", error.message, error.hint),)) from error


def _digest(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return str(Digest.parse(text))
    except InvalidInput as error:
        raise InvalidFields((FieldProblem("digest", error.message, error.hint),)) from error


def _flag(text: str | None) -> bool:
    if text not in (None, "true", "false"):
        raise InvalidFields((FieldProblem("prove", f"{text[:40]!r} is neither true nor false"),))
    return text == "true"


def _registries(names: Sequence[str]) -> list[str]:
    """Return the registries that names of registries and groups mean, each once."""
    known = {name: one for name, one in endpoints().items() if sees_registry(name)}
    members = members_of_groups(known.values())
    found: dict[str, None] = {}
    for name in names:
        if name in known:
            found[name] = None
        elif name in members:
            found.update(dict.fromkeys(members[name]))
        else:
            raise missing("registry or group", name, [*known, *members])
    return list(found)
