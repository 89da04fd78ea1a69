"""The Flask application: routes, sign-in, problems, headers."""

from __future__ import annotations

from flask import Flask, Response, request

from api import gates, hooks, pages
from api.auth import require_token
from api.bodies import MAX_BODY
from api.context import KEY, ApiContext
from api.problems import report_problems
from api.v1 import (
    agents,
    audit,
    copies,
    deletions,
    examinations,
    executions,
    flows,
    health,
    history,
    images,
    links,
    migrations,
    overview,
    pauses,
    pipelines,
    plans,
    projects,
    promotions,
    pull_tokens,
    receipts,
    regions,
    registries,
    releases,
    replicas,
    reports,
    rules,
    secrets,
    standing,
    tokens,
    verifications,
    webhooks,
)
from api.v1 import hooks as registry_hooks
from service.bootstrap import Services
from service.model.ports import Publisher

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def create_app(
    services: Services, publisher: Publisher | None = None, *, stream_seconds: float = 1.0
) -> Flask:
    """Return the application over these services.

    `publisher` announces new executions to the queue; without one the scheduler finds them by
    itself. `stream_seconds` is the pause between two looks of a live stream.
    """
    app = Flask("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.extensions[KEY] = ApiContext(services, publisher, stream_seconds)
    require_token(app)
    report_problems(app)
    app.after_request(_harden)
    for resource in (
        overview,
        history,
        regions,
        agents,
        links,
        registries,
        standing,
        registry_hooks,
        examinations,
        rules,
        executions,
        copies,
        receipts,
        reports,
        flows,
        pauses,
        deletions,
        replicas,
        plans,
        releases,
        migrations,
        pipelines,
        promotions,
        verifications,
        images,
        projects,
        secrets,
        pull_tokens,
        tokens,
        audit,
        webhooks,
        health,
        hooks,
        gates,
        pages,
    ):
        app.register_blueprint(resource.blueprint)
    return app


def _harden(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    cached = request.path.startswith("/console/")
    response.headers.setdefault("Cache-Control", "no-cache" if cached else "no-store")
    return response
