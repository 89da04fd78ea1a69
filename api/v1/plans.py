"""/api/v1/plans: what a rule would do, kept, and carried out as it is."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api import changes, render
from api.bodies import query, read_json, refuse_body, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import ExecutionDetailSchema, NoBodySchema
from api.schemas.common import load
from api.schemas.plans import PlanInputSchema, PlanPageSchema, PlanSchema
from api.schemas.rule import load_rule
from api.v1.rules import check, refuse_fenced
from api.v1.secret_files import read_key
from api.v1.shared import actor, announce, answer, find_execution, find_rule, in_own_project, named
from service.errors import Conflict, NotFoundInStore
from service.model.rule import SyncRule
from service.replication.findings import plan_report
from service.store.executions import ExecutionRecord

blueprint = Blueprint("plans", __name__, url_prefix="/api/v1/plans")
KIND = "plan"


@blueprint.get("")
@operation(
    "List plans, the newest first",
    role="viewer",
    results={200: ("one page", PlanPageSchema)},
    query={"rule": "only plans of this rule"},
    paged=True,
)
def list_plans() -> Response:
    """Answer one page."""
    return page(
        "plans",
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
    "Plan what a rule would do, without writing anywhere",
    role="operator",
    body=PlanInputSchema,
    results={202: ("the plan", PlanSchema)},
)
def create_plan() -> Response:
    """Save a plan; its copies are what it names, read as those of any execution.

    With `document` it is of a rule as it would be saved, which is not saved by this.
    """
    wanted = load(PlanInputSchema(), read_json())
    document = wanted.get("document")
    if document is None:
        rule = find_rule(wanted["rule"]).rule
    else:
        rule = load_rule(
            in_own_project(named(document, wanted["rule"]), "rules"), read_key=read_key
        )
        check(rule)
        refuse_fenced(rule)
    identity = services().saved_plans.create(rule, trigger="api")
    changes.note(name=identity, action="plan", project=rule.project, after=wanted)
    record = services().executions.get(identity)
    announce(record)
    return answer(show(record), 202, Location=f"/api/v1/plans/{identity}")


@blueprint.get("/<identity>")
@operation("Show a plan", role="viewer", results={200: ("the plan", PlanSchema)})
def show_plan(identity: str) -> Response:
    """Answer one plan; its figures are there when its state has ended."""
    query(())
    return answer(show(_find(identity)))


@blueprint.post("/<identity>/executions")
@operation(
    "Carry a plan out as it is; refused when the world has moved, again answers the same execution",
    role="operator",
    body=NoBodySchema,
    results={202: ("the execution", ExecutionDetailSchema)},
)
def carry_out(identity: str) -> Response:
    """Save an execution of exactly what the plan names."""
    refuse_body()
    _refuse_unsaved(_find(identity))
    made = services().saved_plans.carry_out(identity, trigger="plan")
    record = services().executions.get(made)
    announce(record)
    return answer(
        render.execution_detail(record, services()),
        202,
        Location=f"/api/v1/executions/{made}",
    )


def _refuse_unsaved(plan: ExecutionRecord) -> None:
    """Refuse a plan of a rule that is not saved like this: it was a preview."""
    try:
        saved: SyncRule | None = find_rule(plan.rule).rule
    except NotFoundInStore:
        saved = None
    if saved is None or saved != services().saved_plans.rule_of(plan.id):
        raise Conflict(
            f"rule {plan.rule} is not saved as plan {plan.id} has it",
            hint="save the rule, then plan it again",
        )


def _find(identity: str) -> ExecutionRecord:
    try:
        record = find_execution(identity)
    except NotFoundInStore:
        record = None
    if record is None or record.kind != KIND:
        raise NotFoundInStore(
            f"there is no plan {identity}", hint="make one: transship plan --rule NAME"
        )
    return record


def show(record: ExecutionRecord) -> dict[str, Any]:
    """Return a plan with its figures."""
    figures = services().saved_plans.figures(record.id)
    holds = services().standing.holds([record]).get(record.id, ())
    return {
        **render.execution(record, holds),
        **plan_report(services().executions, record, figures),
    }
