"""Races over a blob that several images want: it crosses once, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from service.model.states import CopyState
from service.model.work import CopyRef, CopyWaits, Outcome
from service.replication import replicate as use_cases
from service.store.tables import processes
from tests.support.processes import wait_until
from tests.support.world import Image, Party, World, some_bytes

SHARED = some_bytes("shared", 200_000)


def test_a_blob_shared_by_ten_images_crosses_once(world: World) -> None:
    images = _images(world, 10)
    execution = world.plan("team/*")
    refs = world.dispatch()
    parties = [world.party(), world.party()]

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: parties[n % 2].replicate(refs[n]), range(10)))
    world.run_to_end(execution, *parties)

    assert world.states(execution) == [CopyState.COPIED] * 10
    assert world.reads(images[0].layers[0]) == 1
    assert all(world.is_whole(image) for image in images)
    totals = world.services.executions.totals(execution)
    assert totals.bytes_copied < len(SHARED) + 10 * 1000
    assert totals.blobs_mounted >= 9


def test_a_registry_that_mounts_nothing_is_read_from_itself(world: World) -> None:
    images = _images(world, 4)
    refused = world.west.fault("mount=", method="POST", refuse_mount=True, times=99)
    execution = world.plan("team/*")
    party = world.party()
    for ref in world.dispatch():
        party.replicate(ref)
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED] * 4
    assert all(world.is_whole(image) for image in images)
    assert refused.fired
    assert world.reads(images[0].layers[0]) == 1, "the source's link was crossed again"
    totals = world.services.executions.totals(execution)
    assert totals.blobs_mounted == 0
    assert totals.bytes_saved >= 3 * len(SHARED)


def test_what_is_not_near_after_all_comes_from_the_source(world: World) -> None:
    images = _images(world, 2)
    refused = world.west.fault("mount=", method="POST", refuse_mount=True, times=99)
    lost = world.west.fault(
        f"/v2/mirror/team/app./blobs/{images[0].layers[0]}", method="GET", status=404, times=99
    )
    execution = world.plan("team/*")
    party = world.party()
    for ref in world.dispatch():
        party.replicate(ref)
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED] * 2
    assert refused.fired
    assert lost.fired
    assert world.reads(images[0].layers[0]) == 2
    assert all(world.is_whole(image) for image in images)


def test_a_waiter_whose_row_does_not_say_so_yet_is_woken(world: World) -> None:
    """The leader finishes after the waiter has registered and before its row says `waiting`."""
    images = _images(world, 2)
    execution = world.plan("team/*")
    first, second = world.dispatch()
    leader, waiter = world.party(), world.party()
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{images[0].layers[0]}", method="GET", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(leader.replicate, first)
        wait_until(lambda: rule.fired, what="the leader's read")
        state = LetsGoBeforeWaiting(waiter.services.state, gate, leading)
        use_cases.replicate(waiter.with_state(state), [second])

    assert state.waited
    assert _state(world, execution, second.id) is CopyState.PENDING
    world.run_to_end(execution, waiter)
    assert world.states(execution) == [CopyState.COPIED] * 2
    assert world.reads(images[0].layers[0]) == 1


def test_a_leader_that_fails_promotes_one_waiter(world: World) -> None:
    images = _images(world, 4)
    execution = world.plan("team/*")
    first, *others = world.dispatch()
    leader, waiter = world.party(), world.party()

    with _leader_at_the_source(world, images, leader, first, status=403) as release:
        waiter.replicate(*others)
        assert [_state(world, execution, ref.id) for ref in others] == [CopyState.WAITING] * 3
        release()

    states = [_state(world, execution, ref.id) for ref in others]
    assert _state(world, execution, first.id) is CopyState.FAILED
    assert sorted(states) == [CopyState.PENDING, CopyState.WAITING, CopyState.WAITING]
    world.run_to_end(execution, waiter)
    assert sorted(world.states(execution)) == [CopyState.COPIED] * 3 + [CopyState.FAILED]
    assert world.reads(images[0].layers[0]) == 2


def test_a_corrupt_source_blob_fails_every_waiter_and_is_read_three_times_at_most(
    world: World,
) -> None:
    images = _images(world, 5)
    world.east.storage.flip_byte(images[0].layers[0], 1000)
    execution = world.plan("team/*")
    first, *others = world.dispatch()
    leader, waiter = world.party(), world.party()

    with _leader_at_the_source(world, images, leader, first) as release:
        waiter.replicate(*others)
        release()
    world.run_to_end(execution, leader, waiter)

    copies = world.copies(execution)
    assert {(copy.state, copy.failure_class) for copy in copies} == {(CopyState.FAILED, "corrupt")}
    assert world.reads(images[0].layers[0]) <= 3
    assert world.tag_at_west("team/app0", "v1") is None


def test_a_dead_leaders_blob_is_taken_over(world: World) -> None:
    images = _images(world, 2)
    execution = world.plan("team/*")
    first, second = world.dispatch()
    dead, heir = world.party(), world.party()
    scope = dead.services.clients.scope("west")
    digest = images[0].layers[0]
    dead.services.state.begin([first], dead.services.boot)
    token = f"{dead.services.boot}/x"
    dead.services.claims.claim("west", scope, digest, token)

    heir.replicate(second)
    assert _state(world, execution, second.id) is CopyState.WAITING
    dead.die()
    (waited_for,) = world.services.dispatching.overdue_waits(-1)
    assert world.services.dispatching.wake(*waited_for, everybody=False) == 1
    world.services.database.write(_forget_process(dead.services.boot))
    assert world.services.dispatching.recover_dead(max_crashes=3) == {dead.services.boot: 1}
    world.run_to_end(execution, heir)

    assert world.states(execution) == [CopyState.COPIED] * 2
    assert world.reads(digest) == 1


# ---- parts ---------------------------------------------------------------------------------------


class LetsGoBeforeWaiting:
    """A StatePort that lets the leader finish right before a row says `waiting`."""

    def __init__(self, state: Any, gate: threading.Event, leading: Future[Any]) -> None:
        self._state = state
        self._gate = gate
        self._leading = leading
        self.waited = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def post(self, outcomes: Sequence[Outcome]) -> None:
        if any(isinstance(outcome, CopyWaits) for outcome in outcomes):
            self.waited = True
            self._gate.set()
            self._leading.result(20)
        self._state.post(outcomes)


@contextmanager
def _leader_at_the_source(
    world: World, images: list[Image], party: Party, ref: CopyRef, **fault: Any
) -> Iterator[Callable[[], None]]:
    """A leader that stands before the source's answer until it is released."""
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{images[0].layers[0]}", method="GET", hold=gate, **fault)

    def release() -> None:
        gate.set()
        leading.result(20)

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(party.replicate, ref)
        wait_until(lambda: rule.fired, what="the leader's read")
        try:
            yield release
        finally:
            gate.set()


def _images(world: World, count: int) -> list[Image]:
    return [world.push(f"team/app{number}", "v1", [SHARED]) for number in range(count)]


def _state(world: World, execution: str, copy: int) -> CopyState:
    return {record.id: record.state for record in world.copies(execution)}[copy]


def _forget_process(boot: str) -> Any:
    return lambda connection: connection.execute(processes.delete().where(processes.c.boot == boot))
