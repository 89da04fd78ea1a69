"""Upload a blob whose bytes another copy of it reads: once over the source's link, to several registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
    with hold_all(limiter), streaming(*gates):
        session = destination.uploads.start(repository)
        try:
            connection = destination.uploads.begin_put(session, blob.digest, blob.size)
            _send(connection, feed, gates, cancelled)
            destination.uploads.finish_put(connection, session, blob.digest, blob.size)
        except BaseException:
            destination.cancel_upload(session)
            raise
    return blob.size


def takes_a_feed(destination: RegistryClient, blob: Descriptor) -> bool:
    """Whether a registry takes a blob in one PUT, as far as it is known."""
    most = destination.chunk_bytes
    return most is None or blob.size <= most


def _send(
    connection: Connection,
    feed: Feed,
    gates: list[Limiter],
    cancelled: Callable[[], bool],
) -> None:
    """Send all of it; ends early when the registry has closed: its answer says why."""
    try:
        for piece in feed.pieces(cancelled):
            if not connection.send(piece):
                return
            for gate in gates:
                if gate.gated:
                    gate.moved(len(piece))
    except BaseException:
        connection.close()
        raise
