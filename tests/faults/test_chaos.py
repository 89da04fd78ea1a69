"""Random faults: fixed seeds, and some that nobody has tried; `make chaos SEED=n` runs one again."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults import chaos
from tests.faults.lab import Lab

pytestmark = pytest.mark.timeout(300)

FIXED = 20
FRESH = int(os.environ.get("CHAOS_FRESH", "10"))
GIVEN = os.environ.get("CHAOS_SEED", "")

SEEDS = (
    [int(GIVEN)]
    if GIVEN
    else [
        *range(FIXED),
        *random.Random(os.environ["TEST_RUN_SEED"]).sample(range(100, 1 << 31), FRESH),
    ]
)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_run_ends_whole(lab: Lab, seed: int) -> None:
    print("seed", seed)
    chaos.run(lab, seed)
