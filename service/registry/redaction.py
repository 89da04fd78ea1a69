"""Texts of registries made fit for messages and logs: short, printable, without secrets."""

from __future__ import annotations

import re

MAX_TEXT = 300

_QUERY = re.compile(r"(\bhttps?://[^\s?\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE)
_USER_INFORMATION = re.compile(r"(\bhttps?://)[^/\s@\"'<>]*@", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(authorization|token|access_token|refresh_token|identitytoken|password|secret|sig|"
    r"x-amz-[a-z-]+)([\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+",
    re.IGNORECASE,
)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Escape what does not print (control, bidirectional, ...), take out credentials and queries of URLs, and cut to `limit`."""
    text = _USER_INFORMATION.sub(r"\1", text[: limit * 8])
    text = _QUERY.sub(r"\1?...", text)
    text = _SCHEME.sub(r"\1 ...", text)
    text = _NAMED.sub(r"\1\2...", text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= limit else f"{text[:limit]}..."
