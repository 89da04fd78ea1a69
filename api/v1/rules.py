"""/api/v1/rules: what is to be where, and runs of it by hand."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from api import changes, lags, render
from api.bodies import idempotency_key, query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import (
    ExecutionDetailSchema,
    RuleAnswerSchema,
    RuleLagSchema,
    RulePageSchema,
)
from api.schemas.common import load
from api.schemas.rule import RuleSchema, load_rule
from api.schemas.run import RunInputSchema, taken_apart
from api.v1.secret_files import read_key
from api.v1.shared import (
    NAME,
    all_rules,
    announce,
    answer,
    borders,
    endpoints,
    find_rule,
    in_own_project,
    is_own,
    keep,
    named,
    set_parameter,
)
from api.versions import expected_version
from service.crashpoints import crashpoint
from service.errors import Conflict, FieldProblem, InvalidFields, NotFoundInStore
from service.model.loops import check_loops
from service.model.project import check_access
from service.model.rule import SyncRule
from service.model.rule_check import check_rule, suggest
from service.model.selection import followers, members_of_groups
from service.store.migration_values import owner_of
from service.store.rules import StoredRule

blueprint = Blueprint("rules", __name__, url_prefix="/api/v1/rules")


@blueprint.get("")
@operation(
    "List rules by name", role="viewer", results={200: ("one page", RulePageSchema)}, paged=True
)
def list_rules() -> Response:
    """Answer one page."""
    return page(
        "rules",
        lambda after, limit, _: keep(
            services().rules.list,
            lambda stored: stored.rule.name,
            lambda stored: is_own(stored.rule.project),
            after,
            limit,
        ),
        lambda stored: stored.rule.name,
        show,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a rule", role="viewer", results={200: ("the rule", RuleAnswerSchema)})
def show_rule(name: str) -> Response:
    """Answer one rule."""
    stored = find_rule(name)
    return answer(show(stored), version=stored.version)


@blueprint.get("/<name>/lag")
@operation(
    "Show how long the oldest change at the source has not been at each destination",
    role="viewer",
    results={200: ("the lags", RuleLagSchema)},
)
def show_lag(name: str) -> Response:
    """Answer how far each destination, and each region, is behind."""
    query(())
    return answer(lags.of_rule(find_rule(name)))


@blueprint.put("/<name>")
@operation(
    "Create or replace a rule",
    role="operator",
    body=RuleSchema,
    results={200: ("replaced", RuleAnswerSchema), 201: ("created", RuleAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the rule belongs to from now on"},
)
def put_rule(name: str) -> Response:
    """Save a rule whose registries are there, and whose project may do what it names."""
    owner = set_parameter()
    document = in_own_project(named(read_json(), name), "rules")
    rule = load_rule(document, read_key=read_key)
    current = _find(name)
    expected = expected_version(current.version if current else None)
    refuse_owned(current)
    check(rule)
    refuse_fenced(rule)
    changes.note(
        action="replace" if current else "create",
        project=rule.project,
        before=current.document if current else None,
        after=document,
    )
    stored = services().rules.put(
        rule, document=document, expected_version=expected, set_name=owner
    )
    body = show(stored)
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
    stored = find_rule(name)
    expected_version(stored.version)
    refuse_owned(stored)
    services().rules.delete(name)
    return Response(status=204)


@blueprint.post("/<name>/executions")
@operation(
    "Run a rule; while a run of it is open, that one is answered",
    role="operator",
    body=RunInputSchema,
    results={202: ("the execution", ExecutionDetailSchema)},
    headers={"Idempotency-Key": "repeating it answers the execution that it made first"},
)
def run_rule(name: str) -> Response:
    """Save an execution, then announce it; a lost announcement costs only the scheduler's look.

    With `only`, it is one of these references beside the rule's full execution.
    """
    query(())
    only = load(RunInputSchema(), read_json(optional=True)).get("references")
    rule, key, store = find_rule(name).rule, idempotency_key(), services().executions
    crashpoint("api.before_tx")
    if only is None:
        record = store.create(rule, trigger="api", idempotency_key=key)
    else:
        references = [taken_apart(reference) for reference in only]
        record = store.create_tags(rule, references, trigger="api", idempotency_key=key)
    crashpoint("api.after_tx_before_reply")
    announce(record)
    return answer(
        render.new_execution(record, services()),
        202,
        Location=f"/api/v1/executions/{record.id}",
    )


def show(stored: StoredRule) -> dict[str, Any]:
    """Return a rule as JSON, with what is wrong with it now."""
    return render.rule(stored, services().incidents.open([stored.rule.name]))


def check(rule: SyncRule) -> None:
    """Refuse a rule that names what is not there, or what its project may not touch."""
    known = endpoints()
    try:
        project = services().projects.get(rule.project).project
    except NotFoundInStore as error:
        names = [stored.project.name for stored in services().projects.list()]
        problem = FieldProblem("project", error.message, suggest(rule.project, names))
        raise InvalidFields((problem,)) from error
    if problems := check_rule(rule, known, borders()) or check_access(rule, project, known):
        raise InvalidFields(problems)
    members = members_of_groups(known.values())
    if services().rules.any_from(followers(rule, members)):
        others = [stored.rule for stored in all_rules()]
        if problems := check_loops(rule, others, members):
            raise InvalidFields(problems)


def refuse_owned(stored: StoredRule | None) -> None:
    """Refuse to change the rule of a migration's wave in passing: the migration writes it anew."""
    owner = None if stored is None else owner_of(stored.set)
    if stored is not None and owner is not None:
        raise Conflict(
            f"rule {stored.rule.name} carries out a wave of migration {owner}",
            hint=f"change or delete the migration: transship migrations show {owner}",
        )


def refuse_fenced(rule: SyncRule) -> None:
    """Refuse a source from which another primary has taken over: a file of before would undo that unseen."""
    if rule.source in services().replicas.promotions.fenced(rule.name):
        raise Conflict(
            f"{rule.source} was the primary of rule {rule.name}, and another one has taken over",
            hint="write the source that the rule has now, or promote this one again",
        )


def _find(name: str) -> StoredRule | None:
    """Return the rule that stands under the name; one of another project is not there to the caller."""
    try:
        stored = services().rules.get(name)
    except NotFoundInStore:
        return None
    if not is_own(stored.rule.project):
        raise NotFoundInStore(f"there is no rule named {name}", hint="choose another name")
    return stored
