"""/api/v1/rules|registries/{name}/pause and /resume: nothing new begins, nothing is lost."""

from __future__ import annotations

from flask import Blueprint, Response

from api import render
from api.bodies import refuse_body
from api.context import services
from api.operations import operation
from api.schemas.answers import NoBodySchema, RegistryAnswerSchema, RuleAnswerSchema
from api.v1.rules import show
from api.v1.shared import answer, find_registry, find_rule

blueprint = Blueprint("pauses", __name__, url_prefix="/api/v1")


@blueprint.post("/rules/<name>/pause")
@operation(
    "Pause a rule: its copies wait where they are, within a second",
    role="operator",
    body=NoBodySchema,
    results={200: ("the rule", RuleAnswerSchema)},
)
def pause_rule(name: str) -> Response:
    """Pause one rule; again changes nothing."""
    refuse_body()
    find_rule(name)
    services().pauses.pause_rule(name)
    return _rule(name)


@blueprint.post("/rules/<name>/resume")
@operation(
    "Resume a rule where it stood",
    role="operator",
    body=NoBodySchema,
    results={200: ("the rule", RuleAnswerSchema)},
)
def resume_rule(name: str) -> Response:
    """Resume one rule; again changes nothing."""
    refuse_body()
    find_rule(name)
    services().pauses.resume_rule(name)
    return _rule(name)


@blueprint.post("/registries/<name>/pause")
@operation(
    "Pause a registry: within five seconds no request is sent to it",
    role="admin",
    platform=True,
    body=NoBodySchema,
    results={200: ("the registry", RegistryAnswerSchema)},
)
def pause_registry(name: str) -> Response:
    """Pause one registry; again changes nothing."""
    refuse_body()
    find_registry(name)
    services().pauses.pause_registry(name)
    return _registry(name)


@blueprint.post("/registries/<name>/resume")
@operation(
    "Speak to a registry again; what waited for it goes on",
    role="admin",
    platform=True,
    body=NoBodySchema,
    results={200: ("the registry", RegistryAnswerSchema)},
)
def resume_registry(name: str) -> Response:
    """Resume one registry; again changes nothing."""
    refuse_body()
    find_registry(name)
    services().pauses.resume_registry(name)
    return _registry(name)


def _rule(name: str) -> Response:
    stored = services().rules.get(name)
    return answer(show(stored), version=stored.version)


def _registry(name: str) -> Response:
    stored = services().registries.get(name)
    return answer(render.registry(stored), version=stored.version)
