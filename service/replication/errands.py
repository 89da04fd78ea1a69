"""Large blobs sent on before their image is whole (docs/adr/0016).

A copy that goes on from another registry begins when the image is committed there. A large blob need not
wait for that, nor keep to the tree of the route: each goes its own way through all registries that are
equally near, and each of them sends about as much as it gets. That is a head start and nothing more: to whom a
blob does not come, or not in time, the copy itself brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b

from redis.exceptions import RedisError

from service.errors import StoreUnavailable
from service.model.descriptor import Descriptor
from service.model.work import CopyWork, Errand, Follower, PartBlob
from service.replication.engine import Engine
from service.telemetry import get_logger

AHEAD_BYTES = 1 << 20
"""From here on a blob's way takes longer than the asking."""

MOST_WAITING = 64
"""Messages in a region's queues beyond which a head start comes too late to be one."""

log = get_logger("errands")


class Errands:
    """Sends blobs of one copy on to those that wait for its image."""

    def __init__(self, engine: Engine, work: CopyWork) -> None:
        self._engine = engine
        self._work = work

    def begin(self, blob: Descriptor) -> None:
        """Send on a blob that the copy has brought to its destination.

        The first to get it leads from there, so that this registry sends it once.
        """
        work = self._work
        if work.ahead or not work.routed:
            return
        if blob.size < AHEAD_BYTES or work.on_conflict != "overwrite":
            return
        part = PartBlob(str(blob.digest), blob.size, blob.media_type)
        try:
            followers = in_turn(part, self._followers)
        except StoreUnavailable as error:
            log.info("not_sent_ahead", copy=work.ref.id, digest=part.digest, error=str(error))
            return
        ids = tuple(follower.copy for follower in followers)
        send(self._engine, Errand(part, work.ref.id, ids, lead=True), followers)

    @cached_property
    def _followers(self) -> list[Follower]:
        return self._engine.state.followers(self._work.ref.id)


def send(engine: Engine, errand: Errand, known: Sequence[Follower] | None = None) -> None:
    """Have an errand done where its first follower is, unless all are busy there; nobody's failure.

    Whoever is not held back any more is left out; `known`: who is, where that was asked just now.
    """
    if not errand.followers:
        return
    try:
        held = engine.state.still_held(errand.followers) if known is None else known
        if not held:
            return
        region = held[0].region or engine.settings.region
        if engine.publisher.waiting(region) < MOST_WAITING:
            ids = tuple(follower.copy for follower in held)
            engine.publisher.ahead(region, replace(errand, followers=ids), held[0].label)
    except (RedisError, StoreUnavailable) as error:
        log.info("errand_lost", digest=errand.blob.digest, error=str(error))


def in_turn(blob: PartBlob, followers: list[Follower]) -> list[Follower]:
    """Return followers in an order that differs from blob to blob: each is first, and sends most, now and then."""
    return sorted(followers, key=lambda f: blake2b(f"{blob.digest} {f.registry}".encode()).digest())
