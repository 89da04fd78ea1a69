"""Lists that are long: read page by page, in memory that does not grow with them (P18; reliability section 3)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.scenarios.s8_million_tags import rules_file, simulated, timed_sync

TAGS = 10_000
MOST_SECONDS = 20.0
MOST_BYTES = 256 << 20


def test_ten_thousand_tags_are_compared_in_bounded_memory(tmp_path: Path) -> None:
    with simulated(1, TAGS) as source, simulated(1, TAGS) as destination:
        done = timed_sync(tmp_path, rules_file(tmp_path, source, destination), 120, 0.1)
    told = json.loads(done.stdout)
    assert (told["state"], told["copies"]["unchanged"]) == ("succeeded", TAGS)
    print(f"{done.wall:.1f} s, {done.peak_rss >> 20} MiB at most, all processes")
    assert done.peak_rss < MOST_BYTES
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert done.wall < MOST_SECONDS * busy, f"on a machine with {busy:.1f} jobs a core"
