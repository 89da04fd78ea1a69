"""Carry out an errand: place a large blob of a copy before that begins (docs/adr/0016)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from service.errors import Cancelled, StoreUnavailable, TransshipError
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.work import BlobsAhead, CopyWork, Counters, Errand, PartBlob
from service.registry.feed import Feed
from service.replication import errands
from service.replication.copy_blob import BlobPlacer
from service.replication.engine import Engine
from service.replication.working import at_work
from service.telemetry import get_logger

log = get_logger("ahead")


def parse(errand: dict[str, Any]) -> Errand:
    """Return an errand as its message spells it."""
    return Errand(**{**errand, "blob": PartBlob(**errand["blob"])})


def place_ahead(engine: Engine, errand: Errand) -> str:
    """Place the blob where the errand says, and send on what may go on from there; returns what came of it.

    An error is nobody's failure: the copy will meet it again, or not.
    """
    try:
        if not errands.begin(engine, errand):
            return "late"
    except RedisError as error:
        log.info("errand_lost", digest=errand.blob.digest, error=str(error))
        return "lost"
    work, placed = None, False
    try:
        work = engine.state.begin_ahead(errand.follower, errand.holder)
        placed = work is not None and _place(engine, work, errand.blob)
    finally:
        answer = 0.0 if work is None else _answers_within(engine, work)
        errands.end(engine, errand, placed=placed, answer=answer)
    return "late" if work is None else "placed" if placed else "left"


def place_fed(engine: Engine, errand: Errand, feed: Feed, placed_now: Callable[[], None]) -> bool:
    """Place the blob with the bytes that another copy of this process reads; whether it is there.

    `placed_now` is called when it is there and nobody was told yet. Where it is not, the errand is still under way.
    """
    try:
        work = engine.state.begin_ahead(errand.follower, errand.holder)
        placed = work is not None and _place(engine, work, errand.blob, feed)
    except StoreUnavailable as error:
        log.info("not_placed_along", digest=errand.blob.digest, error=str(error))
        return False
    finally:
        feed.leave()
    if placed and work is not None:
        placed_now()
        errands.end(engine, errand, placed=True, answer=_answers_within(engine, work))
    return placed


def _answers_within(engine: Engine, work: CopyWork) -> float:
    sides = (work.reads_from.registry, work.destination_registry)
    try:
        return max(engine.clients.get(side).answers_within("blob") for side in sides)
    except TransshipError:
        return 0.0


def _place(engine: Engine, work: CopyWork, part: PartBlob, feed: Feed | None = None) -> bool:
    """Whether a blob is at the copy's destination now."""
    with at_work(work, "place_ahead", blob=part.digest):
        return _place_it(engine, work, part, feed)


def _place_it(engine: Engine, work: CopyWork, part: PartBlob, feed: Feed | None) -> bool:
    counters = Counters()
    blob = Descriptor(media_type=part.media_type, digest=Digest.parse(part.digest), size=part.size)
    missing = [blob]
    try:
        if engine.guard is not None:
            work = engine.guard.allowed(work)
        if work.holder not in work.holders:
            return False  # a border lies between them
        with engine.meter.collect(counters.requests):
            placer = BlobPlacer(engine, work, counters, feed=feed)
            missing = placer.settle([blob])
            missing = placer.transfer(missing)  # which writes the proofs down, be there none
        if feed is not None:
            feed.leave()  # its reader is not to wait for the accounts
    except (TransshipError, RedisError, Cancelled) as error:
        log.info("not_placed_ahead", copy=work.ref.id, digest=part.digest, error=str(error))
    with suppress(StoreUnavailable):  # then figures are lost, no bytes
        engine.post([BlobsAhead(work, counters)])
    return not missing
