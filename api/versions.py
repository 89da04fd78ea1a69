"""ETag and If-Match: who changes an object says which version was seen (RFC 9110 13.1)."""

from __future__ import annotations

import re

from flask import request

from api.problems import Problem


def etag(version: int) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


def expected_version(current: int | None) -> int | None:
    """Return the version that the store is to hold the write to; None when nothing was asked.

    `current` is the object's version, None when there is no object. Raises Problem: 412 when the
    condition does not hold, 400 when a header cannot be read.
    """
    match = request.headers.get("If-Match")
    none_match = request.headers.get("If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise Problem(400, "invalid_header", "If-None-Match takes * on a write")
        if current is not None:
            raise _failed("it exists already")
        return 0
    if match is None:
        return None
    if current is None:
        raise _failed("it does not exist")
    if match.strip() == "*":
        return current
    tags = [tag.strip() for tag in match.split(",")]
    if not all(re.fullmatch(r'(W/)?"[^"]{0,64}"', tag) for tag in tags):
        raise Problem(400, "invalid_header", 'If-Match takes * or an ETag such as "3"')
    if etag(current) not in tags:
        raise _failed(f"it is at version {current}")
    return current


def _failed(why: str) -> Problem:
    return Problem(
        412, "precondition_failed", f"the object is not as expected: {why}", hint="read it again"
    )
