"""Side by side: what does not depend on each other is done at once where answers are waited for.

Where they come at once, all time is the processor's, and threads only hand it to and fro: then the
calling thread does everything, one after the other. So the registries' own answers decide
(service.registry.answer_times), and nothing has to be set for a link.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Generic, TypeVar

from service.replication.clients import Meter

T = TypeVar("T")
R = TypeVar("R")

FAR_SECONDS = 0.015
"""From here on an answer is waited for much longer than the asking takes."""

UNANSWERED_SECONDS = 0.1
"""Whoever has answered nothing for so long is taken to be far."""


class SideBySide:
    """The threads of a process that help those of its tasks; they are started when they are needed.

    A thread that helps may itself ask for help: whoever asks does the work too, so that nobody
    waits for what has not begun.
    """

    def __init__(self, helpers: int, meter: Meter | None = None) -> None:
        """`helpers`: threads at most, beside those that ask; `meter` counts the requests of a work."""
        self._helpers = helpers
        self._meter = meter or Meter()
        self._pool = ThreadPoolExecutor(helpers, "beside") if helpers else None

    def each(
        self, items: Iterable[T], do: Callable[[T], R], *, answers: Callable[[], float]
    ) -> list[R]:
        """Do it for every item and return what came of each, in their order.

        `answers` tells how many seconds an answer is waited for, 0.0 while there was none: from
        FAR_SECONDS on others help. After an error nothing more is begun; the first one, by the
        order of the items, is raised when all that was begun has ended.
        """
        share = _Share(list(items), do)
        helping: list[Future[None]] = []
        while share.left():
            if not helping and share.left() > 1:
                seconds = answers()
                if not 0 < seconds < FAR_SECONDS:
                    helping = self._call(share, None if seconds else answers)
            share.take_one()
        share.ended.set()
        wait([job for job in helping if not job.cancel()])
        return share.outcome()

    def close(self) -> None:
        """Let the threads end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _call(self, share: _Share[T, R], unknown: Callable[[], float] | None) -> list[Future[None]]:
        """Call as many as can help; where it is not known yet whether they are needed, they look first."""
        if self._pool is None:
            return []
        into = self._meter.into()

        def help_out() -> None:
            if unknown is not None:
                share.ended.wait(UNANSWERED_SECONDS)
                if 0 < unknown() < FAR_SECONDS:
                    return
            with self._meter.collect(into):
                while share.left():
                    share.take_one()

        count = min(share.left() - 1, self._helpers)
        try:
            return [self._pool.submit(copy_context().run, help_out) for _ in range(count)]
        except RuntimeError:  # closed meanwhile; who was called finds the items nevertheless
            return []


class _Share(Generic[T, R]):
    """Items that several threads take from, one after the other."""

    def __init__(self, items: list[T], do: Callable[[T], R]) -> None:
        self.ended = threading.Event()
        self._items = items
        self._do = do
        self._lock = threading.Lock()
        self._next = 0
        self._done: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}

    def left(self) -> int:
        """Return how many items nobody has taken; none are to be after an error."""
        return 0 if self._errors else len(self._items) - self._next

    def take_one(self) -> None:
        """Do the next item, if there is one; its error is kept for `outcome`."""
        with self._lock:
            number = self._next
            if not self.left():
                return
            self._next += 1
        try:
            self._done[number] = self._do(self._items[number])
        except BaseException as error:  # noqa: BLE001 - raised where all was asked for
            self._errors[number] = error

    def outcome(self) -> list[R]:
        """Return the results by the order of the items, or raise the first error."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._done[number] for number in range(len(self._items))]
