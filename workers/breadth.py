"""How many tasks a worker process takes at once: more of them while it mostly waits for answers.

Over a long link a task does nothing but wait, and so many more fit into a process; over a short one
more of them only get into each other's way (a fleet over loopback: 64 instead of 16 cost 27 % more
CPU and 15 % more requests). The number is the consumer's prefetch count: what is not taken stays in
the queue for other processes. Who has lost SQL takes one at most: it could begin none, and others would wait for
what it took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import bootsteps

from service.telemetry import get_logger

LOOK_SECONDS = 0.1
BLIND_COUNT = 1  # 0 would be any number

log = get_logger("breadth")


def breadth_step(
    near: int, far: int, is_far: Callable[[], bool], is_blind: Callable[[], bool]
) -> type[bootsteps.StartStopStep]:
    """Return a step for the consumer that takes `near` tasks at once, and `far` while `is_far`.

    While `is_blind`, SQL is away for this process, it takes one at most.
    """

    class Breadth(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, _consumer: Any, **_options: Any) -> None:
            self._timer: Any = None

        def start(self, consumer: Any) -> None:
            """Begin narrow, and look every moment."""
            self._set(consumer, near)
            self._timer = consumer.timer.call_repeatedly(LOOK_SECONDS, self._look, (consumer,))

        def stop(self, _consumer: Any) -> None:
            """Look no more."""
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        shutdown = stop

        def _look(self, consumer: Any) -> None:
            self._set(consumer, BLIND_COUNT if is_blind() else far if is_far() else near)

        @staticmethod
        def _set(consumer: Any, count: int) -> None:
            """Set what the consumer's loop gives to its channel in its next round."""
            if consumer.qos is not None and consumer.qos.value != count:
                consumer.qos.value = count
                log.info("tasks_at_once", count=count)

    return Breadth
