"""How many connections each process of the API serves, seen by all: a new one goes to who has fewest.

All processes accept from one socket, and whoever is awake takes what is there. A client's connections come at once,
stay, and were then nearly all served by the process that woke up first, by one core (issue 5: 260 executions
accepted a second; `python -m bench.accept`).
"""

from __future__ import annotations

import mmap

NOBODY = 2**31 - 1


class Shares:
    """A table of counts in memory that processes share; made before they are forked."""

    def __init__(self, places: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * places)).cast("i")
        for place in range(places):
            self.leave(place)

    def __len__(self) -> int:
        return len(self._counts)

    def set(self, place: int, connections: int) -> None:
        """Say how many connections the process of this place has."""
        self._counts[place] = connections

    def leave(self, place: int) -> None:
        """Say that there is no process at this place (any more)."""
        self._counts[place] = NOBODY

    def is_least(self, place: int) -> bool:
        """Whether no other process has fewer."""
        return self._counts[place] <= min(self._counts)
