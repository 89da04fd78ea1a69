"""Carry out an errand: place a large blob of a copy that is still held back, and pass the errand on.

A blob doubles: who got it shares those that still wait with the one it came from (docs/adr/0016).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from service.errors import Cancelled, StoreUnavailable, TransshipError
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.work import BlobsAhead, CopyWork, Counters, Errand, PartBlob
from service.replication.copy_blob import BlobPlacer
from service.replication.engine import Engine
from service.replication.errands import in_turn, send
from service.telemetry import get_logger

log = get_logger("ahead")


def parse(errand: dict[str, Any]) -> Errand:
    """Return an errand as its message spells it."""
    return Errand(
        PartBlob(**errand["blob"]),
        errand["holder"],
        tuple(errand["followers"]),
        lead=errand["lead"],
    )


def place_ahead(engine: Engine, errand: Errand) -> str:
    """Place the blob for the first follower, and send it on to the others; returns what came of the first.

    An error is nobody's failure: the copy will meet it again, or not. Then the others get the blob from
    where this one was to get it.
    """
    first, *rest = errand.followers
    work = engine.state.begin_ahead(first, errand.holder)
    placed = work is not None and _place(engine, work, errand.blob)
    if work is None or not placed:
        send(engine, replace(errand, followers=tuple(rest)))
        return "late" if work is None else "left"
    for left in shared(errand):
        send(engine, left)
    further = engine.state.followers(first, beyond=work.reads_from.registry)
    ways = tuple(follower.copy for follower in in_turn(errand.blob, further))
    send(engine, Errand(errand.blob, first, ways, lead=True))
    return "placed"


def shared(errand: Errand) -> tuple[Errand, Errand]:
    """Return the errands that are left when the first follower has the blob."""
    first, *rest = errand.followers
    mine, theirs = (rest, []) if errand.lead else (rest[::2], rest[1::2])
    return Errand(errand.blob, first, tuple(mine)), replace(errand, followers=tuple(theirs))


def _place(engine: Engine, work: CopyWork, part: PartBlob) -> bool:
    """Whether a blob is at the copy's destination now."""
    counters = Counters()
    blob = Descriptor(media_type=part.media_type, digest=Digest.parse(part.digest), size=part.size)
    missing = [blob]
    try:
        if engine.guard is not None:
            work = engine.guard.allowed(work)
        if work.holder not in work.holders:
            return False  # a border lies between them
        with engine.meter.collect(counters.requests):
            placer = BlobPlacer(engine, work, counters)
            missing = placer.settle([blob])
            missing = placer.transfer(missing)  # which writes the proofs down, be there none
    except (TransshipError, RedisError, Cancelled) as error:
        log.info("not_placed_ahead", copy=work.ref.id, digest=part.digest, error=str(error))
    with suppress(StoreUnavailable):  # then figures are lost, no bytes
        engine.post([BlobsAhead(work, counters)])
    return not missing
