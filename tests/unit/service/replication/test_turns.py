"""Who may send along a way now."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from service.errors import Cancelled
from service.model.line import LEAST_BYTES
from service.replication.turns import Turns
from tests.support.processes import wait_until

WAY = ("east", "west")
BIG = LEAST_BYTES


def never() -> bool:
    return False


class Sender:
    """A blob that waits for its turn, and keeps it until it is let go."""

    def __init__(
        self,
        turns: Turns,
        log: list[str],
        name: str,
        order: tuple[int, int],
        size: int = BIG,
        *,
        way: tuple[str, str] = WAY,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.end = threading.Event()
        self.cancelled = False

        def run() -> None:
            try:
                with turns.turn(way, order, size, answers=lambda: 0.0, cancelled=cancelled):
                    log.append(name)
                    self.end.wait(20)
            except Cancelled:
                self.cancelled = True

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self.end.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def waiting(turns: Turns, count: int, way: tuple[str, str] = WAY) -> None:
    wait_until(lambda: turns.waiting(way) == count, 10, f"{count} that wait")


def test_one_large_blob_goes_at_a_time_and_the_largest_waiting_one_is_next() -> None:
    turns, log = Turns(lambda: 0.0), list[str]()
    first = Sender(turns, log, "first", (0, 0))
    wait_until(lambda: len(log) == 1, 10, "one under way")
    small = Sender(turns, log, "small", (-20, 1))
    waiting(turns, 1)
    late = Sender(turns, log, "late", (-26, 9))
    early = Sender(turns, log, "early", (-26, 3))
    waiting(turns, 3)

    for ended, then in ((first, "early"), (early, "late")):
        ended.join()
        wait_until(lambda then=then: then in log, 10, then)

    for one in (late, small):
        one.join()
    assert log[1:3] == ["early", "late"]


def test_small_blobs_do_not_wait_for_each_other() -> None:
    turns, log = Turns(lambda: 0.0), list[str]()
    senders = [Sender(turns, log, str(n), (-10, n), size=1000) for n in range(20)]

    wait_until(lambda: len(log) == 20, 10, "all under way")

    for one in senders:
        one.join()


def test_ways_do_not_wait_for_each_other() -> None:
    turns, log = Turns(lambda: 0.0), list[str]()
    here = [Sender(turns, log, "here", (0, n)) for n in range(2)]
    waiting(turns, 1)

    there = Sender(turns, log, "there", (0, 0), way=("east", "south"))

    wait_until(lambda: "there" in log, 10, "the other way")
    for one in (*here, there):
        one.join()


def test_who_is_cancelled_while_waiting_holds_up_nobody() -> None:
    turns, log = Turns(lambda: 0.0), list[str]()
    stop = threading.Event()
    busy = Sender(turns, log, "busy", (0, 0))
    wait_until(lambda: len(log) == 1, 10, "one under way")
    gone = Sender(turns, log, "gone", (-30, 0), cancelled=stop.is_set)
    waiting(turns, 1)
    after = Sender(turns, log, "after", (0, 5))
    waiting(turns, 2)

    stop.set()
    wait_until(lambda: gone.cancelled, 10, "it gives up")
    busy.join()

    wait_until(lambda: log[-1] == "after", 10, "the next one")
    after.join()
    assert "gone" not in log


def test_a_way_that_brings_much_is_kept_busy_with_more() -> None:
    now = [100.0]
    turns = Turns(lambda: now[0])

    def turn(size: int, answer: float) -> None:
        with turns.turn(WAY, (0, 0), size, answers=lambda: answer, cancelled=never):
            now[0] += 1.0

    turn(50 * BIG, 0.0)  # so much a second

    with (
        turns.turn(WAY, (0, 1), 5 * BIG, answers=lambda: 0.1, cancelled=never),
        turns.turn(WAY, (0, 2), 5 * BIG, answers=lambda: 0.1, cancelled=never),
        turns.turn(WAY, (0, 3), 5 * BIG, answers=lambda: 0.1, cancelled=never),
    ):
        pass


def test_an_error_gives_the_turn_back() -> None:
    turns = Turns()

    def broken() -> None:
        with turns.turn(WAY, (0, 0), BIG, answers=lambda: 0.0, cancelled=never):
            raise ValueError

    for _ in range(5):
        with pytest.raises(ValueError):
            broken()


def test_small_blobs_do_not_wait_behind_large_ones() -> None:
    turns, log = Turns(lambda: 0.0), list[str]()
    first = Sender(turns, log, "first", (0, 0))
    wait_until(lambda: len(log) == 1, 10, "one under way")
    large = Sender(turns, log, "large", (-26, 1))
    waiting(turns, 1)

    small = Sender(turns, log, "small", (-10, 2), 1000)

    wait_until(lambda: "small" in log, 10, "the small one beside the large one")
    assert log == ["first", "small"]
    first.join()
    wait_until(lambda: "large" in log, 10, "the large one in its turn")
    for one in (small, large):
        one.join()
