"""Origins and URLs: what a request's target is made of, without any re-encoding."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from service.errors import ProtocolError

_PORTS = {"http": 80, "https": 443}
# Signed URLs break when they are re-encoded, so what may not stand in a request line is refused.
_SAFE = re.compile(r"[\x21\x23-\x5b\x5d\x5e-\x7e]+")
_MAX_URL = 16 * 1024


class Origin(NamedTuple):
    """Scheme, host and port: what credentials are bound to (RFC 6454)."""

    scheme: str
    host: str  # lower case, IPv6 without brackets
    port: int

    @property
    def authority(self) -> str:
        """The Host header's value: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def split_url(url: str) -> tuple[Origin, str]:
    """Split an absolute URL into its origin and path with query; raises ProtocolError.

    Refused: other schemes than http and https, user information, and every character that may not
    stand in a request line (spaces, control characters, backslash, quotes, non-ASCII).
    """
    if len(url) > _MAX_URL or not _SAFE.fullmatch(url):
        raise ProtocolError("a URL with characters that may not stand in one")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ProtocolError("a URL whose host or port is none") from None
    if parts.scheme not in _PORTS:
        raise ProtocolError(f"a URL whose scheme is {parts.scheme[:20]!r}, not http or https")
    if "@" in parts.netloc:
        raise ProtocolError("a URL with user information")
    if not parts.hostname or port == 0:
        raise ProtocolError("a URL without a host")
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    return Origin(parts.scheme, parts.hostname, port or _PORTS[parts.scheme]), target


def resolve_url(origin: Origin, target: str, location: str) -> tuple[Origin, str]:
    """Resolve a Location, Link or realm, absolute or relative, against the URL it came from."""
    if len(location) > _MAX_URL or not _SAFE.fullmatch(location):
        raise ProtocolError("a URL with characters that may not stand in one")
    if "/." not in location and "#" not in location:  # the two common forms, without urllib's time
        base = str(origin)
        if location.startswith("/") and not location.startswith("//"):
            return origin, location
        if location.startswith(base) and location[len(base) :].startswith("/"):
            return origin, location[len(base) :]
    return split_url(urljoin(f"{origin}{target}", location))


def with_query(target: str, query: str) -> str:
    """Append to a target's query, keeping what is there as it is."""
    return f"{target}{'&' if '?' in target else '?'}{query}"
