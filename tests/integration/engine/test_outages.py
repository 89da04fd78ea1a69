"""Redis or SQL away for a while: no copy is blamed, held for good, or lost (promises 3 and 5)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis as redis_library
from sqlalchemy import select

from service.errors import StoreUnavailable
from service.model.ports import ClaimState
from service.model.states import CopyState
from service.model.work import ProcessReport
from service.replication import replicate as use_cases
from service.replication.dispatch import Dispatcher
from service.replication.heartbeat import Heartbeat
from service.replication.plan import Planner
from service.replication.reconcile import Reconciler
from service.store.claims import RedisClaims
from service.store.tables import copies, copy_blobs, processes
from tests.support.processes import wait_until
from tests.support.world import RecordingPublisher, World, a_rule, some_bytes

LAYERS = [some_bytes("one", 50_000), some_bytes("two", 60_000)]


def test_a_redis_that_restarts_during_a_copy_is_no_fault_of_the_copy(world: World) -> None:
    images = [world.push(f"team/app{n}", "v1", [LAYERS[n]]) for n in range(2)]
    execution = world.plan("team/*")
    refs = world.dispatch()
    party = world.party()
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{images[0].layers[0]}", method="GET", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(party.replicate, *refs)
        wait_until(lambda: rule.fired, what="the read")
        world.redis.kill()
        gate.set()
        running.result(60)
    world.redis.start()
    party.services.claims.keep_alive(party.services.boot, 120)
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED] * 2
    assert all(world.is_whole(image) for image in images)
    assert _failures(world) == [0, 0]


def test_an_outcome_that_sql_does_not_take_is_told_until_it_does(world: World) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    execution = world.plan("team/*")
    refs = world.dispatch()
    party = world.party()
    state = Fails(party.services.state, "post", times=2)

    use_cases.replicate(party.with_state(state), refs)

    assert state.failed == 2
    assert world.states(execution) == [CopyState.COPIED]


def test_a_process_that_drains_does_not_wait_for_sql(world: World) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    execution = world.plan("team/*")
    refs = world.dispatch()
    party = world.party()
    party.engine.draining.set()

    with pytest.raises(StoreUnavailable):
        use_cases.replicate(party.with_state(Fails(party.services.state, "post", times=9)), refs)

    party.services.state.farewell(party.services.boot)
    world.services.database.write(_silence)
    assert world.services.dispatching.recover_dead(max_crashes=3) == {party.services.boot: 1}
    world.run_to_end(execution, world.party())
    assert world.states(execution) == [CopyState.COPIED]


def test_proofs_that_sql_does_not_take_leave_no_claim_behind(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    refs = world.dispatch()
    party, other = world.party(), world.party()
    state = Fails(party.services.state, "prove", times=1, when=bool)

    use_cases.replicate(party.with_state(state), refs)

    assert state.failed == 1
    assert world.services.redis.keys("transship:claim:*") == []
    world.run_to_end(execution, other)
    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(image)
    assert _failures(world) == [0]


def test_a_claim_whose_release_redis_did_not_hear_is_let_go_later(world: World) -> None:
    client = DeafOnce(world.services.redis)
    claims, place = RedisClaims(client), ("west", "", "sha256:" + "a" * 64)
    claims.keep_alive("a", 60)
    claims.claim(*place, "a/1")
    client.deaf = True
    with pytest.raises(redis_library.ConnectionError):
        claims.finish("west", "", [place[2]], "a/1", "mirror/app")
    assert claims.moving(*place)

    claims.keep_alive("a", 60)

    assert not claims.moving(*place)


def test_a_queue_that_is_away_does_not_cost_the_rest_of_the_page(world: World) -> None:
    large = world.push("team/a", "v1", LAYERS)
    small = world.push("team/b", "v1", [some_bytes("small", 100)])
    execution = world.plan("team/*")
    refs = world.dispatch()
    party = world.party(small_image_bytes=10_000, small_blob_bytes=1000)
    engine = replace(party.engine, publisher=Away())

    use_cases.replicate(engine, refs)

    states = dict(
        zip(
            (c.source_repository for c in world.copies(execution)),
            world.states(execution),
            strict=True,
        )
    )
    assert states == {"team/a": CopyState.PENDING, "team/b": CopyState.COPIED}
    world.run_to_end(execution, world.party())
    assert world.is_whole(large)
    assert world.is_whole(small)
    assert _failures(world) == [0, 0]


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), RuntimeError("a fault of ours")], ids=["sql", "bug"]
)
def test_planning_that_breaks_is_not_held_by_a_living_process(
    world: World, error: Exception
) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    services = world.services
    plans = Fails(services.plans, "add_page", times=1, error=error)
    planner = Planner(
        services.settings,
        services.executions,
        plans,  # type: ignore[arg-type]
        services.registries,
        services.guard,
        services.links,
        services.state,
        services.clients,
        services.meter,
        services.replicas.watches,
    )
    execution = services.executions.create(a_rule("team/*"), trigger="test").id

    assert planner.plan(execution, services.boot)

    if isinstance(error, StoreUnavailable):
        assert services.dispatching.unplanned(30) == [execution]
        assert planner.plan(execution, services.boot)
        world.run_to_end(execution, world.party())
        assert world.states(execution) == [CopyState.COPIED]
    else:
        (ended,) = services.dispatching.end_executions()
        assert ended.state == "failed"
        assert services.executions.get(execution).reason == "RuntimeError: a fault of ours"


def test_nobody_is_buried_right_after_sql_was_away(world: World) -> None:
    now = [1000.0]
    store = Fails(world.services.dispatching, "overdue_waits", times=0)
    reconciler = Reconciler(
        world.settings,
        store,  # type: ignore[arg-type]
        RecordingPublisher(),
        lambda: "epoch",
        lambda: "epoch",
        lambda _registry, _digest: ClaimState.MINE,
        clock=lambda: now[0],
    )
    world.services.state.heartbeat(ProcessReport("quiet", "worker", "local", 4, "host", 1))
    reconciler.reconcile()
    world.services.database.write(_silence)

    now[0] += 60  # SQL was away for a minute: nobody could write a heartbeat
    reconciler.reconcile()
    now[0] += 0.5
    reconciler.reconcile()
    assert _known(world) == ["quiet"]

    for _ in range(5):
        now[0] += world.settings.dead_after_seconds / 4
        reconciler.reconcile()
    assert _known(world) == []


def test_messages_that_cannot_be_published_leave_copies_eligible(world: World) -> None:
    for number in range(3):
        world.push(f"team/app{number}", "v1", [LAYERS[0]])
    execution = world.plan("team/*")
    world.party()
    dispatcher = Dispatcher(world.settings, world.services.dispatching, Away())

    with pytest.raises(redis_library.ConnectionError):
        dispatcher.fill_windows()

    assert world.states(execution) == [CopyState.PENDING] * 3
    publisher = RecordingPublisher()
    assert Dispatcher(world.settings, world.services.dispatching, publisher).fill_windows() == 3
    assert sum(len(page) for page in publisher.pages) == 3
    assert {ref.fence for page in publisher.pages for ref in page} == {3}


def test_plannings_that_cannot_be_published_are_sent_as_soon_as_they_can(world: World) -> None:
    world.push("team/app", "v1", [LAYERS[0]])
    made = [
        world.services.executions.create(a_rule("team/*", name=name), trigger="test").id
        for name in ("first", "second", "third")
    ]
    publisher = Away(plannings=1)
    world.party()
    dispatcher = Dispatcher(world.settings, world.services.dispatching, publisher)

    with pytest.raises(redis_library.ConnectionError):
        dispatcher.send_plans()
    publisher.plannings = 100

    assert dispatcher.send_plans() == 1, "two at once, of which one was sent"
    assert publisher.plans == made[:2]


def test_parts_that_cannot_be_published_are_sent_as_soon_as_they_can(world: World) -> None:
    world.push("team/app", "v1", LAYERS)
    world.plan("team/*")
    dead, publisher = world.party(small_image_bytes=1, small_blob_bytes=1000), Away()
    claims = world.services.claims
    reconciler = Reconciler(
        world.settings,
        world.services.dispatching,
        publisher,
        claims.epoch,
        claims.new_epoch,
        lambda _registry, _digest: ClaimState.MINE,
    )
    reconciler.reconcile()  # it knows this Redis from now on
    (ref,) = world.dispatch()
    assert dead.replicate(ref) == {"CopyFansOut": 1}
    with world.services.database.read() as connection:
        parts = set(connection.execute(select(copy_blobs.c.part)).scalars())
    assert world.services.state.begin_part(ref, min(parts), dead.services.boot)
    dead.die()
    world.services.database.write(_silence)

    with pytest.raises(redis_library.ConnectionError):
        reconciler.reconcile()
    assert publisher.parts == []
    publisher.is_back = True
    reconciler.reconcile()

    assert {part for _ref, part in publisher.parts} == parts


# ---- what a process is said to hold --------------------------------------------------------------


def test_a_copy_without_a_task_is_let_go_and_one_in_hand_is_not(world: World) -> None:
    images = [world.push(f"team/app{number}", "v1", [LAYERS[number]]) for number in range(2)]
    execution = world.plan("team/*")
    of_copy = {copy.id: copy.source_repository for copy in world.copies(execution)}
    stray, worked = sorted(world.dispatch(), key=lambda ref: of_copy[ref.id])
    party = world.party()
    state, boot, held = party.services.state, party.services.boot, party.engine.holding.ids
    state.begin([stray], boot)  # and the answer never came
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{images[1].layers[0]}", method="GET", hold=gate)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(party.replicate, worked)
        wait_until(lambda: rule.fired, what="the read")
        assert held() == {worked.id}
        assert state.release(boot, held) == 1
        assert state.release(boot, held) == 0
        assert sorted(world.states(execution)) == [CopyState.PENDING, CopyState.RUNNING]
        gate.set()
        assert running.result(20) == {"copied": 1}

    assert held() == frozenset()
    world.run_to_end(execution, party)
    assert world.states(execution) == [CopyState.COPIED] * 2


def test_a_part_without_a_task_is_let_go(world: World) -> None:
    world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    party = world.party(small_image_bytes=1, small_blob_bytes=1000)
    (ref,) = world.dispatch()
    party.replicate(ref)
    state, boot = party.services.state, party.services.boot
    assert state.release(boot, party.engine.holding.ids) == 0
    assert state.begin_part(ref, 0, boot) is not None

    assert state.release(boot, party.engine.holding.ids) == 1

    assert world.states(execution) == [CopyState.PENDING]


def test_the_heartbeat_lets_go(world: World) -> None:
    world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/*")
    party = world.party()
    services = party.services
    services.state.begin(world.dispatch(), services.boot)
    heartbeat = Heartbeat(
        replace(world.settings, heartbeat_seconds=0.02),
        services.state,
        services.boot,
        kind="worker",
        region="local",
        slots=4,
        held=party.engine.holding.ids,
    )

    heartbeat.start()
    wait_until(lambda: world.states(execution) == [CopyState.PENDING], 10, "the release")
    heartbeat.stop()

    assert _known(world) == []


# ---- parts ---------------------------------------------------------------------------------------


class Fails:
    """A port of which one method raises the first times that it is called."""

    def __init__(
        self,
        port: Any,
        method: str,
        *,
        times: int,
        error: Exception | None = None,
        when: Callable[[Any], bool] = lambda _argument: True,
    ) -> None:
        self._port = port
        self._method = method
        self._times = times
        self._error = error or StoreUnavailable("away")
        self._when = when
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name != self._method:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self.failed < self._times and self._when(arguments[-1] if arguments else None):
                self.failed += 1
                raise self._error
            return found(*arguments, **named)

        return call


class DeafOnce:
    """A Redis client whose next pipeline is lost on the way."""

    def __init__(self, client: redis_library.Redis) -> None:
        self._client = client
        self.deaf = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        if self.deaf:
            self.deaf = False
            return Fails(
                pipe,
                "execute",
                times=1,
                error=redis_library.ConnectionError("lost"),
                when=lambda _a: True,
            )
        return pipe


@dataclass
class Away(RecordingPublisher):
    """A queue that does not answer, or that answers for some plannings only."""

    plannings: int = 0
    is_back: bool = False

    def plan(self, execution: str, **options: Any) -> None:
        if len(self.plans) >= self.plannings:
            raise redis_library.ConnectionError("away")
        super().plan(execution, **options)

    def part(self, *arguments: Any) -> None:
        if not self.is_back:
            raise redis_library.ConnectionError("away")
        super().part(*arguments)

    def fan_out(self, *_arguments: Any, **_options: Any) -> None:
        raise redis_library.ConnectionError("away")

    def replicate(self, *_arguments: Any, **_named: Any) -> None:
        raise redis_library.ConnectionError("away")


def _failures(world: World) -> list[int]:
    with world.services.database.read() as connection:
        return list(connection.execute(select(copies.c.failures)).scalars())


def _silence(connection: Any) -> None:
    connection.execute(processes.update().values(seen_at=processes.c.seen_at - 600))


def _known(world: World) -> list[str]:
    with world.services.database.read() as connection:
        return list(connection.execute(select(processes.c.boot)).scalars())
