"""Notices that the connection to the queue was cut: a message may have gone with it.

Redis hands a task out before it is on the list of unacknowledged ones on our side of the wire; when the
connection breaks in between, nobody has it, and it would be missed only after the visibility timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import bootsteps

from service.telemetry import get_logger

log = get_logger("reconnect")


def reconnect_step(doubt: Callable[[], None]) -> type[bootsteps.StartStopStep]:
    """Return a step of Celery's consumer that calls `doubt` each time it has connected anew."""

    class Reconnect(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, _consumer: Any, **_options: Any) -> None:
            self._connected = False

        def start(self, _consumer: Any) -> None:
            if self._connected:
                log.warning("connected_to_the_queue_again")
                doubt()
            self._connected = True

        def stop(self, _consumer: Any) -> None:
            """Nothing is held."""

        shutdown = stop

    return Reconnect
