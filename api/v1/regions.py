"""/api/v1/regions: where workers run and registries stand, and what waits for whom.

A region that nobody has declared and that a registry names, or a worker serves, is listed, too: its
queues and slots are as real as those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import query, read_json
from api.context import context, services
from api.operations import operation
from api.pagination import page
from api.schemas.region import RegionSchema, effective_region, load_region
from api.schemas.region_answers import RegionAnswerSchema, RegionPageSchema
from api.v1.shared import (
    NAME,
    answer,
    endpoints,
    missing,
    named,
    scoped_project,
    set_parameter,
)
from api.versions import expected_version
from service.errors import NotFoundInStore
from service.model.region import Region
from service.store.redis_errors import is_redis_error
from service.store.region_load import RegionLoad
from service.store.regions import StoredRegion
from service.telemetry import get_logger

blueprint = Blueprint("regions", __name__, url_prefix="/api/v1/regions")
log = get_logger("api")

QUEUES = ("urgent", "commit", "copy")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A region with what is known of it at this moment."""

    name: str
    stored: StoredRegion | None
    load: RegionLoad
    depths: Mapping[str, int]


@blueprint.get("")
@operation(
    "List regions by name, with their live workers and what waits for them; `declared` is false for "
    "those that registries or workers merely name",
    role="viewer",
    results={200: ("one page", RegionPageSchema)},
    paged=True,
)
def list_regions() -> Response:
    """Answer one page."""
    return page("regions", lambda after, limit, _: _some(after, limit), _name, _shown, grammar=NAME)


def _name(seen: _Seen) -> str:
    return seen.name


@blueprint.get("/<name>")
@operation(
    "Show a region, its live workers and what waits for them",
    role="viewer",
    results={200: ("the region", RegionAnswerSchema)},
)
def show_region(name: str) -> Response:
    """Answer one region."""
    query(())
    stored = _stored(name)
    if stored is None and name not in _in_use():
        raise _missing(name)
    (seen,) = _looked_at([(name, stored)])
    return answer(_shown(seen), version=stored.version if stored else 0)


@blueprint.put("/<name>")
@operation(
    "Create or replace a region",
    role="admin",
    platform=True,
    body=RegionSchema,
    results={200: ("replaced", RegionAnswerSchema), 201: ("created", RegionAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the region belongs to from now on"},
)
def put_region(name: str) -> Response:
    """Save a region."""
    owner = set_parameter()
    document = named(read_json(), name)
    region = load_region(document)
    current = _stored(name)
    expected = expected_version(current.version if current else None)
    changes.note(
        action="replace" if current else "create",
        before=current.document if current else None,
        after=document,
    )
    stored = services().regions.put(
        region, document=document, expected_version=expected, set_name=owner
    )
    (seen,) = _looked_at([(name, stored)])
    body = _shown(seen)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a region that no registry and no link names",
    role="admin",
    platform=True,
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_region(name: str) -> Response:
    """Forget one region."""
    current = _stored(name)
    if current is None:
        raise _missing(name)
    expected_version(current.version)
    changes.note(before=current.document)
    services().regions.delete(name)
    return Response(status=204)


def _stored(name: str) -> StoredRegion | None:
    try:
        return services().regions.get(name)
    except NotFoundInStore:
        return None


def _missing(name: str) -> NotFoundInStore:
    return missing("region", name, services().regions.jurisdictions())


def _in_use() -> set[str]:
    """Return the regions that workers serve, and that registries stand in which the caller may know of."""
    scope = scoped_project()
    standing = {
        endpoint.region
        for name, endpoint in endpoints().items()
        if scope is None or scope.knows(name)
    }
    return standing | services().region_load.workers().keys()


def _some(after: str | None, limit: int) -> list[_Seen]:
    """Return regions from the first one after `after`, declared or in use."""
    found: dict[str, StoredRegion | None] = {
        stored.region.name: stored for stored in services().regions.list(after, limit)
    }
    for name in _in_use() - services().regions.jurisdictions().keys():
        if after is None or name > after:
            found.setdefault(name, None)
    return _looked_at(sorted(found.items(), key=lambda item: item[0])[:limit])


def _looked_at(some: Sequence[tuple[str, StoredRegion | None]]) -> list[_Seen]:
    loads = services().region_load.load([name for name, _ in some])
    depths = _depths([name for name, _ in some])
    return [_Seen(name, stored, loads[name], depths.get(name, {})) for name, stored in some]


def _depths(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the depths of queues; nothing where Redis does not answer."""
    publisher = context().publisher
    if publisher is None:
        return {}
    try:
        return {name: publisher.depths(name) for name in names}
    except Exception as error:
        if not (isinstance(error, OSError) or is_redis_error(error)):
            raise
        log.warning("queue_unavailable", error=type(error).__name__)
        return {}


def _shown(seen: _Seen) -> dict[str, Any]:
    stored = seen.stored
    region = stored.region if stored else Region(seen.name)
    written = dict(stored.document) if stored else {"name": seen.name}
    effective = effective_region(region)
    load = seen.load
    settings = services().settings
    return {
        **written,
        "effective": effective,
        "declared": stored is not None,
        "set": stored.set if stored else None,
        "version": stored.version if stored else 0,
        "created_at": render.instant(stored.created_at if stored else None),
        "updated_at": render.instant(stored.updated_at if stored else None),
        "workers": {"processes": load.processes, "slots": load.slots},
        "served_by": settings.region if settings.one_machine else seen.name,
        "queue": {
            **{name: {"depth": seen.depths.get(name)} for name in QUEUES},
            "waiting": load.waiting,
            "oldest_seconds": None
            if load.oldest_seconds is None
            else round(load.oldest_seconds, 1),
        },
    }
