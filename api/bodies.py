"""Request bodies: strict JSON of at most 1 MB, and strict query parameters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import Problem
from service.errors import FieldProblem, InvalidFields, InvalidInput, InvalidManifest
from service.model import strict_json
from service.model.rule_check import suggest

MAX_BODY = 1_000_000
MAX_KEY = 255
_KEY = re.compile(r"[!-~]{1,255}")
_MEDIA_TYPE = re.compile(r'application/json(; ?charset="?utf-8"?)?', re.IGNORECASE)


def read_json(*, optional: bool = False) -> Any:
    """Return the body's value; `optional` allows none at all (then an empty object).

    Raises InvalidInput for what is not strict JSON, and Problem for a wrong type, an encoding or
    too many bytes. Flask stops reading a chunked body behind MAX_CONTENT_LENGTH without a word, so
    that is one byte more than what is allowed.
    """
    raw = request.get_data(cache=False)
    if len(raw) > MAX_BODY:
        raise RequestEntityTooLarge
    if optional and not raw:
        return {}
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "the body may not be compressed")
    if not _MEDIA_TYPE.fullmatch(request.headers.get("Content-Type", "")):
        raise Problem(
            415, "unsupported_media_type", "the body must be JSON", hint="send application/json"
        )
    try:
        return strict_json.loads(raw)
    except InvalidManifest as error:
        raise InvalidInput(error.message) from error


def refuse_body() -> None:
    """Refuse a body that says something; an empty object is none. Raises InvalidFields."""
    document = read_json(optional=True)
    if not isinstance(document, dict) or document:
        first = next(iter(document), "") if isinstance(document, dict) else ""
        raise InvalidFields((FieldProblem(str(first), "this takes no body", "send none"),))


def query(allowed: Collection[str]) -> dict[str, list[str]]:
    """Return the query parameters; raises InvalidFields for one that is not known."""
    given = request.args.to_dict(flat=False)
    unknown = [
        FieldProblem(name, "unknown query parameter", suggest(name, allowed))
        for name in given
        if name not in allowed
    ]
    if unknown:
        raise InvalidFields(tuple(unknown))
    return given


def single(given: dict[str, list[str]], name: str) -> str | None:
    """Return a parameter that may stand once; raises InvalidFields when it stands twice."""
    values = given.get(name)
    if not values:
        return None
    if len(values) > 1 or not values[0]:
        raise InvalidFields((FieldProblem(name, "must be given once, with a value"),))
    return values[0]


def idempotency_key() -> str | None:
    """Return the Idempotency-Key as the store keeps it: the caller's own, whoever else uses it, too.

    Raises InvalidFields for one that is too long or not ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        problem = FieldProblem(
            "Idempotency-Key", f"must be 1 to {MAX_KEY} visible ASCII characters"
        )
        raise InvalidFields((problem,))
    return f"api:{hashlib.sha256(f'{g.actor.name}:{key}'.encode()).hexdigest()}"
