"""/api/v1/replicas: registries that keep the whole instance of a primary; drift, promotion, return."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api import changes
from api.bodies import query, read_json, refuse_body, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.render import instant
from api.schemas.answers import NoBodySchema
from api.schemas.common import load
from api.schemas.replica import (
    DriftPageSchema,
    PromoteSchema,
    PromotionSchema,
    ReplicaPageSchema,
    ReplicaSchema,
)
from api.v1.rules import check
from api.v1.shared import all_rules, answer, endpoints, find_rule, is_own
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.replica import KINDS, OPEN, REPAIRED, Drift, Missing
from service.model.replica_takeover import promoted, promoted_document
from service.model.rule import REPLICATE, SyncRule
from service.model.rule_check import suggest
from service.model.selection import followers, members_of_groups
from service.replication.replica_status import ReplicaStatus
from service.store.rules import StoredRule

blueprint = Blueprint("replicas", __name__, url_prefix="/api/v1/replicas")
_KEY = r"[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}"
_DRIFT = r"[a-z0-9._/-]{1,255}:([\w][\w.-]{0,127})?"


@blueprint.get("")
@operation(
    "List replicas by rule and registry",
    role="viewer",
    results={200: ("one page", ReplicaPageSchema)},
    query={"rule": "only those of this rule"},
    paged=True,
)
def list_replicas() -> Response:
    """Answer one page."""

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[ReplicaStatus]:
        wanted = single(given, "rule")
        found: list[ReplicaStatus] = []
        for stored in all_rules():
            rule = stored.rule
            if (
                rule.mode != REPLICATE
                or not is_own(rule.project)
                or wanted not in (None, rule.name)
            ):
                continue
            if after is not None and rule.name < after.partition("/")[0]:
                continue
            found += [one for one in _of(rule) if after is None or _key(one) > after]
            if len(found) >= limit:
                break
        return found[:limit]

    return page("replicas", fetch, _key, _show, grammar=_KEY, filters=("rule",))


@blueprint.get("/<name>/<registry>")
@operation("Show a replica", role="viewer", results={200: ("the replica", ReplicaSchema)})
def show_replica(name: str, registry: str) -> Response:
    """Answer one replica."""
    query(())
    _, found = _find(name, registry)
    return answer(_show(found))


@blueprint.get("/<name>/<registry>/drift")
@operation(
    "List what somebody else changed at a replica, by name",
    role="viewer",
    results={200: ("one page", DriftPageSchema)},
    query={"state": "open, which is the default, or repaired within the last week"},
    paged=True,
)
def list_drift(name: str, registry: str) -> Response:
    """Answer one page."""
    _find(name, registry)

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[Drift]:
        state = single(given, "state") or OPEN
        if state not in (OPEN, REPAIRED):
            problem = FieldProblem(
                "state", f"{state[:40]!r} is no state", suggest(state, (OPEN, REPAIRED))
            )
            raise InvalidFields((problem,))
        drift = services().replicas.drift
        return drift.list(name, registry, state=state, after=after or "", limit=limit)

    return page(
        f"drift/{name}/{registry}",
        fetch,
        lambda one: f"{one.repository}:{one.tag}",
        _show_drift,
        grammar=_DRIFT,
        filters=("state",),
    )


@blueprint.get("/<name>/<registry>/promotion")
@operation(
    "Show what would be lost if a replica took over",
    role="viewer",
    results={200: ("what it may lack", PromotionSchema)},
)
def show_promotion(name: str, registry: str) -> Response:
    """Answer what the replica may lack; nothing is changed."""
    query(())
    stored, _ = _find(name, registry)
    missing = services().replicas.promotions.missing(stored.rule, registry)
    return answer(_promotion(stored.rule, registry, missing))


@blueprint.post("/<name>/<registry>/promote")
@operation(
    "Make a replica the primary; the old one is fenced, the other replicas follow the new one",
    role="admin",
    body=PromoteSchema,
    results={200: ("what it may lack", PromotionSchema)},
)
def promote_replica(name: str, registry: str) -> Response:
    """Promote; the primary of now stays as it is. Refused where something would be lost unseen."""
    query(())
    accepted = load(PromoteSchema(), read_json(optional=True)).get("accept_missing", False)
    stored = find_rule(name)
    if stored.rule.source == registry and stored.rule.mode == REPLICATE:
        return answer(_promotion(stored.rule, registry, []))
    stored, _ = _find(name, registry)
    rule = promoted(stored.rule, registry, members_of_groups(endpoints().values()))
    check(rule)
    document = promoted_document(stored.document, rule)
    changes.note(name=name, project=rule.project, before=stored.document, after=document)
    missing = services().replicas.promotions.promote(
        stored.rule,
        rule,
        document=document,
        expected_version=stored.version,
        accept_missing=accepted,
    )
    return answer(_promotion(rule, registry, missing))


@blueprint.post("/<name>/<registry>/reverse")
@operation(
    "Have a former primary follow; what it has of its own is drift, and is kept until a repair",
    role="admin",
    body=NoBodySchema,
    results={200: ("the replica", ReplicaSchema)},
)
def reverse_replica(name: str, registry: str) -> Response:
    """Let it in again; again changes nothing."""
    refuse_body()
    stored, _ = _find(name, registry)
    _note(stored, registry)
    services().replicas.promotions.follow(name, registry)
    return answer(_show(_find(name, registry)[1]))


@blueprint.post("/<name>/<registry>/repair")
@operation(
    "Put right once what somebody else moved at a replica; the next full execution does it",
    role="operator",
    body=NoBodySchema,
    results={202: ("the replica", ReplicaSchema)},
)
def repair_replica(name: str, registry: str) -> Response:
    """Ask for one repair."""
    refuse_body()
    stored, _ = _find(name, registry)
    _note(stored, registry)
    services().replicas.store.ask_repair(name, registry)
    return answer(_show(_find(name, registry)[1]), 202)


def _of(rule: SyncRule) -> list[ReplicaStatus]:
    names = sorted(followers(rule, members_of_groups(endpoints().values())))
    return services().replicas.statuses.of(rule, names)


def _find(name: str, registry: str) -> tuple[StoredRule, ReplicaStatus]:
    """Return a rule and one of its replicas. Raises NotFoundInStore."""
    stored = find_rule(name)
    if stored.rule.mode != REPLICATE:
        raise NotFoundInStore(
            f"rule {name} does not replicate", hint="only a rule of mode replicate has replicas"
        )
    known = {one.replica.registry: one for one in _of(stored.rule)}
    if registry not in known:
        raise NotFoundInStore(
            f"{registry} is no replica of rule {name}", hint=suggest(registry, known)
        )
    return stored, known[registry]


def _note(stored: StoredRule, registry: str) -> None:
    changes.note(name=f"{stored.rule.name}/{registry}", project=stored.rule.project, before=None)


def _key(found: ReplicaStatus) -> str:
    return f"{found.rule.name}/{found.replica.registry}"


def _show(found: ReplicaStatus) -> dict[str, Any]:
    replica, rule = found.replica, found.rule
    return {
        "rule": rule.name,
        "registry": replica.registry,
        "primary": rule.source,
        "project": rule.project,
        "state": found.state,
        "joined_at": instant(replica.joined_at or None),
        "caught_up_at": instant(replica.caught_up_at),
        "compared_at": instant(replica.compared_at),
        "lag": {"seconds": round(found.lag.seconds, 3), "waiting": found.lag.waiting},
        "progress": {
            "copied": found.progress.copied,
            "waiting": found.progress.waiting,
            "failed": found.progress.failed,
        },
        "policy": rule.drift,
        "held": replica.held,
        "drift": {kind: found.drift.get(kind, 0) for kind in KINDS},
        "note": replica.note,
    }


def _show_drift(one: Drift) -> dict[str, Any]:
    return {
        "repository": one.repository,
        "tag": one.tag or None,
        "kind": one.kind,
        "wanted": one.wanted or None,
        "found": one.found or None,
        "state": one.state,
        "first_at": instant(one.first_at),
        "seen_at": instant(one.seen_at),
        "repaired_at": instant(one.repaired_at),
    }


def _promotion(rule: SyncRule, registry: str, missing: list[Missing]) -> dict[str, Any]:
    last = services().replicas.store.last_full(rule.name)
    return {
        "rule": rule.name,
        "primary": rule.source,
        "registry": registry,
        "known_until": instant(None if last is None else last[1]),
        "missing": [
            {
                "repository": one.repository,
                "tag": one.tag,
                "why": one.why,
                "held_by": one.held_by or None,
            }
            for one in missing
        ],
    }
