"""Minutes of faults and garbage collection under a rule that runs all the time; `make nightly` soaks for longer."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults import soak
from tests.faults.lab import Lab

SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 31))


@pytest.mark.timeout(SECONDS + 300)
def test_a_collecting_destination_and_faults_cost_nothing_but_time(tmp_path: Path) -> None:
    print(f"seed {SEED}, {SECONDS:g} s; again: SOAK_SEED={SEED} SOAK_SECONDS={SECONDS:g}")
    with Lab(tmp_path) as lab:
        lab.start("api", "scheduler", "worker")
        found = soak.run(lab, SECONDS, SEED)
        print(found)
        assert found.pushes > SECONDS / 4
        assert found.collections >= int(SECONDS / 30)
        assert len(found.strikes) >= int(SECONDS / 15)
        assert found.leaks() == []
        verdict = found.scene.verdict(tags=8, blobs=16, uploads=True)
        assert verdict.faults == [], f"{found}\n{verdict}"
