"""WWW-Authenticate: what a registry asks for (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEADER = 8 * 1024

_SEPARATORS = re.compile(r"[ \t,]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme (lower case) and its parameters (names in lower case)."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read all challenges of the header, several headers being joined by commas.

    What comes after something malformed is left out; the challenges before it are still good.
    """
    header = header[:MAX_HEADER]
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while True:
        position = _end(_SEPARATORS, header, position)
        name = _TOKEN.match(header, position)
        if not name:
            break
        equals = _EQUALS.match(header, name.end())
        if equals and found:
            value = _QUOTED.match(header, equals.end())
            if value:
                text = re.sub(r"\\(.)", r"\1", value[1])
            else:
                value = _URL_LIKE.match(header, equals.end()) or _TOKEN.match(header, equals.end())
                if not value:
                    break
                text = value[0]
            found[-1][1].setdefault(name[0].lower(), text)
            position = value.end()
            continue
        if equals:
            break
        found.append((name[0].lower(), {}))
        token68 = _TOKEN68.match(header, name.end())
        position = token68.end() if token68 and not _is_scheme(token68[0]) else name.end()
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


# A realm that forgot its quotes: no token, yet clear.
_URL_LIKE = re.compile(r"https?://[^\s,\"]+")


def _is_scheme(text: str) -> bool:
    """Whether what follows a scheme is another scheme (a missing comma), not its token68."""
    return text.strip().lower() in {"basic", "bearer"}


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
