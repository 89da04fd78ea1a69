"""/api/v1/audit: every change, who made it, and whether the log is whole."""

from __future__ import annotations

from flask import Blueprint, Response

from api import render
from api.bodies import query, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import AuditPageSchema, VerdictSchema
from api.v1.shared import actor, answer
from service.store.audit import AuditRecord

blueprint = Blueprint("audit", __name__, url_prefix="/api/v1/audit")
_FILTERS = ("kind", "name", "actor", "action")


@blueprint.get("")
@operation(
    "List changes, the newest first; a project's admin sees the project's",
    role="admin",
    results={200: ("one page", AuditPageSchema)},
    query={
        "kind": "only of objects of this kind: rules, registries, ...",
        "name": "only of objects of this name",
        "actor": "only by the token of this name",
        "action": "only what was done so: put, delete, cross, hold, reseal, ...",
    },
    paged=True,
)
def list_audit() -> Response:
    """Answer one page."""

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[AuditRecord]:
        return services().audit.list(
            project=actor().project,
            before=None if after is None else int(after),
            limit=limit,
            **{name: single(given, name) for name in _FILTERS},
        )

    return page(
        "audit",
        fetch,
        lambda record: str(record.seq),
        render.audit,
        grammar=r"[0-9]{1,18}",
        filters=_FILTERS,
    )


@blueprint.get("/verification")
@operation(
    "Check the whole audit log: names the first row that was altered or is missing",
    role="admin",
    platform=True,
    results={200: ("what was found", VerdictSchema)},
)
def verify_audit() -> Response:
    """Answer whether the chain is whole."""
    query(())
    return answer(render.verdict(services().audit.verify()))
