"""/api/v1/verifications: what destinations really serve, down to a byte of every blob."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api import changes, render
from api.bodies import query, read_json, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.common import load
from api.schemas.locations import (
    VerificationInputSchema,
    VerificationPageSchema,
    VerificationSchema,
)
from api.v1.shared import actor, announce, answer, find_execution, find_rule
from service.errors import NotFoundInStore
from service.store.executions import ExecutionRecord

blueprint = Blueprint("verifications", __name__, url_prefix="/api/v1/verifications")
KIND = "verify"


@blueprint.get("")
@operation(
    "List verifications, the newest first",
    role="viewer",
    results={200: ("one page", VerificationPageSchema)},
    query={"rule": "only verifications of this rule"},
    paged=True,
)
def list_verifications() -> Response:
    """Answer one page."""
    return page(
        "verifications",
        lambda after, limit, given: services().executions.list(
            rule=single(given, "rule"),
            kind=KIND,
            project=actor().project,
            after=after,
            limit=limit,
        ),
        lambda record: record.id,
        show,
        grammar=r"[0-9a-f]{24}",
        filters=("rule",),
    )


@blueprint.post("")
@operation(
    "Verify what a rule says, and copy again what is not whole if that is asked for",
    role="operator",
    body=VerificationInputSchema,
    results={202: ("the verification", VerificationSchema)},
)
def create_verification() -> Response:
    """Save a verification; its copies are what it found, read as those of any execution."""
    wanted = load(VerificationInputSchema(), read_json())
    stored = find_rule(wanted["rule"])
    identity = services().verifications.create(
        stored.rule, trigger="api", repair=wanted.get("repair", False)
    )
    changes.note(name=identity, action="verify", project=stored.rule.project, after=wanted)
    record = services().executions.get(identity)
    announce(record)
    return answer(show(record), 202, Location=f"/api/v1/verifications/{identity}")


@blueprint.get("/<identity>")
@operation(
    "Show a verification with what it found so far",
    role="viewer",
    results={200: ("the verification", VerificationSchema)},
)
def show_verification(identity: str) -> Response:
    """Answer one verification."""
    query(())
    record = find_execution(identity)
    if record.kind != KIND:
        raise NotFoundInStore(f"there is no verification {identity}")
    return answer(show(record))


def show(record: ExecutionRecord) -> dict[str, Any]:
    """Return a verification with its findings."""
    found = services().verifications.findings(record.id)
    holds = services().standing.holds([record]).get(record.id, ())
    return {
        **render.execution(record, holds),
        "checked": found.checked,
        "whole": found.whole,
        "holes": found.holes,
        "repaired": found.repaired,
        "unreachable": found.unreachable,
        "repair": services().verifications.repair_of(record.id) or None,
    }
