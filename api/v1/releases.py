"""/api/v1/releases: sets of images whose tags move together at all destinations of a rule."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api import changes, render
from api.bodies import query, read_json, refuse_body, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import NoBodySchema
from api.schemas.common import load
from api.schemas.release import (
    ReleaseInputSchema,
    ReleasePageSchema,
    ReleaseSchema,
    ReleaseTagPageSchema,
    RollbackSchema,
)
from api.v1.rules import check
from api.v1.shared import NAME, actor, answer, find_rule, is_own
from service.errors import NotFoundInStore
from service.model.release import FLIP, ROLLBACK, STAGE, ReleaseTag, check_releasable, parse_image
from service.model.rule import SyncRule
from service.store.releases import Release

blueprint = Blueprint("releases", __name__, url_prefix="/api/v1/releases")


@blueprint.get("")
@operation(
    "List releases by name",
    role="viewer",
    results={200: ("one page", ReleasePageSchema)},
    query={"rule": "only releases of this rule"},
    paged=True,
)
def list_releases() -> Response:
    """Answer one page."""

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[Release]:
        return services().releases.list(
            project=actor().project, rule=single(given, "rule"), after=after, limit=limit
        )

    return page("releases", fetch, _name, show, grammar=NAME, filters=("rule",))


@blueprint.post("")
@operation(
    "Make a release: its images are copied to all destinations of the rule by digest, and proved there; "
    "no tag moves, and its tags are moved by nothing else until it is deleted",
    role="operator",
    body=ReleaseInputSchema,
    results={202: ("the release", ReleaseSchema)},
)
def create_release() -> Response:
    """Save a release; workers bring it forward."""
    query(())
    wanted = load(ReleaseInputSchema(), read_json())
    rule = find_rule(wanted["rule"]).rule
    check_releasable(rule)
    check(rule)
    changes.note(name=wanted["name"], project=rule.project, before={}, after=wanted)
    images = [parse_image(text) for text in wanted.get("images", ())]
    made = services().releases.create(wanted["name"], rule, images, region=_region(rule))
    return answer(show(made), 202, Location=f"/api/v1/releases/{made.name}")


@blueprint.get("/<name>")
@operation("Show a release", role="viewer", results={200: ("the release", ReleaseSchema)})
def show_release(name: str) -> Response:
    """Answer one release."""
    query(())
    return answer(show(_find(name)))


@blueprint.get("/<name>/tags")
@operation(
    "List what a release has at each destination, with what each tag was before",
    role="viewer",
    results={200: ("one page", ReleaseTagPageSchema)},
    paged=True,
)
def list_release_tags(name: str) -> Response:
    """Answer one page."""
    found = _find(name)
    return page(
        f"releases/{found.name}",
        lambda after, limit, _: services().releases.tags(
            found.name, after=int(after or 0), limit=limit
        ),
        lambda tag: str(tag.id),
        show_tag,
        grammar=r"[0-9]{1,18}",
    )


@blueprint.delete("/<name>")
@operation(
    "Forget a release that moves no tags now; its rule moves them again",
    role="operator",
    results={204: ("forgotten", None)},
)
def delete_release(name: str) -> Response:
    """Forget one release."""
    query(())
    _find(name)
    services().releases.delete(name)
    return Response(status=204)


@blueprint.post("/<name>/stage")
@operation(
    "Copy and prove the images of a release again, after that has failed",
    role="operator",
    body=NoBodySchema,
    results={202: ("the release", ReleaseSchema)},
)
def stage_release(name: str) -> Response:
    """Begin anew, with the digests that are known."""
    return _act(name, STAGE)


@blueprint.post("/<name>/flip")
@operation(
    "Move all tags of a staged release in one pass; when one cannot be moved, all are set back",
    role="operator",
    body=NoBodySchema,
    results={202: ("the release", ReleaseSchema)},
)
def flip_release(name: str) -> Response:
    """Begin to flip."""
    return _act(name, FLIP)


@blueprint.post("/<name>/rollback")
@operation(
    "Give all tags of a flipped release the digests that they had before, if all are still there",
    role="operator",
    body=RollbackSchema,
    results={202: ("the release", ReleaseSchema)},
)
def roll_release_back(name: str) -> Response:
    """Begin to roll back."""
    query(())
    wish = load(RollbackSchema(), read_json(optional=True))
    return _begin(name, ROLLBACK, force=wish["force"])


def _act(name: str, action: str) -> Response:
    refuse_body()
    query(())
    return _begin(name, action)


def _begin(name: str, action: str, *, force: bool = False) -> Response:
    found = _find(name)
    if action != ROLLBACK:  # what was before is put back even where the rule may no longer write
        check(found.rule)
    return answer(
        show(services().releases.act(name, action, region=_region(found.rule), force=force)),
        202,
        Location=f"/api/v1/releases/{name}",
    )


def _region(rule: SyncRule) -> str:
    if services().settings.one_machine:
        return services().settings.region
    return services().registries.get(rule.source).endpoint.region


def _find(name: str) -> Release:
    """Return a release that the caller may see. Raises NotFoundInStore."""
    try:
        found = services().releases.get(name)
    except NotFoundInStore:
        found = None
    if found is None or not is_own(found.rule.project):
        raise NotFoundInStore(f"there is no release named {name}", hint="transship release list")
    changes.note(project=found.rule.project, before={"state": found.state.value})
    return found


def _name(found: Release) -> str:
    return found.name


def show(found: Release) -> dict[str, Any]:
    """Return a release as JSON."""
    return {
        "schema": 1,
        "name": found.name,
        "rule": found.rule.name,
        "project": found.rule.project,
        "state": found.state.value,
        "reason": found.reason,
        "images": len(found.images),
        "tags": services().releases.counts([found.name]).get(found.name, {}),
        "execution": found.execution or None,
        "window_seconds": None if found.window_seconds is None else round(found.window_seconds, 3),
        "created_at": render.instant(found.created_at),
        "changed_at": render.instant(found.changed_at),
    }


def show_tag(tag: ReleaseTag) -> dict[str, Any]:
    """Return one image at one destination as JSON."""
    return {
        "registry": tag.registry,
        "region": tag.region,
        "repository": tag.repository,
        "tag": tag.tag or None,
        "digest": tag.digest,
        "previous": tag.previous,
        "state": tag.state.value,
        "reason": tag.reason,
        "flipped_at": render.instant(tag.flipped_at),
    }
