"""Which of a registry's credentials a request is sent with, when there are several.

Each repository belongs to the credentials whose `for` is its longest prefix; several with the same one
take turns as the registry says that one's quota is used up. A request is never sent with any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.telemetry import get_logger

if TYPE_CHECKING:
    from service.registry.auth import Authenticator

REST_SECONDS = 900.0
"""How long an account rests that is out of quota, where the registry does not say when it is back."""

MIN_REST_SECONDS = 10.0
"""It rests for so long at least: accounts whose quotas come back at once would be asked in a circle."""

MAX_REST_SECONDS = 86400.0

log = get_logger("accounts")


class Account:
    """One credential of a registry: its prefix ("": all repositories), and what answers for it."""

    def __init__(self, number: int, prefix: str, auth: Authenticator) -> None:
        """Begin with quota; `number` is its place in the registry's list."""
        self.number = number
        self.prefix = prefix
        self.auth = auth
        self.rests_until = 0.0  # by the monotonic clock


class Accounts:
    """The accounts of one registry. For any number of threads."""

    def __init__(
        self,
        registry: str,
        accounts: Sequence[Account],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Choose among these; one of them at least has the prefix "", and their numbers are their places."""
        self.all = tuple(accounts)
        self._registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._groups: dict[str, tuple[Account, ...]] = {}
        for account in accounts:
            self._groups[account.prefix] = (*self._groups.get(account.prefix, ()), account)
        self._longest_first = sorted(self._groups, key=len, reverse=True)
        self._only = accounts[0] if len(accounts) == 1 else None

    @property
    def several(self) -> bool:
        """Whether there is a choice at all."""
        return self._only is None

    @property
    def firsts(self) -> tuple[Account, ...]:
        """The first account of each prefix, in the order of the registry's list."""
        return tuple(group[0] for group in self._groups.values())

    def prefix_of(self, repository: str) -> str:
        """Return the longest prefix that a repository's name has, by whole parts of it."""
        for prefix in self._longest_first:
            if not prefix or repository == prefix or repository.startswith(f"{prefix}/"):
                return prefix
        raise AssertionError(f"{self._registry} has no account for {repository!r}")

    def of(self, repository: str, *, push: bool = False) -> Account:
        """Return the account for a repository: one with quota, else the one that has it back first.

        Pushes are always the first one's: what an upload began with, it ends with, and registries count pulls.
        """
        if self._only is not None:
            return self._only
        group, now = self._groups[self.prefix_of(repository)], self._clock()
        if push:
            return group[0]
        return next(
            (one for one in group if one.rests_until <= now),
            min(group, key=lambda one: one.rests_until),
        )

    def has_spare(self, account: Account) -> bool:
        """Whether another one with its prefix has quota left."""
        now = self._clock()
        group = self._groups[account.prefix]
        return any(one is not account and one.rests_until <= now for one in group)

    def out_of_quota(self, account: Account, back_in_seconds: float | None) -> Account | None:
        """Have an account rest; returns the one to go on with, None where all with its prefix rest."""
        rest = min(MAX_REST_SECONDS, max(MIN_REST_SECONDS, back_in_seconds or REST_SECONDS))
        with self._lock:
            now = self._clock()
            if account.rests_until <= now:
                log.warning(
                    "account_out_of_quota",
                    registry=self._registry,
                    account=account.number,
                    back_in_seconds=round(rest),
                )
            account.rests_until = now + rest
            group = self._groups[account.prefix]
            return next((one for one in group if one.rests_until <= now), None)
