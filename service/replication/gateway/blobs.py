"""Blobs behind a gateway's names: streamed with flat memory and hashed, from the next registry where one fails.

The last piece of a blob is held back until the hash is the digest's: nobody receives a whole blob that is
another one. A registry that breaks off is followed by the next at the same byte, as the digest is the same.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import (
    Corrupt,
    NetworkError,
    NotFound,
    NotFoundInStore,
    RegistryError,
    StoreUnavailable,
)
from service.model.digest import Digest
from service.model.gateway import GatewayConfig, ImagePlace
from service.registry.connection import Response
from service.registry.limiter import Limiter
from service.registry.pulls import PULL_TIMEOUTS, Redirect
from service.registry.timeouts import RateGuard
from service.replication.gateway.cache import BlobCache, Draft
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.images import Images
from service.replication.gateway.memory import Member
from service.replication.gateway.places import Order
from service.replication.gateway.reading import Away
from service.telemetry import get_logger

log = get_logger("gateway")

BUFFER_BYTES = 1 << 20
SMALL_BUFFER_BYTES = 64 << 10
SHARED_BYTES = 32 << 20
"""Up to this size those who want the same blob at once wait for the first of them, where it is kept."""

WAIT_SECONDS = 20.0
CORRUPT_SECONDS = 600.0
"""So long a registry is not asked again for a blob that it gave wrongly."""

Send = Callable[[memoryview], None]
SendFile = Callable[[int, int, int], None]
"""Sends so many bytes of a file's descriptor from an offset on."""


