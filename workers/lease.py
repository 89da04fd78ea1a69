"""Renews the lease on tasks that run longer than the visibility timeout (reference/celery.md 2.4)."""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps
from redis.exceptions import RedisError

from service.telemetry import get_logger

log = get_logger("lease")


class Lease(bootsteps.StartStopStep):
    """Moves the score of every unacknowledged message of this consumer forward.

    Runs in the consumer's loop, so that a frozen process loses its leases. XX never revives a
    message that was acknowledged or taken back already.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, _consumer: Any, **_options: Any) -> None:
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Renew three times in a visibility timeout."""
        options = consumer.app.conf.broker_transport_options
        every = options["visibility_timeout"] / 3
        self._timer = consumer.timer.call_repeatedly(every, self._renew, (consumer,))

    def stop(self, _consumer: Any) -> None:
        """Renew no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    shutdown = stop

    def _renew(self, consumer: Any) -> None:
        try:
            channel = consumer.task_consumer.channel
            tags = list(channel.qos._delivered)  # noqa: SLF001 - held to 5.7 by a test
            if tags:
                now = time.time()
                with channel.conn_or_acquire() as client:
                    client.zadd(channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)
        except (RedisError, OSError, AttributeError) as error:
            log.warning("lease_not_renewed", error=f"{type(error).__name__}: {error}")
