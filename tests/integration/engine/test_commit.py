"""Races at the commit: the newest digest wins, an old fence moves no tag, a success is one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from service.model.states import CopyState, ExecutionState
from service.model.work import CopyRef
from service.replication.reconcile import Reconciler
from service.store.tables import copies, processes
from tests.integration.engine.databases import on_both_databases
from tests.support.processes import wait_until
from tests.support.world import Party, World, some_bytes

pytestmark = on_both_databases

LAYERS = [some_bytes("one", 50_000), some_bytes("two", 60_000)]


def test_a_tag_that_moves_during_its_copy_ends_at_the_newest_digest(world: World) -> None:
    old = world.push("team/app", "v1", [LAYERS[0]])
    moved = world.east.fault(
        f"blobs/{old.layers[0]}",
        method="GET",
        before=lambda _request: world.push("team/app", "v1", [LAYERS[1]], "new"),
    )
    execution = world.plan("team/*")
    party = world.party()

    world.run_to_end(execution, party)

    assert moved.fired == 1
    (copy,) = world.copies(execution)
    new = world.east.storage.manifest("team/app", "v1")
    assert new is not None
    assert (copy.state, copy.digest) == (CopyState.COPIED, new.digest)
    assert world.tag_at_west("team/app", "v1") == new.digest != old.digest
    assert world.tag_puts("team/app", "v1") == 1


def test_a_tag_that_never_rests_is_superseded_after_three_new_plans(world: World) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    moves: list[int] = []

    def move(_request: object) -> None:
        moves.append(1)
        world.push("team/app", "v1", [some_bytes(f"move{len(moves)}", 40_000)])

    world.east.fault("team/app/blobs/", method="GET", before=move, times=1000)
    execution = world.plan("team/*")

    world.run_to_end(execution, world.party())

    (copy,) = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.SUPERSEDED, "superseded")
    assert copy.attempts == 1 + world.settings.max_replans
    assert world.tag_at_west("team/app", "v1") is None
    assert [e.state for e in world.services.dispatching.end_executions()] == [ExecutionState.FAILED]


def test_a_tag_that_goes_away_is_skipped_and_moves_nothing(world: World) -> None:
    image = world.push("team/app", "v1", [LAYERS[0]])
    world.east.fault(
        f"blobs/{image.layers[0]}",
        method="GET",
        before=lambda _request: world.east.storage.delete_tag("team/app", "v1"),
    )
    execution = world.plan("team/*")

    world.run_to_end(execution, world.party())

    assert world.states(execution) == [CopyState.SKIPPED]
    assert world.tag_at_west("team/app", "v1") is None


def test_an_old_fence_never_moves_the_tag(world: World) -> None:
    """The slow holder stands at its last look at the source while another commits the newest."""
    world.push("team/app", "v1", [LAYERS[0]])
    execution = world.plan("team/*")
    (ref,) = world.dispatch()
    slow, heir = world.party(), world.party()
    gate = threading.Event()
    rule = world.east.fault("team/app/manifests/v1", method="HEAD", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow.replicate, ref)
        wait_until(lambda: rule.fired, what="the last look at the source")
        _give_up_on(world, slow)
        newest = world.push("team/app", "v1", [LAYERS[1]], "new")
        heir_refs = world.dispatch()
        heir.replicate(*heir_refs)
        world.run_to_end(execution, heir)
        gate.set()
        running.result(20)

    assert world.tag_at_west("team/app", "v1") == newest.digest
    assert world.tag_puts("team/app", "v1") == 1
    (copy,) = world.copies(execution)
    assert (copy.state, copy.digest) == (CopyState.COPIED, newest.digest)


def test_a_stop_keeps_the_tag_where_it_is(world: World) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    execution = world.plan("team/*")
    (ref,) = world.dispatch()
    gate = threading.Event()
    rule = world.east.fault("team/app/manifests/v1", method="HEAD", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.party().replicate, ref)
        wait_until(lambda: rule.fired, what="the last look at the source")
        world.services.executions.request_stop(execution)
        gate.set()
        running.result(20)

    assert world.tag_puts("team/app", "v1") == 0
    assert world.states(execution) == [CopyState.STOPPED]
    assert [e.state for e in world.services.dispatching.end_executions()] == [
        ExecutionState.STOPPED
    ]


def test_two_commits_of_one_fence_leave_one_success(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    parties = [_fanning(world), _fanning(world)]
    ref = _parts_done(world, parties[0])

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda n: parties[n % 2].commit(ref), range(4)))

    assert sorted(outcomes) == ["copied", "fenced", "fenced", "fenced"]
    assert world.tag_puts("team/app", "v1") == 1
    assert world.is_whole(image)
    assert world.services.executions.totals(execution).copied == 1


def test_a_commit_whose_chord_was_lost_is_sent_by_the_reconciler(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    party = _fanning(world)
    ref = _parts_done(world, party)
    reconciler = _reconciler(world, party)

    reconciler.reconcile()
    assert party.publisher.commits == []
    _older(world, world.settings.waiting_grace_seconds + 1)
    reconciler.reconcile()
    reconciler.reconcile()

    assert party.publisher.commits == [ref]
    assert party.commit(ref) == "copied"
    assert world.states(execution) == [CopyState.COPIED]
    assert world.tag_at_west("team/app", "v1") == image.digest


def test_a_commit_finds_out_by_itself_that_a_part_did_nothing(world: World) -> None:
    """A chord that fires too early costs another round, never a tag without its blobs."""
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    party = _fanning(world)
    (ref,) = world.dispatch()
    party.replicate(ref)
    assert party.copy_part(ref, 0) == "placed"

    assert party.commit(ref) == "fenced"

    assert world.tag_at_west("team/app", "v1") is None
    ((_, count),) = party.publisher.fanned_out
    assert [party.copy_part(ref, part) for part in range(1, count)] == ["placed"] * (count - 1)
    assert party.commit(ref) == "copied"
    assert world.states(execution) == [CopyState.COPIED]
    assert world.tag_at_west("team/app", "v1") == image.digest
    assert world.is_whole(image)


def test_a_part_delivered_twice_is_carried_out_once(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    world.plan("team/*")
    parties = [_fanning(world), _fanning(world)]
    (ref,) = world.dispatch()
    parties[0].replicate(ref)
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{image.layers[1]}", method="GET", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(parties[0].copy_part, ref, 0)
        wait_until(lambda: rule.fired, what="the first delivery's read")
        assert parties[1].copy_part(ref, 0) == "fenced"
        assert parties[0].copy_part(ref, 0) == "fenced"
        gate.set()
        assert first.result(20) == "placed"

    assert world.reads(image.layers[1]) == 1


def test_a_redis_that_forgot_has_everything_unowned_sent_again(world: World) -> None:
    world.push("team/a", "v1", [LAYERS[0]])
    world.push("team/b", "v1", LAYERS)
    execution = world.plan("team/*")
    party = _fanning(world)
    party.services.claims.new_epoch()
    reconciler = _reconciler(world, party)
    reconciler.reconcile()
    sent = world.dispatch()
    party.replicate(sent[1])
    assert sorted(world.states(execution)) == [CopyState.COPYING, CopyState.DISPATCHED]

    world.redis.flushall()
    reconciler.reconcile()

    assert sorted(world.states(execution)) == [CopyState.COPYING, CopyState.PENDING]
    ((_, count),) = party.publisher.fanned_out
    assert [party.copy_part(*part) for part in party.publisher.parts] == ["placed"] * count
    assert party.commit(sent[1]) == "copied"
    world.run_to_end(execution, world.party())
    assert world.states(execution) == [CopyState.COPIED] * 2


# ---- parts ---------------------------------------------------------------------------------------


def _fanning(world: World) -> Party:
    """A process that makes a part of every blob."""
    return world.party(small_image_bytes=1, small_blob_bytes=1000)


def _parts_done(world: World, party: Party) -> CopyRef:
    (ref,) = world.dispatch()
    assert party.replicate(ref) == {"CopyFansOut": 1}
    ((published, count),) = party.publisher.fanned_out
    assert published == ref
    for part in range(count):
        assert party.copy_part(ref, part) == "placed"
    return ref


def _reconciler(world: World, party: Party) -> Reconciler:
    claims = party.services.claims
    return Reconciler(
        world.settings,
        world.services.dispatching,
        party.publisher,
        claims.epoch,
        claims.new_epoch,
        lambda registry, digest: claims.state(registry, "", digest),
    )


def _older(world: World, seconds: float) -> None:
    world.services.database.write(
        lambda connection: connection.execute(
            copies.update().values(updated_at=copies.c.updated_at - seconds)
        )
    )


def _give_up_on(world: World, party: Party) -> None:
    """Count a process that still runs as dead."""
    party.die()
    world.services.database.write(
        lambda connection: connection.execute(
            processes.delete().where(processes.c.boot == party.services.boot)
        )
    )
    assert world.services.dispatching.recover_dead(max_crashes=3)
