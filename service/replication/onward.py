"""What goes on from a copy: large blobs, along with it or from its destination (docs/adr/0016)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context

from service.model.descriptor import Descriptor
from service.model.work import CopyWork, Errand
from service.registry.feed import PATIENCE_SECONDS, Feed
from service.replication import errands
from service.replication.ahead import place_fed
from service.replication.engine import Engine
from service.telemetry import get_logger

log = get_logger("onward")


class Onward:
    """Sends large blobs of one copy on to those that go on from it."""

    def __init__(self, engine: Engine, work: CopyWork) -> None:
        self._engine = engine
        self._errands = errands.Errands(engine, work)
        self._fed: dict[str, list[int]] = {}

    def offer(self, blob: Descriptor) -> None:
        """Have others bring on a blob that is at the copy's destination now; nobody's failure."""
        self._errands.offer(blob, self._fed.get(str(blob.digest), ()))

    @contextmanager
    def along(self, blob: Descriptor) -> Iterator[Sequence[Feed]]:
        """Feed others with a blob while the copy reads it.

        Waits for them for a moment in the end: one that is stuck goes on by itself.
        """
        alongs = [_Along(self._engine, errand) for errand in self._errands.feed(blob)]
        try:
            yield [along.feed for along in alongs]
        finally:
            for along in alongs:
                along.feed.end()
            until = time.monotonic() + PATIENCE_SECONDS
            self._fed[str(blob.digest)] = [
                along.follower for along in alongs if along.is_placed(until)
            ]


class _Along:
    """One errand with its feed and its thread."""

    def __init__(self, engine: Engine, errand: Errand) -> None:
        self.feed = Feed(errand.blob.size)
        self.follower = errand.follower
        self._engine = engine
        self._errand = errand
        self._placed = False
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="along", daemon=True)
        self._thread.start()

    def is_placed(self, until: float) -> bool:
        """Whether the blob is there; waits until a moment of the monotonic clock to know."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return self._placed

    def _run(self) -> None:
        try:
            self._placed = place_fed(self._engine, self._errand, self.feed)
        except Exception:
            log.exception("not_placed_along", digest=self._errand.blob.digest)
        if self._placed:
            return
        if self.feed.broke_off:
            errands.end(self._engine, self._errand, placed=False, answer=0.0)
        else:
            errands.leave(self._engine, self._errand)
