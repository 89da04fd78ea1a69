"""What a long line between a region and home costs: the same fleet, its agent beside home and 150 ms away.

    python -m bench.far_region [--tags 200] [--rounds 3] [--delay 0.075] [--json FILE]

Small images go from one real registry to another, both near the region's workers; only the way from the agent
to the API is long. Each round is A B: seconds from the start of an execution to its end at home, without
delay and with it. It ends with 1 when the median throughput is more than a fifth lower (issue 6 point 2).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.shaping import Link, Shaper
from tests.faults.far import Far
from tests.faults.lab import Lab

ALLOWED = 0.8


def one_run(far: Far, name: str, tags: int) -> float:
    """Copy a fleet of small images into the region; the seconds until home has it in its books."""
    scene = far.scene(name)
    for number in range(tags):
        scene.push(f"app{number % 10}:v{number}", (2_000, 3_000))
    began = time.monotonic()
    ended = scene.run(300)
    took = time.monotonic() - began
    assert ended["state"] == "succeeded", ended
    verdict = scene.verdict(tags=tags, blobs=tags)
    assert verdict.faults == [], str(verdict)
    return took


def series(delay: float, tags: int, rounds: int) -> list[float]:
    """Seconds of each run with so many seconds each way between the agent and home."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("home", "far"):
            (folder / name).mkdir()
        lab = stack.enter_context(Lab(folder / "home"))
        lab.start("api", "scheduler", "worker")
        shaper = stack.enter_context(Shaper())

        def slow(url: str) -> str:
            found = shaper.before(url, Link(delay=delay))
            shaper.start()
            return found

        variables = {"TRANSSHIP_AGENT_DEAD_AFTER_SECONDS": "90"}
        far = Far(lab, folder / "far", stack, slow=slow, **variables)
        far.start()
        one_run(far, "warm", 5)
        return [one_run(far, f"round{number}", tags) for number in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tags", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.075, help="seconds each way")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    near = series(0.0, options.tags, options.rounds)
    away = series(options.delay, options.tags, options.rounds)
    share = statistics.median(near) / statistics.median(away)
    found: dict[str, Any] = {
        "tags": options.tags,
        "delay_each_way_seconds": options.delay,
        "near_seconds": [round(one, 2) for one in near],
        "away_seconds": [round(one, 2) for one in away],
        "throughput_away_to_near": round(share, 2),
    }
    told = json.dumps(found, indent=1)
    print(told)
    if options.json is not None:
        options.json.write_text(told + "\n")
    if share < ALLOWED:
        sys.exit(f"throughput falls to {share:.2f} of what it is near, {ALLOWED} is allowed")


if __name__ == "__main__":
    main()
