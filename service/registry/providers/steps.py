"""Steps that several providers' APIs have in common: numbered pages, tokens that end, makers of whom one is first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from service.errors import ProtocolError, Rejected
from service.model.endpoint import Credential

ROWS_A_PAGE = 100

LIFE_SECONDS = 60.0
"""For how long a token is believed whose end lies in the past, by another clock."""

MARGIN = 0.2
"""So much of its life before its end a token is renewed."""

Rows = list[dict[str, Any]]


def numbered(
    fetch: Callable[[int], tuple[Any, Any]], registry: str, page: int = 1
) -> Iterator[tuple[Rows, int | None]]:
    """Yield pages of a list, each with the number of the next one, from page `page` on.

    `fetch` returns the rows of a page of at most 100 and how many there are in all, a number or its text. Raises
    ProtocolError, and what `fetch` does.
    """
    seen = (page - 1) * ROWS_A_PAGE
    following: int | None = page
    while following is not None:
        rows, total = fetch(following)
        rows = [] if rows is None else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ProtocolError(f"{registry}: a list of its API that is none")
        seen += len(rows)
        more = bool(rows) and str(total).isdigit() and seen < int(total)
        following = following + 1 if more else None
        yield rows, following


def pushed_at(text: object) -> float:
    """Return the seconds of a time as Tencent writes it, with zone or without: good for comparing; 0 for none."""
    if not isinstance(text, str):
        return 0.0
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return 0.0
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def page_number(cursor: str | None) -> int:
    """Return the page that a cursor names; the first for none."""
    return int(cursor) if cursor is not None and cursor.isdigit() else 1


def ending(user: str, password: str, *, asked_at: float, until: float) -> Credential:
    """Return a login that was asked for at a monotonic second, and ends at `until` (seconds of the epoch)."""
    life = until - time.time()
    life = life if life > 0 else LIFE_SECONDS
    return Credential(user, password, renew_at=asked_at + life * (1 - MARGIN))


def make_unless_there(make: Callable[[], object], is_there: Callable[[], bool]) -> None:
    """Make something; that somebody else was faster is a success. Raises what `make` does."""
    try:
        make()
    except Rejected:  # which is all that some say of what is there already
        if not is_there():
            raise
