"""Limits hold over the whole fleet: counted at the registries, with two worker processes."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.samples.faults import FOREVER
from api.samples.http_messages import Access, Request, Response
from api.samples.registry import FaultRule, SampleRegistry
from tests.support.images import push_image
from tests.support.load import Stalls
from tests.support.processes import wait_until
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MB = 1_000_000
LIMIT = 40  # requests a second


class Stage:
    """A running service with two workers, and registries of its own for each test."""

    _count = itertools.count()

    def __init__(self, up: Up) -> None:
        self.up = up
        self.east = SampleRegistry()
        self.west = SampleRegistry()
        number = next(self._count)
        self.names = (f"east-{number}", f"west-{number}", f"rule-{number}")

    def run(
        self,
        east: dict[str, Any] | None = None,
        west: dict[str, Any] | None = None,
        **rule: Any,
    ) -> float:
        """Run the rule over all that is at east; returns its seconds."""
        source, destination, name = self.names
        self.up.registry(source, self.east.url, **(east or {}))
        self.up.registry(destination, self.west.url, **(west or {}))
        self.up.rule(name, source, destination, **rule)
        made = self.up.ask("POST", f"/rules/{name}/executions")
        began = time.monotonic()

        def ended() -> Any:
            found = self.up.ask("GET", f"/executions/{made['id']}")
            return found if found["finished_at"] else None

        report = wait_until(ended, 120, "the end of the run")
        assert report["state"] == "succeeded", report
        return time.monotonic() - began

    def fill(self, tags: int, size: int = 0) -> int:
        """Push images that share nothing; returns the bytes of their layers."""
        for number in range(tags):
            layers = [hashlib.shake_128(b"%d" % number).digest(size)] if size else None
            push_image(self.east, f"team/app{number % 4}", f"v{number}", layers=layers)
        return tags * size

    def sharers(self, name: str) -> int:
        """How many processes have leased a part of a budget and lately."""
        with self.up.running.redis() as redis:
            fields = redis.hgetall(f"transship:limits:{name}")
        return sum(b"|" in value for value in fields.values())


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("limits"), "--workers", "2") as running:
        home = "/regions/local"  # both workers, and the one for what is urgent
        wait_until(lambda: running.ask("GET", home)["workers"]["processes"] == 3, 40, "the workers")
        yield running


@pytest.fixture
def stage(up: Up) -> Iterator[Stage]:
    made = Stage(up)
    with made.east, made.west:
        yield made


def over(
    log: list[Access], stalls: Stalls, per_second: float, more: int
) -> list[tuple[float, int]]:
    """The seconds of a log with more requests than a limit lets through, a tenth over it, and so many more.

    Requests that came while the registry, which is in this process, stood still are counted when it goes on.
    """
    moments = sorted(line.started for line in log)
    found = []
    for begin, moment in enumerate(moments):
        count = bisect_left(moments, moment + 1.0) - begin
        late = stalls.seconds(moment - 1.0, moment + 1.0)
        if count > per_second * (1.1 + late) + more:
            found.append((moment - moments[0], count))
    return found


def busiest_second(log: list[Access]) -> int:
    moments = sorted(line.started for line in log)
    most = end = 0
    for begin, moment in enumerate(moments):
        while end < len(moments) and moments[end] < moment + 1.0:
            end += 1
        most = max(most, end - begin)
    return most


def test_effect_limits_requests_per_second(stage: Stage) -> None:
    stage.fill(60)
    sharers: list[int] = []
    watch = threading.Event()

    def look() -> None:
        while not watch.wait(0.2):
            sharers.append(stage.sharers(stage.names[0]))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with Stalls() as stalls:
            stage.run({"limits": {"requests_per_second": LIMIT}})
    finally:
        watch.set()
        watcher.join()

    log = list(stage.east.log)
    assert len(log) > 150
    assert over(log, stalls, LIMIT, 3) == []
    assert busiest_second(list(stage.west.log)) > 0
    assert max(sharers) >= 2, "one worker alone proves nothing of a fleet"


def test_without_a_limit_the_same_run_asks_faster(stage: Stage) -> None:
    stage.fill(60)

    stage.run()

    assert busiest_second(list(stage.east.log)) > LIMIT * 1.1 + 3


def test_effect_limits_concurrency(stage: Stage) -> None:
    stage.fill(30)
    most = _watch_concurrency(stage.east, 0.05)

    stage.run({"limits": {"concurrency": 3}})

    assert most() == 3


def test_without_a_limit_more_are_under_way(stage: Stage) -> None:
    stage.fill(30)
    most = _watch_concurrency(stage.east, 0.05)

    stage.run()

    assert most() > 3


def test_one_slot_at_both_ends_is_no_deadlock(stage: Stage) -> None:
    stage.fill(4, size=1_500_000)

    stage.run({"limits": {"concurrency": 1}}, {"limits": {"concurrency": 1}})


@pytest.mark.parametrize("side", ["east", "west"])
def test_effect_limits_bandwidth(stage: Stage, side: str) -> None:
    moved = stage.fill(12, size=1_500_000)

    stage.run(**{side: {"limits": {"bandwidth": "4MB/s"}}})

    assert moved / _seconds_of_blobs(stage) <= 4.6 * MB


def test_effect_bandwidth(stage: Stage) -> None:
    moved = stage.fill(12, size=1_500_000)

    stage.run(bandwidth="32Mbit/s")

    assert moved / _seconds_of_blobs(stage) <= 4.6 * MB


def test_effect_bandwidth_between(stage: Stage) -> None:
    """A window that is not now holds nothing back; on the other days likewise."""
    moved = stage.fill(12, size=1_500_000)
    now = time.gmtime()
    later = f"{(now.tm_hour + 6) % 24:02}:00-{(now.tm_hour + 7) % 24:02}:00"
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    other = days[(now.tm_wday + 3) % 7]

    stage.run(
        bandwidth=[
            {"limit": "100kB/s", "between": later},
            {"limit": "100kB/s", "days": [other]},
        ]
    )

    assert moved / _seconds_of_blobs(stage) > 1 * MB, "ten times what the windows would let through"


def test_too_much_is_heard_by_the_whole_fleet(stage: Stage) -> None:
    """One answer with Retry-After: 3 s of silence from both workers, then a slower start."""
    stage.fill(100)
    struck: list[float] = []
    stage.east.faults.add(
        FaultRule(
            path="/manifests/",
            nth=70,
            status=429,
            headers={"Retry-After": "3"},
            before=lambda _: struck.append(time.monotonic()),
        )
    )

    stage.run()

    assert len(struck) == 1
    [at] = struck
    moments = [line.started for line in stage.east.log]
    told = 1.3  # until the other process has leased again, on a busy machine, too
    late = [line for line in list(stage.east.log) if at + told < line.started < at + 2.9]
    assert [(line.method, line.path, line.started - at) for line in late] == []
    assert any(m > at + 2.9 for m in moments)
    before = sum(at - 0.5 <= m <= at for m in moments)
    after = sum(at + 3.0 <= m <= at + 3.5 for m in moments)
    assert after < before


def test_503_with_retry_after_is_heard_too(stage: Stage) -> None:
    stage.fill(100)
    struck: list[float] = []
    stage.east.faults.add(
        FaultRule(
            path="/manifests/",
            nth=60,
            status=503,
            headers={"Retry-After": "3"},
            before=lambda _: struck.append(time.monotonic()),
        )
    )

    stage.run()

    [at] = struck
    told = 1.3  # until the other process has leased again, on a busy machine, too
    late = [line for line in list(stage.east.log) if at + told < line.started < at + 2.9]
    assert [(line.method, line.path, line.started - at) for line in late] == []


def test_low_quota_slows_before_it_is_used_up(stage: Stage) -> None:
    stage.fill(20)
    low = {"RateLimit-Limit": "1000", "RateLimit-Remaining": "50", "RateLimit-Reset": "5"}
    stage.east.faults.add(FaultRule(times=FOREVER, headers={}, after=_with(low)))

    with Stalls() as stalls:
        stage.run()

    log = sorted(stage.east.log, key=lambda line: line.started)
    later = [line for line in log if line.started > log[0].started + 2]
    print([round(line.started - log[0].started, 2) for line in log])
    assert later, "it took its time"
    assert over(later, stalls, 10, 4) == []


def _with(headers: dict[str, str]) -> Any:
    def after(_: Request, response: Response) -> None:
        response.headers.update(headers)

    return after


def _watch_concurrency(registry: SampleRegistry, seconds: float) -> Any:
    """Have every answer take its time; returns how many requests were under way at once."""
    lock = threading.Lock()
    inside = most = 0
    never = threading.Event()

    def enter(_: Request) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        never.wait(seconds)  # the registry's own work

    def leave(_: Request, __: Response) -> None:
        nonlocal inside
        with lock:
            inside -= 1

    registry.faults.add(FaultRule(times=FOREVER, before=enter, after=leave))
    return lambda: most


def _seconds_of_blobs(stage: Stage) -> float:
    """From the first blob that was asked for to the last thing that was written."""
    reads = [
        line.started for line in stage.east.log if line.method == "GET" and "/blobs/" in line.path
    ]
    writes = [line.started for line in stage.west.log if line.method == "PUT"]
    return max(writes) - min(reads)


def test_lost_redis_leaves_every_process_its_floor(tmp_path: Path) -> None:
    """Held at the limiter itself: without Redis there is no queue that would bring work."""
    from service.model.endpoint import Limits
    from service.registry.limiters import Limiters
    from service.store.budgets import NoBudgets

    limiters = Limiters(NoBudgets())
    try:
        limiter = limiters.get("east", Limits(requests_per_second=200.0))
        began = time.monotonic()
        count = 0
        while time.monotonic() < began + 2.0:
            limiter.enter()
            count += 1
    finally:
        limiters.close()

    assert 20 <= count <= 20 * 2 + 6
