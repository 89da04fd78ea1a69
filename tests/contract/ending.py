"""Temporary passwords of a provider's login: each is taken until it ends, as its provider says of them."""

from __future__ import annotations

import time

from api.samples.auth import TokenService, basic_credentials
from api.samples.http_messages import Request


class EndingUsers(dict[str, str]):
    """Users with passwords, of which those that were given an end are taken until then."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: dict[str, float] = {}
        self._all: dict[tuple[str, str], float] = {}

    def let_in(self, user: str, password: str, seconds: float) -> None:
        """Take a user's password for so long; the one before it is taken no more, but by EndingTokens."""
        self[user] = password
        self._ends[user] = self._all[user, password] = time.monotonic() + seconds

    def takes(self, user: str, password: str) -> bool:
        """Whether it is one of the user's passwords that has not ended."""
        return time.monotonic() < self._all.get((user, password), 0.0)

    def get(self, user: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the password, unless it has ended."""
        if time.monotonic() >= self._ends.get(user, float("inf")):
            return default
        return super().get(user, default)


class EndingTokens(TokenService):
    """Takes every temporary password until it ends, however many there are of a user."""

    def _basic_user(self, request: Request) -> str | None:
        found = basic_credentials(request)
        if found is not None and isinstance(self.users, EndingUsers) and self.users.takes(*found):
            return found[0]
        return super()._basic_user(request)
