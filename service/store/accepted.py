"""Which registries have taken our credentials lately, remembered for the fleet in Redis.

A hint, asked for only when one refuses them: without it a refusal fails what met it, as it would at a
registry that has never taken them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis import Redis

SECONDS = 7 * 86400


class RedisAcceptance:
    """Remembers by registry, and by whether it was to push."""

    def __init__(self, redis: Callable[[], Redis], prefix: str = "transship:") -> None:
        """`redis` is called when there is something to remember: most processes never have."""
        self._redis = redis
        self._prefix = prefix

    def note(self, registry: str, *, push: bool) -> None:
        """Remember that the registry took them; nothing when Redis is away."""
        from redis.exceptions import RedisError

        try:
            self._redis().set(self._key(registry, push=push), "1", ex=SECONDS)
        except RedisError:
            return

    def known(self, registry: str, *, push: bool) -> bool:
        """Whether it took them within the last week, from any process."""
        from redis.exceptions import RedisError

        try:
            return bool(self._redis().exists(self._key(registry, push=push)))
        except RedisError:
            return False

    def _key(self, registry: str, *, push: bool) -> str:
        return f"{self._prefix}accepted:{'push' if push else 'pull'}:{registry}"
