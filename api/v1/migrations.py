"""/api/v1/migrations: a fleet moves from one registry to another one in waves, and the move is proved."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from api import changes
from api.bodies import query, read_json, refuse_body, single
from api.context import services
from api.migrations_shown import show
from api.operations import operation
from api.pagination import page
from api.schemas.answers import NoBodySchema
from api.schemas.migration import (
    MigrationBeforePageSchema,
    MigrationFindingPageSchema,
    MigrationInputSchema,
    MigrationPageSchema,
    MigrationRepositoryPageSchema,
    MigrationSchema,
    load_migration,
)
from api.v1.rules import check
from api.v1.shared import NAME, actor, answer, endpoints, in_own_project, is_own, missing, named
from api.versions import expected_version
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.migration import FREEZE, INVENTORY, PROOF, SURVEYS, Migration
from service.model.rule import Destination, Selection, SyncRule
from service.model.rule_check import suggest
from service.store.migration_values import StoredMigration
from service.store.survey_values import Finding, SeenRepository, Survey

blueprint = Blueprint("migrations", __name__, url_prefix="/api/v1/migrations")

_PLACE = r"[^\x00-\x1f]{1,600}"
_BETWEEN = "|"


@blueprint.get("")
@operation(
    "List migrations by name",
    role="viewer",
    results={200: ("one page", MigrationPageSchema)},
    paged=True,
)
def list_migrations() -> Response:
    """Answer one page."""
    return page(
        "migrations",
        lambda after, limit, _: services().migrations.list(
            project=actor().project, after=after, limit=limit
        ),
        lambda stored: stored.migration.name,
        show,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a migration", role="viewer", results={200: ("the migration", MigrationSchema)})
def show_migration(name: str) -> Response:
    """Answer one migration."""
    query(())
    return _shown(find(name))


@blueprint.put("/<name>")
@operation(
    "Create or replace a migration; once a wave was started, what it says stays",
    role="operator",
    body=MigrationInputSchema,
    results={200: ("replaced", MigrationSchema), 201: ("created", MigrationSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
)
def put_migration(name: str) -> Response:
    """Save a migration whose registries are there, and whose project may do what it names."""
    query(())
    document = in_own_project(named(read_json(), name), "migrations")
    migration = load_migration(document)
    current = _current(name)
    expected = expected_version(current.version if current else None)
    _check(migration)
    changes.note(
        action="replace" if current else "create",
        project=migration.project,
        before=current.document if current else None,
        after=document,
    )
    stored = services().migrations.put(migration, document=document, expected_version=expected)
    if current is not None:
        return _shown(stored)
    return _shown(stored, 201, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a migration and its rules; what it wrote stays, and its executions",
    role="operator",
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_migration(name: str) -> Response:
    """Forget one migration."""
    expected_version(find(name).version)
    services().migrations.delete(name)
    return Response(status=204)


# ---- steps ---------------------------------------------------------------------------------------


@blueprint.post("/<name>/inventory")
@operation(
    "Have the scheduler look at what there is: repositories, tags, bytes; one that is under way goes on",
    role="operator",
    body=NoBodySchema,
    results={202: ("the migration", MigrationSchema)},
)
def take_inventory(name: str) -> Response:
    """Begin an inventory."""
    return _look(name, INVENTORY)


@blueprint.post("/<name>/freeze")
@operation(
    "Have the scheduler note what every tag of the source names now: this is what is proved in the end",
    role="operator",
    body=NoBodySchema,
    results={202: ("the migration", MigrationSchema)},
)
def freeze_migration(name: str) -> Response:
    """Begin a freeze check."""
    return _look(name, FREEZE)


@blueprint.post("/<name>/prove")
@operation(
    "Have the scheduler prove the cut-over: every frozen tag by its final name, a byte of each of its blobs, what "
    "is attached to it, and the source as it was frozen",
    role="operator",
    body=NoBodySchema,
    results={202: ("the migration", MigrationSchema)},
)
def prove_migration(name: str) -> Response:
    """Begin a cut-over proof."""
    return _look(name, PROOF)


@blueprint.post("/<name>/delta")
@operation(
    "Run every wave once more after the freeze",
    role="operator",
    body=NoBodySchema,
    results={202: ("the migration", MigrationSchema)},
)
def run_delta(name: str) -> Response:
    """Begin the final delta."""
    stored = _step(name)
    services().migration_steps.delta(name)
    return _accepted(stored)


@blueprint.post("/<name>/waves/<wave>/start")
@operation(
    "Start a wave, or start it again; the waves before it have to have ended",
    role="operator",
    body=NoBodySchema,
    results={202: ("the migration", MigrationSchema)},
)
def start_wave(name: str, wave: str) -> Response:
    """Begin a wave."""
    stored = _step(name)
    changes.note(after={"wave": wave})
    services().migration_steps.start(name, wave)
    return _accepted(stored)


@blueprint.post("/<name>/pause")
@operation(
    "Pause a migration: within five seconds it sends no request to either registry",
    role="operator",
    body=NoBodySchema,
    results={200: ("the migration", MigrationSchema)},
)
def pause_migration(name: str) -> Response:
    """Pause one migration; again changes nothing."""
    refuse_body()
    query(())
    find(name)
    services().migrations.pause(name)
    return _shown(find(name))


@blueprint.post("/<name>/resume")
@operation(
    "Go on with a migration where it stood",
    role="operator",
    body=NoBodySchema,
    results={200: ("the migration", MigrationSchema)},
)
def resume_migration(name: str) -> Response:
    """Resume one migration; again changes nothing."""
    refuse_body()
    query(())
    find(name)
    services().migrations.resume(name)
    return _shown(find(name))


# ---- what was found ------------------------------------------------------------------------------


@blueprint.get("/<name>/repositories")
@operation(
    "List the repositories of the newest inventory, with the wave of each",
    role="viewer",
    results={200: ("one page", MigrationRepositoryPageSchema)},
    paged=True,
)
def list_repositories(name: str) -> Response:
    """Answer one page; an empty one before there is an inventory."""
    stored = find(name)
    survey = services().migration_surveys.latest(name).get(INVENTORY)
    waves = {n: wave.name for n, wave in enumerate(stored.migration.waves)}

    def fetch(after: str | None, limit: int, _: Any) -> list[SeenRepository]:
        if survey is None:
            return []
        return services().migration_surveys.repositories(survey.id, after=after or "", limit=limit)

    return page(
        f"migrations/{name}/repositories",
        fetch,
        lambda one: one.repository,
        lambda one: {
            "repository": one.repository,
            "wave": waves.get(one.wave),
            "tags": one.tags,
            "bytes": one.bytes,
            "unique_bytes": one.unique_bytes,
        },
        grammar=_PLACE,
    )


@blueprint.get("/<name>/findings")
@operation(
    "List what an inventory, a freeze or a proof has found wrong",
    role="viewer",
    results={200: ("one page", MigrationFindingPageSchema)},
    query={"of": f"one of {', '.join(SURVEYS)}; the newest of them when it is left out"},
    paged=True,
)
def list_findings(name: str) -> Response:
    """Answer one page."""
    find(name)
    latest = services().migration_surveys.latest(name)

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[Finding]:
        survey = _chosen(latest, single(given, "of"))
        if survey is None:
            return []
        first, second, third = after.split(_BETWEEN) if after else ("", "", "")
        return list(
            services().migration_surveys.findings(
                survey.id, after=(first, second, third), limit=limit
            )
        )

    return page(
        f"migrations/{name}/findings",
        fetch,
        lambda one: _BETWEEN.join((one.repository, one.tag, one.kind)),
        lambda one: {
            "kind": one.kind,
            "repository": one.repository,
            "tag": one.tag or None,
            "destination": one.destination or None,
            "wanted": one.wanted or None,
            "found": one.found or None,
            "reason": one.reason,
        },
        grammar=_PLACE,
        filters=("of",),
    )


@blueprint.get("/<name>/rollback")
@operation(
    "List what stood under each name at the destination before the migration wrote there",
    role="viewer",
    results={200: ("one page", MigrationBeforePageSchema)},
    paged=True,
)
def list_rollback(name: str) -> Response:
    """Answer one page; what an execution has written is in it when that has ended."""
    stored = find(name)

    def fetch(after: str | None, limit: int, _: Any) -> list[Any]:
        first, second = after.split(_BETWEEN) if after else ("", "")
        return list(services().migrations.before(stored, after=(first, second), limit=limit))

    return page(
        f"migrations/{name}/rollback",
        fetch,
        lambda one: _BETWEEN.join((one.repository, one.tag)),
        lambda one: {
            "repository": one.repository,
            "tag": one.tag,
            "before": one.digest or None,
            "written": one.written,
        },
        grammar=_PLACE,
    )


# ---- parts ---------------------------------------------------------------------------------------


def _look(name: str, kind: str) -> Response:
    stored = _step(name)
    services().migration_steps.survey(name, kind)
    return _accepted(stored)


def _step(name: str) -> StoredMigration:
    """Return the migration of which something is asked, if its project may still do what it names."""
    refuse_body()
    query(())
    stored = find(name)
    _check(stored.migration)
    return stored


def _accepted(stored: StoredMigration) -> Response:
    name = stored.migration.name
    return answer(show(services().migrations.get(name)), 202, Location=f"/api/v1/migrations/{name}")


def _shown(stored: StoredMigration, status: int = 200, **headers: str) -> Response:
    return answer(show(stored), status, version=stored.version, **headers)


def _chosen(latest: dict[str, Survey], kind: str | None) -> Survey | None:
    if kind is None:
        return max(latest.values(), key=lambda one: one.id, default=None)
    if kind not in SURVEYS:
        problem = FieldProblem("of", f"{kind[:40]!r} is not one of {', '.join(SURVEYS)}")
        raise InvalidFields((problem,))
    return latest.get(kind)


def find(name: str) -> StoredMigration:
    """Return a migration that the caller may see. Raises NotFoundInStore."""
    try:
        stored = services().migrations.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not is_own(stored.migration.project):
        known = services().migrations.list(project=actor().project, limit=1000)
        raise missing("migration", name, (one.migration.name for one in known))
    changes.note(name=name, project=stored.migration.project, before=stored.document)
    return stored


def _current(name: str) -> StoredMigration | None:
    """Return the migration that stands under a name; one of another project is not there to the caller."""
    try:
        stored = services().migrations.get(name)
    except NotFoundInStore:
        return None
    if not is_own(stored.migration.project):
        raise NotFoundInStore(f"there is no migration named {name}", hint="choose another name")
    return stored


def _check(migration: Migration) -> None:
    """Refuse what a rule of the same names would be refused for, and a final registry that is not there."""
    known = endpoints()
    if migration.at not in known and migration.final is not None:
        problem = FieldProblem(
            "final", f"there is no registry {migration.at!r}", suggest(migration.at, known)
        )
        raise InvalidFields((problem,))
    if migration.destination not in known:
        problem = FieldProblem(
            "destination",
            f"there is no registry {migration.destination!r}",
            suggest(migration.destination, known),
        )
        raise InvalidFields((problem,))
    templates: list[str | None] = [one.to for one in migration.namespaces]
    select = [
        Selection(one.repositories, one.tags, one.types, one.platforms, one.to_repository or to)
        for one in migration.select
        for to in templates or [None]
    ]
    check(
        SyncRule(
            migration.name,
            migration.source,
            tuple(select),
            (Destination(registry=migration.destination),),
            project=migration.project,
        )
    )
