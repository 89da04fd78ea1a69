"""Protections that a test can turn off, to see that its oracle notices: PROTECTIONS is the whole list.

    TRANSSHIP_TESTING=true TRANSSHIP_WITHOUT=fence,read-back

has a process do its work without them. Without TRANSSHIP_TESTING the setting is refused. Each protection
has a scenario that is green with it and red without it by what the oracle finds (tests/faults/test_teeth.py);
one that has none is red (reference/reliability.md 2.2, "Teeth").
"""

from __future__ import annotations

from types import MappingProxyType

from service.errors import InvalidConfiguration

PROTECTIONS = MappingProxyType(
    {
        "fence": "a process that lost a copy meanwhile moves no tag, and undoes what it wrote late",
        "lease": "a blob is claimed before it is moved: everybody else waits for it",
        "read-back": "a tag counts as moved when the destination tells so, not when it took the PUT",
        "digest-check": "every byte is hashed on its way, and held to the digest before the blob is closed",
        "size-check": "a blob has as many bytes as its manifest says",
        "head-distrust": "a blob that is said to be there is proved by reading its last byte",
        "complete-list": "a list that broke off or was refused is no proof that a tag is gone",
        "delete-cap": "more deletions than the rule's cap wait for somebody's approval",
        "redirect-strip": "credentials do not follow a redirect to another origin",
        "realm-check": "credentials go to token services of the registry's own or of a listed host only",
        "attempt-counter": "failures of a copy are counted, so that its attempts have an end",
        "outbox": "what was accepted is sent from SQL when its message was lost",
        "reconciler": "what a dead process held is planned again",
        "forward-only": "a copy that has ended is not begun again by a message that comes late",
        "replay": "a signed notification is taken once",
    }
)
"""Each protection's name, and what holds while it is on."""

_off: frozenset[str] = frozenset()


def turn_off(text: str) -> None:
    """Turn protections of this process off, as TRANSSHIP_WITHOUT names them, and all others on.

    Raises InvalidConfiguration for a name that is none.
    """
    global _off  # noqa: PLW0603 - read at every write of a tag: one look at a set, set at the start
    names = frozenset(filter(None, (name.strip() for name in text.split(","))))
    unknown = sorted(names - PROTECTIONS.keys())
    if unknown:
        raise InvalidConfiguration(
            f"TRANSSHIP_WITHOUT names {', '.join(map(repr, unknown))}, which is no protection",
            field="TRANSSHIP_WITHOUT",
            hint=f"protections: {', '.join(PROTECTIONS)}",
        )
    _off = names


def without(name: str) -> bool:
    """Whether a test has turned this protection off in this process."""
    return name in _off
