"""What goes on from a copy: large blobs, along with it or from its destination (docs/adr/0016)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

from service.model.descriptor import Descriptor
from service.model.work import CopyWork, Errand
from service.registry.feed import Feed, Feeds
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
        self._placed: dict[
            str, set[int]
        ] = {}  # blob: the copies that it was brought to along with this one

    def offer(self, blob: Descriptor) -> None:
        """Have others bring on a blob that is at the copy's destination now; nobody's failure."""
        self._errands.offer(blob, frozenset(self._placed.get(str(blob.digest), ())))

    @contextmanager
    def along(self, blob: Descriptor) -> Iterator[Feeds]:
        """Feed others with a blob while the copy reads it. They end by themselves."""
        placed = self._placed.setdefault(str(blob.digest), set())
        fed = self._errands.feed(blob)
        alongs = [_Along(self._engine, errand, registry, placed) for errand, registry in fed]
        feeds = Feeds([along.feed for along in alongs])
        try:
            yield feeds
        except BaseException:
            if alongs:
                self._errands.broke_off(blob)
            raise
        finally:
            feeds.end()


class _Along:
    """One errand with its feed and its thread."""

    def __init__(self, engine: Engine, errand: Errand, registry: str, placed: set[int]) -> None:
        self.feed = Feed(errand.blob.size)
        self._engine = engine
        self._errand = errand
        self._registry = registry
        self._all_placed = placed
        run = copy_context().run
        thread = threading.Thread(target=run, args=(self._run,), name="along", daemon=True)
        engine.followers.begin()
        try:
            thread.start()
        except RuntimeError:  # the machine has no room for one more
            self._close(placed=False)

    def _run(self) -> None:
        placed = False
        try:
            placed = place_fed(self._engine, self._errand, self.feed, self._note)
        except Exception:
            log.exception("not_placed_along", digest=self._errand.blob.digest)
        finally:
            self._close(placed=placed)

    def _note(self) -> None:
        self._all_placed.add(self._errand.follower)

    def _close(self, *, placed: bool) -> None:
        self.feed.leave()
        self._engine.followers.end(self._registry, too_slow=self.feed.too_slow)
        if not placed:
            errands.leave(self._engine, self._errand)
