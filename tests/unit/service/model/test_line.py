"""How much goes over a line at once."""

from __future__ import annotations

from collections import Counter

import pytest

from service.model.line import LEAST_BYTES, TRIES, Line

BIG = 8 * LEAST_BYTES


@pytest.mark.parametrize("carries", [1, 3])
def test_a_line_is_found_to_carry_what_it_does(carries: int) -> None:
    line = Line()
    line.note(0.0, 5.0, BIG, 1, 0.0)  # something else was on the line
    found = []
    for _ in range(20 * len(TRIES)):
        beside = line.blobs_at_once()
        found.append(beside)
        line.note(0.0, max(1.0, beside / carries), BIG, beside, 0.0)

    assert Counter(found[-40:]).most_common(1)[0][0] == carries


def test_a_far_line_is_kept_busy_by_small_blobs() -> None:
    line = Line()
    assert line.bytes_at_once() == LEAST_BYTES
    for number in range(16):
        line.note(number / 100, 0.3 + number / 100, 2 << 20, 1, answer=0.1)

    assert line.bytes_at_once() == pytest.approx((32 << 20) / 0.45 * 0.9)
