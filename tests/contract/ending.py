"""Temporary passwords of a provider's login: each is taken until it ends, as its provider says of them."""

from __future__ import annotations

import time


class EndingUsers(dict[str, str]):
    """Users with passwords, of which those that were given an end are taken until then."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: dict[str, float] = {}

    def let_in(self, user: str, password: str, seconds: float) -> None:
        """Take a user's password for so long; the one before it is taken no more."""
        self[user] = password
        self._ends[user] = time.monotonic() + seconds

    def get(self, user: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the password, unless it has ended."""
        if time.monotonic() >= self._ends.get(user, float("inf")):
            return default
        return super().get(user, default)
