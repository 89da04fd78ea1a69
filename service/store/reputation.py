"""What the fleet remembers of registries, in Redis: which have taken our credentials lately.

A hint: without it a refusal of credentials fails what met it.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def _quietly(self, ask: Callable[[Redis], Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            return ask(self._redis())
        except RedisError:
            return None

    def _accepted(self, registry: str, *, push: bool) -> str:
        return f"{self._prefix}accepted:{'push' if push else 'pull'}:{registry}"
