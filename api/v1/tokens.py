"""/api/v1/tokens: who may speak to this API."""

from __future__ import annotations

from flask import Blueprint, Response, g

from api import changes, render
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import TokenPageSchema, TokenSchema
from api.schemas.common import load
from api.schemas.fields import seconds
from api.schemas.governance import NewTokenSchema
from api.v1.shared import NAME, answer
from service.errors import Conflict, FieldProblem, InvalidFields, NotFoundInStore
from service.model.rule_check import suggest
from service.store.tokens import AGENT_ROLE

blueprint = Blueprint("tokens", __name__, url_prefix="/api/v1/tokens")


@blueprint.get("")
@operation(
    "List tokens by name, revoked ones too",
    role="admin",
    platform=True,
    results={200: ("one page", TokenPageSchema)},
    paged=True,
)
def list_tokens() -> Response:
    """Answer one page."""
    return page(
        "tokens",
        lambda after, limit, _: [
            record for record in services().tokens.list() if after is None or record.name > after
        ][:limit],
        lambda record: record.name,
        render.token,
        grammar=NAME,
    )


@blueprint.post("")
@operation(
    "Make a token; its text is in this answer and nowhere else",
    role="admin",
    platform=True,
    body=NewTokenSchema,
    results={201: ("the token", TokenSchema)},
)
def make_token() -> Response:
    """Make one token."""
    query(())
    wanted = load(NewTokenSchema(), read_json())
    project, lifetime = wanted.get("project"), wanted.get("expires_in")
    if project is not None:
        _check_project(project)
    region = wanted.get("region")
    _check_agent(wanted["role"], region, project)
    changes.note(name=wanted["name"], project=project, after=wanted)
    text, record = services().tokens.create(
        wanted["name"],
        wanted["role"],
        project=project,
        region=region,
        lifetime_seconds=None if lifetime is None else seconds(lifetime),
    )
    return answer(
        {**render.token(record), "token": text}, 201, Location=f"/api/v1/tokens/{record.name}"
    )


@blueprint.get("/<name>")
@operation(
    "Show a token, without its text",
    role="admin",
    platform=True,
    results={200: ("it", TokenSchema)},
)
def show_token(name: str) -> Response:
    """Answer one token's record."""
    return answer(render.token(services().tokens.get(name)))


@blueprint.delete("/<name>")
@operation("Revoke a token, at once", role="admin", platform=True, results={204: ("revoked", None)})
def revoke_token(name: str) -> Response:
    """Revoke one token; the one that asks cannot lock itself out."""
    if g.actor.name == name:
        raise Conflict(
            "a token cannot revoke itself", hint="make another admin token and use that one"
        )
    changes.note(action="revoke")
    services().tokens.revoke(name)
    return Response(status=204)


def _check_agent(role: str, region: str | None, project: str | None) -> None:
    problems = []
    if role == AGENT_ROLE and region is None:
        problems.append(FieldProblem("region", "is missing", "say whose copies an agent fetches"))
    if role == AGENT_ROLE and project is not None:
        problems.append(FieldProblem("project", "an agent carries out every project's copies", ""))
    if role != AGENT_ROLE and region is not None:
        problems.append(FieldProblem("region", "is of tokens of role agent alone", "leave it out"))
    if problems:
        raise InvalidFields(tuple(problems))


def _check_project(name: str) -> None:
    try:
        services().projects.get(name)
    except NotFoundInStore as error:
        known = [stored.project.name for stored in services().projects.list()]
        problem = FieldProblem("project", error.message, suggest(name, known))
        raise InvalidFields((problem,)) from error
