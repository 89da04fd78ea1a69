"""/api/v1/rules: what is to be where, and runs of it by hand."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api import render
from api.bodies import idempotency_key, read_json, refuse_body
from api.context import context, services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import (
    ExecutionDetailSchema,
    NoBodySchema,
    RuleAnswerSchema,
    RulePageSchema,
)
from api.schemas.rule import RuleSchema, load_rule
from api.v1.shared import NAME, answer, endpoints, named
from api.versions import expected_version
from service.errors import InvalidFields, NotFoundInStore
from service.model.rule_check import check_rule
from service.model.states import ExecutionState
from service.replication import executions
from service.store.executions import ExecutionRecord
from service.store.rules import StoredRule
from service.telemetry import get_logger

log = get_logger("api")
blueprint = Blueprint("rules", __name__, url_prefix="/api/v1/rules")


@blueprint.get("")
@operation(
    "List rules by name", role="viewer", results={200: ("one page", RulePageSchema)}, paged=True
)
def list_rules() -> Response:
    """Answer one page."""
    return page(
        "rules",
        lambda after, limit, _: services().rules.list(after, limit),
        lambda stored: stored.rule.name,
        render.rule,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a rule", role="viewer", results={200: ("the rule", RuleAnswerSchema)})
def show_rule(name: str) -> Response:
    """Answer one rule."""
    stored = services().rules.get(name)
    return answer(render.rule(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a rule",
    role="operator",
    body=RuleSchema,
    results={200: ("replaced", RuleAnswerSchema), 201: ("created", RuleAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
)
def put_rule(name: str) -> Response:
    """Save a rule whose registries are there."""
    document = named(read_json(), name)
    rule = load_rule(document)
    current = _find(name)
    expected = expected_version(current.version if current else None)
    if problems := check_rule(rule, endpoints(services())):
        raise InvalidFields(problems)
    stored = services().rules.put(rule, document=document, expected_version=expected)
    body = render.rule(stored)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a rule; its executions stay",
    role="operator",
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_rule(name: str) -> Response:
    """Forget one rule."""
    expected_version(services().rules.get(name).version)
    services().rules.delete(name)
    return Response(status=204)


@blueprint.post("/<name>/executions")
@operation(
    "Run a rule; while a run of it is open, that one is answered",
    role="operator",
    body=NoBodySchema,
    results={202: ("the execution", ExecutionDetailSchema)},
    headers={"Idempotency-Key": "repeating it answers the execution that it made first"},
)
def run_rule(name: str) -> Response:
    """Save an execution, then announce it; a lost announcement costs only the scheduler's look."""
    refuse_body()
    record = executions.start(
        services().rules,
        services().executions,
        name,
        trigger="api",
        idempotency_key=idempotency_key(),
    )
    _announce(record)
    return answer(
        render.execution_detail(record, services().executions),
        202,
        Location=f"/api/v1/executions/{record.id}",
    )


def _announce(record: ExecutionRecord) -> None:
    publisher = context().publisher
    if publisher is None or record.state is not ExecutionState.PENDING:
        return
    try:
        executions.send_now(publisher, record)
    except Exception as error:  # noqa: BLE001 - Redis may be away: the row is what counts
        log.warning("announcement_lost", execution=record.id, error=type(error).__name__)


def _find(name: str) -> StoredRule | None:
    try:
        return services().rules.get(name)
    except NotFoundInStore:
        return None
