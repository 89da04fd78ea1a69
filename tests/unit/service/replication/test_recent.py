"""What several copies ask a source at once is asked once, and not believed for long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import NetworkError
from service.replication import recent as module
from service.replication.recent import KEPT_SECONDS, RecentReads

KEY = ("execution", "east", "team/app", "tag", "v1")


class Clock:
    """Time that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts what is read of it."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> int:
        self.reads += 1
        return self.reads


def test_an_answer_is_kept_from_the_beginning_of_its_read_and_no_longer() -> None:
    clock, source = Clock(), Source()
    recent = RecentReads(clock)

    def slowly() -> int:
        clock.now += KEPT_SECONDS / 2
        return source.read()

    assert recent.get(KEY, slowly) == 1
    clock.now += KEPT_SECONDS / 2 - 0.01
    assert recent.get(KEY, source.read) == 1
    clock.now += 0.02
    assert recent.get(KEY, source.read) == 2


def test_nothing_is_an_answer_too() -> None:
    recent, reads = RecentReads(), []

    for _ in range(3):
        assert recent.get(KEY, lambda: reads.append(1)) is None

    assert len(reads) == 1


def test_each_key_has_its_own_answer() -> None:
    recent, source = RecentReads(), Source()
    others = [(*KEY[:n], "other", *KEY[n + 1 :]) for n in range(len(KEY))]

    assert [recent.get(key, source.read) for key in (KEY, *others)] == [1, 2, 3, 4, 5, 6]


def test_threads_that_ask_at_once_read_once() -> None:
    recent, source = RecentReads(), Source()
    begun, go_on = threading.Event(), threading.Event()

    def read() -> int:
        begun.set()
        assert go_on.wait(10)
        return source.read()

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(recent.get, KEY, read)
        assert begun.wait(10)
        others = [pool.submit(recent.get, KEY, source.read) for _ in range(7)]
        go_on.set()
        answers = [one.result(10) for one in (first, *others)]

    assert answers == [1] * 8


def test_a_read_that_fails_fails_for_its_own_copy_only() -> None:
    recent, source = RecentReads(), Source()
    begun, go_on = threading.Event(), threading.Event()

    def fail() -> int:
        begun.set()
        assert go_on.wait(10)
        raise NetworkError("away", registry="east")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(recent.get, KEY, fail)
        assert begun.wait(10)
        others = [pool.submit(recent.get, KEY, source.read) for _ in range(2)]
        go_on.set()
        with pytest.raises(NetworkError):
            first.result(10)
        assert all(one.result(10) > 0 for one in others)

    assert recent.get(KEY, source.read) == source.reads


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    clock, source = Clock(), Source()
    recent = RecentReads(clock)
    for number in range(100):
        recent.get((*KEY, str(number)), source.read)
    assert len(recent._kept) == 10

    clock.now += KEPT_SECONDS
    recent.get(KEY, source.read)

    assert list(recent._kept) == [KEY]
