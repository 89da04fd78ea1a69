"""Sign-in by bearer token, and the one place that decides who may do what (reliability.md S1, S2).

Closed by default: a path under /api that no route serves, or a route without a role, asks for a
token first and is refused afterwards.
"""

from __future__ import annotations

import re

from flask import Flask, current_app, g, request

from api.context import services
from api.operations import operation_of
from api.problems import Problem
from service.store.tokens import ROLES, TokenRecord

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/-]{1,256}=*)")


def authorize(actor: TokenRecord, role: str | None) -> bool:
    """Whether the actor's role reaches the one that is asked for; admin > operator > viewer."""
    if role is None or role not in ROLES or actor.role not in ROLES:
        return False
    return ROLES.index(actor.role) >= ROLES.index(role)


def require_token(app: Flask) -> None:
    """Have every request under /api judged before its view runs."""
    app.before_request(_judge)


def _judge() -> None:
    if not request.path.startswith("/api"):
        return
    actor = _actor()
    g.actor = actor
    if request.routing_exception is not None:
        return  # unknown path or method: known callers are told so
    view = current_app.view_functions[request.endpoint or ""]
    described = operation_of(view)
    role = described.role if described else None
    if not authorize(actor, role):
        raise Problem(
            403,
            "forbidden",
            f"the token {actor.name!r} has the role {actor.role}, this needs {role or 'more'}",
        )


def _actor() -> TokenRecord:
    """Return whose token the request bears; the look-up compares hashes of 256 random bits."""
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    actor = services().tokens.verify(match[1]) if match else None
    if actor is None:
        raise Problem(
            401,
            "unauthenticated",
            "a valid token is missing",
            hint="send the header Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": 'Bearer realm="transship"'},
        )
    return actor
