"""Lists page by page: an opaque cursor in the body and a Link header (RFC 8288)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import Response, json, request

from api.bodies import query, single
from service.errors import FieldProblem, InvalidFields

T = TypeVar("T")
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PARAMETERS = {
    "limit": f"items on a page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} when it is left out",
    "cursor": "where the page begins: `next` of the page before",
}


def page(
    kind: str,
    fetch: Callable[[str | None, int, dict[str, list[str]]], Sequence[T]],
    key: Callable[[T], str],
    show: Callable[[T], dict[str, Any]],
    *,
    grammar: str,
    filters: Sequence[str] = (),
) -> Response:
    """Answer one page of a list.

    `fetch(after, limit, parameters)` gives the items behind the key `after`; one more than shown
    is asked for, to know whether there is a next page. A cursor is bound to `kind` and `grammar`.
    Raises InvalidFields for a bad limit or cursor.
    """
    given = query([*PARAMETERS, *filters])
    limit = _limit(single(given, "limit"))
    cursor = single(given, "cursor")
    after = None if cursor is None else _read(kind, cursor, grammar)
    items = list(fetch(after, limit + 1, given))
    following = _write(kind, key(items[limit - 1])) if len(items) > limit else None
    body = {"items": [show(item) for item in items[:limit]], "next": following}
    response = Response(f"{json.dumps(body)}\n", mimetype="application/json")
    if following is not None:
        pairs = [(name, value) for name, values in given.items() for value in values]
        pairs = [pair for pair in pairs if pair[0] != "cursor"] + [("cursor", following)]
        response.headers["Link"] = f'<{request.path}?{urlencode(pairs)}>; rel="next"'
    return response


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidFields((FieldProblem("limit", f"must be a number from 1 to {MAX_LIMIT}"),))
    return int(text)


def _write(kind: str, key: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


def _read(kind: str, cursor: str, grammar: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found, _, key = text.partition(":")
    if found != kind or not re.fullmatch(grammar, key) or _write(kind, key) != cursor:
        problem = FieldProblem(
            "cursor", "is not one of this list", "take `next` of a page as it is"
        )
        raise InvalidFields((problem,))
    return key
