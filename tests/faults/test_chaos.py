"""Random faults: fixed seeds, and some that nobody has tried; `make chaos SEED=n` runs one again."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults import chaos
from tests.faults.lab import Lab

pytestmark = pytest.mark.timeout(300)

FIXED = 6
FRESH = int(os.environ.get("CHAOS_FRESH", "3"))
GIVEN = os.environ.get("CHAOS_SEED", "")

SEEDS = (
    [int(GIVEN)]
    if GIVEN
    else [*range(FIXED), *(random.SystemRandom().randrange(1 << 31) for _ in range(FRESH))]
)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_run_ends_whole(lab: Lab, seed: int) -> None:
    print("seed", seed)
    chaos.run(lab, seed)
