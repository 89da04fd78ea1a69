"""Kombu's Redis transport with one client a channel; kombu 5.7 makes one for each command.

Making one takes longer than most commands: it fills a table of 400 callbacks. Together that was a
quarter of what the consumer's loop used. And what is no message is passed over (reliability.md S12).
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from service.telemetry import get_logger

SCHEMES = ("redis", "rediss")

log = get_logger("broker")


class Channel(redis.Channel):
    """A channel that keeps its client for as long as it keeps the pool of its connections."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps that one itself
            return super()._create_client(asynchronous=True)  # type: ignore[misc] # celery-types lacks it
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _brpop_read(self, **options: Any) -> bool:
        """Pass over what is no message: kombu would end the worker for one that somebody else has written."""
        try:
            return bool(super()._brpop_read(**options))  # type: ignore[misc]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("message_that_is_none", error=f"{type(error).__name__}: {error}"[:200])
            return True


class Transport(redis.Transport):
    """The transport of these channels."""

    Channel = Channel


def use() -> None:
    """Have kombu speak to Redis by this transport, whatever connects from now on."""
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
