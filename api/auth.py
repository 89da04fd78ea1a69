"""Sign-in by bearer token, and the one place that decides who may do what (reliability.md S1, S2).

Closed by default: a path under /api that no route serves, or a route without a role, asks for a
token first and is refused afterwards.
"""

from __future__ import annotations

import re

from flask import Flask, current_app, g, request

from api import changes
from api.context import context, services
from api.operations import Operation, operation_of
from api.problems import Problem
from service.replication.metrics_server import bears
from service.store.tokens import AGENT_ROLE, ROLES, TokenRecord

METRICS = "/metrics"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/-]{1,256}=*)")


def authorize(actor: TokenRecord, needed: Operation | None) -> bool:
    """Whether the actor's role and scope reach what is asked for; admin > operator > viewer, agent apart."""
    role = needed.role if needed else None
    if role == AGENT_ROLE:
        return actor.role == AGENT_ROLE
    if needed is None or role not in ROLES or actor.role not in ROLES:
        return False
    if needed.platform and actor.project is not None:
        return False
    return ROLES.index(actor.role) >= ROLES.index(role)


def require_token(app: Flask) -> None:
    """Have every request under /api judged before its view runs, and its change written down."""
    app.before_request(_judge)
    app.teardown_request(_let_go)


def _judge() -> None:
    if request.path == METRICS:
        if bears(request.headers.get("Authorization", ""), context().metrics_token):
            return  # a scrape; other tokens are judged as everywhere
    elif not request.path.startswith("/api"):
        return
    actor = _actor()
    g.actor = actor
    g.admitted = context().throttle.admit(actor.name)
    if request.routing_exception is not None:
        return  # unknown path or method: known callers are told so
    needed = operation_of(current_app.view_functions[request.endpoint or ""])
    if not authorize(actor, needed):
        raise Problem(403, "forbidden", _refusal(actor, needed))
    if request.method not in _SAFE and actor.role != AGENT_ROLE:  # what agents do is no change
        changes.begin(actor)


def _refusal(actor: TokenRecord, needed: Operation | None) -> str:
    if needed is not None and needed.platform and actor.project is not None:
        return (
            f"the token {actor.name!r} belongs to the project {actor.project}, "
            "this is for the whole platform"
        )
    role = needed.role if needed else None
    return f"the token {actor.name!r} has the role {actor.role}, this needs {role or 'more'}"


def _let_go(_error: BaseException | None) -> None:
    changes.forget()
    admitted = g.pop("admitted", None)
    if admitted is not None:
        admitted.release()


def _actor() -> TokenRecord:
    """Return whose token the request bears; the look-up compares hashes of 256 random bits."""
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    actor = services().tokens.verify(match[1]) if match else None
    if actor is None:
        context().guesses.spend(request.remote_addr or "")
        raise Problem(
            401,
            "unauthenticated",
            "a valid token is missing",
            hint="send the header Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": 'Bearer realm="transship"'},
        )
    return actor
