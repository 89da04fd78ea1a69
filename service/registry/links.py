"""Link headers (RFC 8288), Range and Content-Range values, as registries write them."""

from __future__ import annotations

import re

from service.errors import ProtocolError
from service.registry.origin import Origin, resolve_url

_LINK = re.compile(
    r"<([^<>]*)>((?:[ \t]*;[ \t]*[a-zA-Z*]+[ \t]*(?:=[ \t]*(?:\"[^\"]*\"|[^\",;\s]*))?)*)"
)
_NEXT = re.compile(r";[ \t]*rel[ \t]*=[ \t]*(?:\"([^\"]*)\"|([^\",;\s]*))", re.IGNORECASE)
_SAYS_NEXT = re.compile(r"\brel[ \t]*=[ \t]*(?:\"[^\"]*\bnext\b|next\b)", re.IGNORECASE)
_UPLOAD_RANGE = re.compile(r"(?:bytes=)?(\d{1,19})-(-?\d{1,19})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def next_link(header: str) -> str | None:
    """Return the target of the link whose relation is `next`; None when there is none."""
    for target, parameters in _LINK.findall(header):
        relation = _NEXT.search(parameters)
        if relation and "next" in (relation[1] or relation[2]).lower().split():
            return str(target)
    return None


def next_cursor(origin: Origin, current: str, header: str | None) -> str | None:
    """Return path and query of the next page; None when this was the last one.

    Raises ProtocolError when it is on another host, and when a header says that there is one and not
    where: what lies behind would be taken for absent.
    """
    target = next_link(header) if header else None
    if target is None:
        if header and _SAYS_NEXT.search(header):
            raise ProtocolError("a list goes on, and its Link cannot be read")
        return None
    there, path = resolve_url(origin, current, target)
    if there.host != origin.host:
        raise ProtocolError(f"a list goes on at another host, {there.host}: refused")
    return path


def upload_end(header: str | None) -> int | None:
    """Return the last byte's number of an upload's Range header; None for none or garbage.

    `0-0` is ambiguous: nothing, or one byte; `0--1` is Quay's nothing.
    """
    match = _UPLOAD_RANGE.fullmatch((header or "").strip())
    return int(match[2]) if match and match[1] == "0" else None


def content_range(header: str | None) -> tuple[int, int, int | None] | None:
    """Return first byte, last byte and total (None for *) of a Content-Range; None for garbage."""
    match = _CONTENT_RANGE.fullmatch((header or "").strip())
    if not match:
        return None
    return int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
