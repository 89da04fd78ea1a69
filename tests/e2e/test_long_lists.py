"""Lists that are long: read page by page, in memory that does not grow with them (P18; reliability section 3)."""

from __future__ import annotations

import json
from pathlib import Path

from bench.scenarios.s8_million_tags import rules_file, simulated, timed_sync

REPOSITORIES, TAGS = 5, 2000
MOST_BYTES = 256 << 20


def test_ten_thousand_tags_are_compared_in_bounded_memory(tmp_path: Path) -> None:
    with simulated(REPOSITORIES, TAGS) as source, simulated(REPOSITORIES, TAGS) as destination:
        done = timed_sync(tmp_path, rules_file(tmp_path, source, destination), 120, 0.1)
    told = json.loads(done.stdout)
    assert (told["state"], told["copies"]["unchanged"]) == ("succeeded", REPOSITORIES * TAGS)
    print(f"{done.wall:.1f} s, {done.peak_rss >> 20} MiB at most, all processes")
    assert done.peak_rss < MOST_BYTES
