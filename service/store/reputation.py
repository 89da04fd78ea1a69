"""What the fleet remembers of registries, in Redis: who took our credentials lately, and who is away.

Hints, both: without them a refusal of credentials fails what met it, and a registry that is away is found
out by each process for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis

ACCEPTED_SECONDS = 7 * 86400


class RedisReputation:
    """Remembers by the registry's name. Silent while Redis is away: then nothing is known."""

    def __init__(self, redis: Callable[[], Redis], prefix: str = "transship:") -> None:
        """`redis` is called when there is something to remember: most processes never have."""
        self._redis = redis
        self._prefix = prefix

    def accepted(self, registry: str, *, push: bool) -> None:
        """Remember that it took our credentials, to push or to pull."""
        self._quietly(
            lambda redis: redis.set(self._accepted(registry, push=push), "1", ex=ACCEPTED_SECONDS)
        )

    def was_accepted(self, registry: str, *, push: bool) -> bool:
        """Whether it took them within the last week, from any process."""
        return bool(self._quietly(lambda redis: redis.exists(self._accepted(registry, push=push))))

    def away(self, registry: str, seconds: float) -> None:
        """Remember that there is no use in asking it for so long."""
        self._quietly(lambda redis: redis.hset(self._away(), registry, str(time.time() + seconds)))

    def back(self, registry: str) -> None:
        """Remember that it has answered."""
        self._quietly(lambda redis: redis.hdel(self._away(), registry))

    def all_away(self) -> Collection[str]:
        """Return the registries that there is no use in asking now."""
        found: dict[object, bytes] = self._quietly(lambda redis: redis.hgetall(self._away())) or {}
        now = time.time()
        return {_text(name) for name, until in found.items() if float(until) > now}

    def _quietly(self, ask: Callable[[Redis], Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            return ask(self._redis())
        except RedisError:
            return None

    def _accepted(self, registry: str, *, push: bool) -> str:
        return f"{self._prefix}accepted:{'push' if push else 'pull'}:{registry}"

    def _away(self) -> str:
        return f"{self._prefix}away"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
