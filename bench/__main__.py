"""Run scenarios and write what they found: `python -m bench [--scenario S2 ...] [--rounds N] [--quick]`.

Each writes `bench/results/NAME.json`; afterwards the page docs/explanation/performance.md is written
from all files there (`python -m bench.report` does that alone). `--quick` tries the bench itself with
little content: its figures go to files of their own and never to the page.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from bench.options import Missing, Options
from bench.report import write_page

SCENARIOS = {
    "S1": "s1_large_layers",
    "S2": "s2_fleet",
    "S2b": "s2b_no_mounts",
    "S3": "s3_unchanged",
    "S4": "s4_many_regions",
    "S4b": "s4b_larger_layers",
    "S5": "s5_far_small_blobs",
    "S6": "s6_worker_processes",
    "S7": "s7_event_to_tag",
    "S8": "s8_million_tags",
    "S9": "s9_acceptance",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), default=[])
    parser.add_argument("--rounds", type=int, default=0, help="5, with --quick 1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--no-sweep", action="store_true", help="peers run at the last setting of their sweep"
    )
    words = parser.parse_args()
    rounds = words.rounds or (1 if words.quick else 5)
    options = Options(rounds, words.quick, sweep=not words.no_sweep)
    failed = []
    for name in words.scenario or SCENARIOS:
        module = importlib.import_module(f"bench.scenarios.{SCENARIOS[name]}")
        print(f"{name}: {module.TITLE}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            result = module.run(options)
        except Missing as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        path = result.write()
        for aim in result.aims:
            word = {True: "reached", False: "NOT reached", None: "unknown"}[aim.reached]
            print(f"  {aim.what}: {aim.found} (aim {aim.aim}): {word}", file=sys.stderr)
            failed += [f"{name}: {aim.what}"] if aim.reached is None else []
        print(f"  {path.name}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if not words.quick:
        write_page()
    for line in failed:
        print(f"no figure: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