class Opened:
    """A blob that is about to be sent: `length` bytes from byte `first`."""

    def __init__(
        self,
        blobs: Blobs,
        order: Order,
        digest: Digest,
        size: int,
        first: int,
        length: int,
        source: tuple[str, Response],
    ) -> None:
        self.length = length
        self._blobs = blobs
        self._order = order  # what is left to ask
        self._digest = digest
        self._size = size
        self._first = first
        self._at = first
        self._end = first + length
        self._registry, self._response = source
        self._guard = RateGuard(PULL_TIMEOUTS, "the registry")

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the blob, so that its hash can be held to the digest."""
        return self.length == self._size

    def send(self, send: Send, send_file: SendFile) -> None:
        """Read and send it all. Raises Away, and Corrupt, with some of it unsent: the caller cuts the connection.

        What is kept is sent from its file: that costs no more than sending what is not.
        """
        hasher = self._digest.hasher() if self.is_whole else None
        draft = self._blobs.draft(self._digest, self._size) if self.is_whole else None
        buffer = memoryview(bytearray(min(BUFFER_BYTES, max(SMALL_BUFFER_BYTES, self.length))))
        try:
            while self._at < self._end:
                count = self._read(buffer[: min(len(buffer), self._end - self._at)])
                piece = buffer[:count]
                self._at += count
                if hasher is not None:
                    hasher.update(piece)
                    if self._at == self._end and hasher.hexdigest() != self._digest.encoded:
                        raise self._blobs.corrupt(self._registry, self._digest)
                written = draft.write(piece) if draft is not None else None
                if draft is not None and self._at == self._end:
                    draft.keep()  # before the last byte is out: who comes next finds it
                if written is None:
                    send(piece)
                else:
                    send_file(written, self._at - count, count)
                self._blobs.count(self._registry, count)
        finally:
            if draft is not None:
                draft.close()
            self._response.close()

    def _read(self, view: memoryview) -> int:
        while True:
            try:
                limiter = self._blobs.limiter(self._registry)
                if limiter is not None:
                    view = view[: limiter.piece(len(view))]
                since = self._guard.now()
                count = self._response.readinto(view)
                if count:
                    self._guard.moved(count, since)
                    if limiter is not None:
                        limiter.moved(count)
                    return count
                raise NetworkError(f"{self._registry}: the blob ended early")
            except RegistryError as error:
                error.registry = error.registry or self._registry
                self._response.close()
                self._blobs.failed(self._registry, error)
                self._go_on()

    def _go_on(self) -> None:
        """Open the blob at the next registry, where this one stopped."""
        last = None if self._end == self._size else self._end - 1
        opened = self._blobs.first_that_gives(self._order, self._digest, self._size, self._at, last)
        if opened is None:
            raise Away(f"no registry goes on with {self._digest} at byte {self._at}")
        self._registry, self._response = opened


class Blobs:
    """Thread-safe; one a process."""

    def __init__(
        self, config: GatewayConfig, images: Images, cache: BlobCache, figures: GatewayFigures
    ) -> None:
        self.cache = cache
        self._config = config
        self._images = images
        self._figures = figures
        self._bad: dict[tuple[str, Digest], float] = {}
        self._limiters: dict[str, Limiter | None] = {}
        self._flights: dict[Digest, threading.Event] = {}
        self._lock = threading.Lock()

    def cached(self, source: ImagePlace, digest: Digest, size: int) -> int | None:
        """Return a descriptor of the file of a blob that is kept, and given by this name; the caller closes it."""
        descriptor = self.cache.open(digest, size)
        if descriptor is not None and not self._images.is_given(source, digest):
            os.close(descriptor)
            return None
        return descriptor

    @contextmanager
    def turn(self, digest: Digest, size: int) -> Iterator[bool]:
        """Be the one who fetches a small blob that is kept, or wait for whoever does.

        Gives whether it may be there now.
        """
        if size > SHARED_BYTES or not self.cache.would_keep(size):
            yield False
            return
        with self._lock:
            flight = self._flights.get(digest)
            mine = flight is None
            if flight is None:
                flight = self._flights[digest] = threading.Event()
        if not mine:
            flight.wait(WAIT_SECONDS)
            yield True
            return
        try:
            yield False
        finally:
            with self._lock:
                self._flights.pop(digest, None)
            flight.set()

    def open(
        self, source: ImagePlace, digest: Digest, member: Member, first: int, length: int
    ) -> Opened | Redirect | None:
        """Open a part of a blob at the first registry that gives it; None: none of them has it.

        Raises Away.
        """
        order = self._images.around(source, member)
        last = None if first + length == member.size else first + length - 1
        redirects: list[Redirect] = []
        named = {registry for registry, _ in (source, *member.places)}
        own = named - {registry for registry, _ in order.last}
        opened = self.first_that_gives(order, digest, member.size, first, last, redirects)
        if redirects:
            return redirects[0]
        if opened is None:
            return None
        if opened[0] in own:
            self._images.reading.memory.remember_given(source, digest, member)
        return Opened(self, order, digest, member.size, first, length, opened)

    def first_that_gives(
        self,
        order: Order,
        digest: Digest,
        size: int,
        first: int,
        last: int | None,
        redirects: list[Redirect] | None = None,
    ) -> tuple[str, Response] | None:
        """Take places from `order` until one gives the blob from a byte on.

        With `redirects`, a registry's redirect that may be passed on goes in there. Returns None when all
        that answer say that they have not got it; raises Away when one did not answer, or gave it wrongly lately.
        """
        away = False
        wrong: tuple[float, str] | None = None
        for registry, repository in order:
            left = self._bad.get((registry, digest), 0.0) - time.monotonic()
            if left > 0:
                wrong = min(wrong or (left, registry), (left, registry))
                continue
            passes = (
                redirects is not None
                and self._config.redirects
                and registry not in self._config.stream
            )
            try:
                answer = self._images.reading.pulls(registry).blob(
                    repository, digest, first, last, redirect=passes
                )
                if isinstance(answer, Redirect):
                    assert redirects is not None  # noqa: S101 - asked for only then
                    redirects.append(answer)
                    self._figures.redirects.labels(registry).inc()
                    return None
                self._at_byte(registry, digest, size, answer, first, last)
            except NotFound:
                order.has_not((registry, repository))
                continue
            except Corrupt as error:  # counted already
                log.warning("registry_passed_over", registry=registry, reason=str(error)[:300])
                wrong = min(wrong or (CORRUPT_SECONDS, registry), (CORRUPT_SECONDS, registry))
                continue
            except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
                self._images.reading.passed_over(registry, error)
                away = True
                continue
            self._images.reading.places.pauses.answered(registry)
            self._limiters[registry] = self._images.reading.limiter(registry)
            return registry, answer
        if away:
            raise Away(f"no registry that has {digest} answers")
        if wrong is not None:
            left, registry = wrong
            raise Away(
                f"{registry} gave other bytes than {digest} names: repair the blob there",
                retry_seconds=math.ceil(left),
            )
        return None

    def limiter(self, registry: str) -> Limiter | None:
        """Return what holds the bytes from a registry to its bandwidth; None where nothing does."""
        limiter = self._limiters.get(registry)
        return limiter if limiter is not None and limiter.gated else None

    def draft(self, digest: Digest, size: int) -> Draft | None:
        """Begin to keep a blob on disk, where that is done."""
        return self.cache.begin(digest, size)

    def corrupt(self, registry: str, digest: Digest) -> Corrupt:
        """Return the error of a registry that gave other bytes, which is not asked for them again soon."""
        error = Corrupt(f"{registry}: other bytes than {digest} names", registry=registry)
        with self._lock:
            if len(self._bad) > 10_000:
                self._bad.clear()
            self._bad[registry, digest] = time.monotonic() + CORRUPT_SECONDS
        self.failed(registry, error)
        return error

    def failed(self, registry: str, error: RegistryError) -> None:
        """Count what a registry did not give."""
        self._images.reading.passed_over(registry, error)

    def count(self, registry: str, count: int) -> None:
        """Count bytes that were sent; "": from the cache."""
        self._figures.bytes.labels(registry).inc(count)

    def _at_byte(
        self,
        registry: str,
        digest: Digest,
        size: int,
        response: Response,
        first: int,
        last: int | None,
    ) -> None:
        """Bring an answer to where it is wanted: one that ignores ranges begins at byte 0."""
        wanted = (size if last is None else last + 1) - first
        whole = response.status == 200
        if response.length is not None and response.length != (size if whole else wanted):
            response.close()
            raise self.corrupt(registry, digest)
        if not whole or not first:
            return
        left, view = first, memoryview(bytearray(BUFFER_BYTES))
        while left:
            count = response.readinto(view[: min(left, len(view))])
            if not count:
                raise NetworkError(f"{registry}: the blob ended early", registry=registry)
            left -= count
