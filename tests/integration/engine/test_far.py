"""Over links whose answers are waited for, what does not depend on each other is done at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from api.samples.http_messages import Request, Response
from api.samples.registry import SampleRegistry
from service.model.states import CopyState
from service.replication.side_by_side import FAR_SECONDS
from tests.support.processes import wait_until
from tests.support.world import World, some_bytes

LAYERS = [some_bytes(f"far{number}", 3000 + number) for number in range(11)]
BLOBS = len(LAYERS) + 1  # the config, too
KINDS = ("manifest", "blob", "upload", "mount")


@dataclass
class Link:
    """Lets every answer of a registry take its time, and sees how many are waited for at once."""

    registry: SampleRegistry
    seconds: float = 1.5 * FAR_SECONDS
    together: int = 1  # so many requests for blobs are waited for, that they be under way at once
    under_way: int = 0
    most: Counter[str] = field(default_factory=Counter)
    lock: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.registry.fault(before=self._travel, after=self._arrive, times=1 << 30)

    def _travel(self, request: Request) -> None:
        with self.lock:
            self.under_way += 1
            self.most[request.method] = max(self.most[request.method], self.under_way)
            self.lock.notify_all()
            if "/blobs/" in request.target and request.method in ("GET", "PUT"):
                self.lock.wait_for(lambda: self.most[request.method] >= self.together, 10)
        time.sleep(self.seconds)

    def _arrive(self, _request: Request, _response: Response) -> None:
        with self.lock:
            self.under_way -= 1


def test_the_blobs_of_an_image_cross_a_long_link_at_once(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    half = -(-BLOBS // 2)
    east, west = Link(world.east, together=half), Link(world.west, together=half)

    world.party().replicate(ref)

    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(image)
    assert east.most["GET"] >= BLOBS / 2
    assert west.most["PUT"] >= BLOBS / 2
    assert [world.reads(layer) for layer in image.layers] == [1] * len(LAYERS)
    totals = world.services.executions.totals(execution)
    assert totals.blobs_copied == BLOBS
    assert totals.bytes_copied >= sum(len(layer) for layer in LAYERS)
    sent = len(_lines(world.east)) + len(_lines(world.west))
    assert sum(world.services.executions.requests([execution]).values()) == sent


def test_over_a_short_link_one_thread_does_it_all(world: World) -> None:
    world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    party = world.party()
    for name in ("east", "west"):
        for kind in KINDS:
            party.services.clients.get(name).http.times.note(kind, FAR_SECONDS / 10)
    west = Link(world.west, seconds=0.0)

    party.replicate(ref)

    assert world.states(execution) == [CopyState.COPIED]
    assert west.most["PUT"] == 1


def test_the_copies_of_a_page_are_made_at_once(world: World) -> None:
    images = [world.push(f"team/app{n}", "v1", [some_bytes(f"own{n}", 2000)]) for n in range(6)]
    execution = world.plan("team/*")
    refs = world.dispatch()
    west = Link(world.west, together=4)
    Link(world.east)

    tally = world.party().replicate(*refs)

    assert tally == {"copied": 6}
    assert world.states(execution) == [CopyState.COPIED] * 6
    assert all(world.is_whole(image) for image in images)
    assert west.most["PUT"] >= 4


def test_a_blob_that_fails_among_others_leaves_their_proofs_and_no_claim(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    refused = world.east.fault(f"blobs/{image.layers[4]}", method="GET", status=403)
    Link(world.east)
    west = Link(world.west, together=2)

    world.party().replicate(ref)

    assert refused.fired
    assert west.most["PUT"] >= 2
    (copy,) = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "denied")
    arrived = [layer for layer in image.layers if _is_there(world, "team/app", layer)]
    assert image.layers[4] not in arrived
    assert set(arrived) <= _proved(world, execution, image.layers)
    assert world.services.redis.keys("transship:claim:*") == []


def test_a_process_that_drains_gives_up_every_upload_and_every_claim(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    go_on = threading.Event()
    held = world.east.fault("/blobs/", method="GET", hold=go_on, times=BLOBS)
    Link(world.east)
    Link(world.west)
    party = world.party()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(party.replicate, ref)
        wait_until(lambda: held.fired >= BLOBS / 2, 10, "reads at once")
        party.engine.draining.set()
        go_on.set()
        running.result()

    assert world.services.redis.keys("transship:claim:*") == []
    assert world.tag_at_west("team/app", "v1") is None
    world.run_to_end(execution, world.party())
    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(image)


def _lines(registry: SampleRegistry) -> list[object]:
    return [line for line in list(registry.log) if line.path != "/token"]


def _is_there(world: World, repository: str, digest: str) -> bool:
    return world.west.storage.blob(f"mirror/{repository}", digest) is not None


def _proved(world: World, execution: str, digests: tuple[str, ...]) -> set[str]:
    rows = world.services.state.presence("west", "", list(digests), execution)
    return {row.digest for row in rows if row.proved_here}
