"""How much goes over a line at once: no more than keeps it busy, so that each blob ends soon (docs/adr/0016)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LEAST_BYTES = 4 << 20
"""What is on a line at once before it is known."""

BESIDES_ANSWERS_SECONDS = 0.3
ANSWERS_OF_A_BLOB = 6
"""How long a blob takes besides its bytes: so long a line has to be kept busy by others."""

MOST_AT_ONCE = 16

TRIES = (0, 0, 0, 1, 0, 0, 0, -1)
"""Of eight large blobs one goes beside one more than was found best, and one beside one less."""

ENOUGH = 0.85
"""Fewer at once are better when they bring this part of what more of them do."""

FADES = 0.95

MOVING = 0.3
"""Of a large blob's time its bytes take this part at least."""

MEASURED = 16
"""Transfers that tell what a line carries."""


@dataclass
class Line:
    """What one direction of a registry's line was seen to carry, in bytes a second."""

    together: dict[int, float] = field(default_factory=dict)  # so many large blobs at once
    noted: int = 0  # how many large ones there were
    answer: float = 0.0  # seconds that one takes
    given: int = 0  # bytes of all errands so far
    lately: list[tuple[float, float, int]] = field(default_factory=list)  # since, until, bytes

    def has_room(self, busy: Sequence[int], size: int) -> bool:
        """Whether a blob of `size` bytes may go beside those that are under way.

        Small ones go beside large ones: they fill the time in which those are asked for and closed.
        """
        if not busy:
            return True
        window = self.bytes_at_once()
        if size >= window:
            return self.large(busy) < self.blobs_at_once()
        return sum(one for one in busy if one < window) + size <= window

    def large(self, sizes: Iterable[int]) -> int:
        """Return how many blobs are large here: each keeps the line busy by its bytes."""
        window = self.bytes_at_once()
        return sum(size >= window for size in sizes)

    def bytes_at_once(self) -> float:
        """Return how many bytes of smaller blobs keep the line busy."""
        if not self.lately:
            return LEAST_BYTES
        since = min(one[0] for one in self.lately)
        until = max(one[1] for one in self.lately)
        rate = sum(one[2] for one in self.lately) / max(until - since, 0.001)
        return max(LEAST_BYTES, rate * self._besides())

    def blobs_at_once(self) -> int:
        """Return how many large blobs go at once: as few as bring what the line carries.

        Now and then one more or one less, to see if it carries more.
        """
        if not self.together:
            return 1
        enough = ENOUGH * max(self.together.values())
        found = min(count for count, rate in self.together.items() if rate >= enough)
        return min(MOST_AT_ONCE, max(1, found + TRIES[self.noted % len(TRIES)]))

    def note(self, since: float, until: float, size: int, beside: int, answer: float) -> None:
        """Learn from a transfer that is over; `beside`: of how many large ones at once, itself included."""
        self.answer = answer
        self.lately = [*self.lately[1 - MEASURED :], (since, until, size)]
        if beside and size >= self.bytes_at_once():
            seconds = max(until - since, 0.001)
            rate = beside * size / max(seconds - self._besides(), MOVING * seconds)
            known = self.together.get(beside, 0.0)  # the other end may be what is slow
            self.together[beside] = max(rate, FADES * known)
            self.noted += 1

    def _besides(self) -> float:
        """Return the seconds that a blob takes besides its bytes."""
        return BESIDES_ANSWERS_SECONDS + ANSWERS_OF_A_BLOB * self.answer
