"""Tells Redis's errors without loading its library: 0.1 s that a process without Redis does not pay."""

from __future__ import annotations

import sys


def is_redis_error(error: BaseException) -> bool:
    """Whether the Redis library raised it; one that is not loaded has raised nothing."""
    exceptions = sys.modules.get("redis.exceptions")
    return exceptions is not None and isinstance(error, exceptions.RedisError)
