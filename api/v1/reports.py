"""/api/v1/reports: what executions came to in the end, to be mailed to whoever asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response

from api import migrations_shown
from api.bodies import query, single
from api.context import context, services
from api.operations import operation
from api.problems import Problem
from api.reports.build import build
from api.reports.migration import told, waves
from api.schemas.report import FullReportSchema
from api.v1 import migrations
from api.v1.shared import answer, find_execution, sees_registry
from service.errors import FieldProblem, InvalidFields
from service.replication.full_report import MOST_EXECUTIONS, Section, sections_by_rule

blueprint = Blueprint("reports", __name__, url_prefix="/api/v1/reports")


@blueprint.get("")
@operation(
    "Report on executions or a migration: totals, time by rule or wave, failures by class with what mends them, a "
    "rule file of what failed",
    role="viewer",
    results={200: ("the report", FullReportSchema)},
    query={
        "execution": "on this execution; may be repeated",
        "migration": "on this migration, wave by wave, with what its looks and its proof came to",
        "receipt": "`false` leaves the receipt out, which takes longest of all; `true` unless it is given",
    },
)
def report() -> Response:
    """Answer the report of executions."""
    given = query(("execution", "migration", "receipt"))
    receipt = single(given, "receipt")
    if receipt not in (None, "true", "false"):
        raise InvalidFields((FieldProblem("receipt", "is true or false"),))
    of = _asked(given.get("execution", []), single(given, "migration"))
    slots = context().receipt_slots
    if not slots.acquire(blocking=False):
        raise Problem(
            503,
            "too_many_reports",
            "other reports or receipts are being made",
            hint="ask again in a moment",
            headers={"Retry-After": "5"},
        )
    try:
        found = build(
            services(),
            of.title,
            of.sections,
            visible=sees_registry,
            receipt=receipt != "false",
            migration=of.migration,
            warnings=of.warnings,
        )
    finally:
        slots.release()
    return answer(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a report is to be on."""

    title: str
    sections: Sequence[Section]
    migration: dict[str, Any] | None = None
    warnings: Sequence[str] = ()


def _asked(identities: list[str], migration: str | None) -> _Asked:
    if bool(identities) == (migration is not None):
        problem = FieldProblem("execution", "name executions, or a migration, and not both")
        raise InvalidFields((problem,))
    if migration is not None:
        shown = migrations_shown.show(migrations.find(migration))
        sections, lost = waves(services(), shown)
        title = f"{migration}: {shown['source']} to {shown['destination']}"
        return _Asked(title, sections, told(services(), shown), lost)
    if len(identities) > MOST_EXECUTIONS:
        problem = FieldProblem("execution", f"name at most {MOST_EXECUTIONS} executions")
        raise InvalidFields((problem,))
    records = [find_execution(one) for one in dict.fromkeys(identities)]
    rules = list(dict.fromkeys(one.rule for one in records))
    more = f" and {len(rules) - 3} more" if len(rules) > 3 else ""
    return _Asked(f"{', '.join(rules[:3])}{more}", sections_by_rule(records))
