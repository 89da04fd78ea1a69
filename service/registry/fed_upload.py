"""Upload a blob whose bytes another copy of it reads: once over the source's link, to several registries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

from service.errors import Cancelled, Rejected
from service.model.descriptor import Descriptor
from service.registry.connection import Connection
from service.registry.feed import Feed
from service.registry.limiter import Limiter, hold_all, streaming

if TYPE_CHECKING:
    from service.registry.client import RegistryClient


def upload_fed(
    destination: RegistryClient,
    repository: str,
    blob: Descriptor,
    feed: Feed,
    *,
    cancelled: Callable[[], bool],
    pace: Callable[[], Limiter] | None = None,
) -> int:
    """Write what comes by the feed, in one PUT; returns the bytes written. The reader has judged the digest.

    Nothing is tried twice, since the bytes are gone. Raises Cancelled where they end, or are no longer
    wanted, and RegistryErrors.
    """
    limiter, gate = destination.http.limiter, pace() if pace is not None else None
    gates = [one for one in (limiter, gate) if one is not None]
    pieces = feed.pieces(cancelled)
    first = next(pieces)  # before anything is taken or opened: the reader may have to wait itself
    with hold_all(limiter), streaming(*gates):
        if feed.is_left:
            raise Cancelled  # it came too late to its slot
        session = destination.uploads.start(repository)
        try:
            connection = destination.uploads.begin_put(session, blob.digest, blob.size)
            _send(connection, chain([first], pieces), gates)
            destination.uploads.finish_put(connection, session, blob.digest, blob.size)
        except BaseException as error:
            if isinstance(error, Rejected) and error.status == 413:
                destination.learn_chunks(session.minimum_chunk)
            destination.cancel_upload(session)
            raise
    return blob.size


def takes_a_feed(destination: RegistryClient, blob: Descriptor) -> bool:
    """Whether a registry takes a blob in one PUT, as far as it is known."""
    most = destination.chunk_bytes
    return most is None or blob.size <= most


def _send(connection: Connection, pieces: Iterable[bytes], gates: list[Limiter]) -> None:
    """Send all of it; ends early when the registry has closed: its answer says why."""
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                gated = [gate for gate in gates if gate.gated]
                most = len(rest)
                for gate in gated:
                    most = gate.piece(most)
                if not connection.send(rest[:most]):
                    return
                for gate in gated:
                    gate.moved(most)
                rest = rest[most:]
    except BaseException:
        connection.close()
        raise
