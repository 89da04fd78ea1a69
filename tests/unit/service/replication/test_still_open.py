"""A long planning looks whether it is still wanted, seldom enough for SQL."""

from __future__ import annotations

import threading

import pytest

from service.errors import Cancelled
from service.replication.still_open import LOOK_SECONDS, StillOpen


class Execution:
    """Counts how often it is looked up, and stands at a time of its own."""

    def __init__(self) -> None:
        self.open, self.looks, self.now = True, 0, 100.0
        self.stop = threading.Event()
        self.still_open = StillOpen(self._look, self.stop, clock=lambda: self.now)

    def _look(self) -> bool:
        self.looks += 1
        return self.open


def test_sql_is_asked_at_the_first_copy_and_then_once_a_second() -> None:
    execution = Execution()
    for _ in range(100):
        execution.still_open.check()
    assert execution.looks == 1

    execution.now += LOOK_SECONDS
    for _ in range(100):
        execution.still_open.check()
    assert execution.looks == 2


def test_what_is_stopped_is_over_for_every_copy_after_the_look_that_finds_it() -> None:
    execution = Execution()
    execution.still_open.check()
    execution.open = False
    execution.still_open.check()  # within the second
    execution.now += LOOK_SECONDS

    for _ in range(3):
        with pytest.raises(Cancelled):
            execution.still_open.check()
    assert execution.looks == 2


def test_a_process_that_is_to_end_asks_nobody() -> None:
    execution = Execution()
    execution.stop.set()
    with pytest.raises(Cancelled):
        execution.still_open.check()
    assert execution.looks == 0
