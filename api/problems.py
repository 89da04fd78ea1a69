"""Every error as a problem document (RFC 9457): what happened, in which field, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, json, request
from werkzeug.exceptions import HTTPException

from service import errors
from service.model.rule_check import suggest
from service.telemetry import get_logger

log = get_logger("api")

_STATUS: tuple[tuple[type[errors.TransshipError], int], ...] = (
    (errors.InvalidInput, 400),
    (errors.NotFoundInStore, 404),
    (errors.Conflict, 409),
    (errors.StoreUnavailable, 503),
    (errors.RegistryError, 502),
)


class Problem(Exception):
    """An answer that is an error, decided by the API itself."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})


def report_problems(app: Flask) -> None:
    """Have all errors of the application's views answered as problem documents."""
    app.register_error_handler(Problem, _own)
    app.register_error_handler(errors.TransshipError, _of_the_service)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _unexpected)


def _answer(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    fields: list[dict[str, str]] | None = None,
) -> Response:
    document: dict[str, Any] = {
        "type": f"urn:transship:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request.path,
    }
    if hint:
        document["hint"] = hint
    if fields:
        document["errors"] = fields
    return Response(
        f"{json.dumps(document)}\n",
        status=status,
        headers=dict(headers or {}),
        mimetype="application/problem+json",
    )


def _own(problem: Problem) -> Response:
    return _answer(
        problem.status, problem.code, problem.detail, hint=problem.hint, headers=problem.headers
    )


def _of_the_service(error: errors.TransshipError) -> Response:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return _unexpected(error)
    headers = {"Retry-After": "2"} if status == 503 else {}
    if status == 503:
        log.warning("store_unavailable", detail=error.message)
        return _answer(503, error.code, "the database does not answer", headers=headers)
    return _answer(
        status, error.code, error.message, hint=error.hint, headers=headers, fields=_fields(error)
    )


def _fields(error: errors.TransshipError) -> list[dict[str, str]]:
    if isinstance(error, errors.InvalidFields):
        return [
            {"field": one.path, "message": one.message, "hint": one.hint} for one in error.problems
        ]
    if isinstance(error, errors.InvalidInput) and error.field:
        return [{"field": error.field, "message": error.message, "hint": error.hint}]
    return []


def _of_http(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {
        name: value
        for name, value in error.get_headers()
        if name.lower() in {"allow", "retry-after"}
    }
    code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("'", "")
    if status == 404 and request.path.startswith("/api"):
        return _answer(404, code, f"there is no route {request.path}", hint=_near(request.path))
    return _answer(status, code, error.description or "", headers=headers)


def _near(path: str) -> str:
    """Return which kind of object was probably meant."""
    kinds = {
        rule.rule.split("/")[3]
        for rule in current_app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
    }
    words = path.split("/")
    kind = words[3] if len(words) > 3 else ""
    close = suggest(f"/api/v1/{kind}", [f"/api/v1/{one}" for one in kinds])
    if kind in kinds or not close.startswith("did you mean"):
        close = f"below /api/v1 there are {', '.join(sorted(kinds))}"
    return f"{close}; /openapi.json has every route"


def _unexpected(error: Exception) -> Response:
    log.error("request_failed", path=request.path, method=request.method, exc_info=error)
    return _answer(500, "internal", "something went wrong; the server's log has the details")
