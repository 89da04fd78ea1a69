"""/api/v1/reports: what executions came to in the end, to be mailed to whoever asked for it."""

from __future__ import annotations

from flask import Blueprint, Response

from api.bodies import query, single
from api.context import context, services
from api.operations import operation
from api.problems import Problem
from api.reports.build import build
from api.schemas.report import FullReportSchema
from api.v1.shared import answer, find_execution, sees_registry
from service.errors import FieldProblem, InvalidFields
from service.replication.full_report import MOST_EXECUTIONS, Section, sections_by_rule

blueprint = Blueprint("reports", __name__, url_prefix="/api/v1/reports")


@blueprint.get("")
@operation(
    "Report on executions: totals, time by rule, failures by class with what mends them, a rule file of what failed",
    role="viewer",
    results={200: ("the report", FullReportSchema)},
    query={
        "execution": "on this execution; may be repeated",
        "receipt": "`false` leaves the receipt out, which takes longest of all; `true` unless it is given",
    },
)
def report() -> Response:
    """Answer the report of executions."""
    given = query(("execution", "receipt"))
    receipt = single(given, "receipt")
    if receipt not in (None, "true", "false"):
        raise InvalidFields((FieldProblem("receipt", "is true or false"),))
    title, sections = _executions(given.get("execution", []))
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
            services(), title, sections, visible=sees_registry, receipt=receipt != "false"
        )
    finally:
        slots.release()
    return answer(found)


def _executions(identities: list[str]) -> tuple[str, list[Section]]:
    """Return the title and the sections of a report on executions."""
    if not 1 <= len(identities) <= MOST_EXECUTIONS:
        problem = FieldProblem("execution", f"name 1 to {MOST_EXECUTIONS} executions")
        raise InvalidFields((problem,))
    records = [find_execution(one) for one in dict.fromkeys(identities)]
    rules = list(dict.fromkeys(one.rule for one in records))
    more = f" and {len(rules) - 3} more" if len(rules) > 3 else ""
    return f"{', '.join(rules[:3])}{more}", sections_by_rule(records)
