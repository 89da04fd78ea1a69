"""Run tests again and again and count those that were red in some runs and green in others.

    python -m tests.support.flakes --runs 10 [tests/faults ...]

Nothing is retried to pass: this only counts. Ends with 1 when a test was red in any run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def one_run(paths: list[str], report: Path) -> tuple[int, list[str]]:
    """Run the tests once; how many ran, and the names of the red ones."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            *paths,
        ],
        check=False,
        stdout=subprocess.DEVNULL,
    )
    cases = list(ET.parse(report).iter("testcase"))
    red = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return len(cases), red


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("paths", nargs="*", default=["tests/faults"])
    words = parser.parse_args()
    total, red = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(words.runs):
            count, names = one_run(words.paths, Path(folder) / "report.xml")
            total += count
            red.update(names)
            print(f"run {number + 1}: {count} tests, {len(names)} red", flush=True)
    flaky = {name: times for name, times in red.items() if times < words.runs}
    for name, times in red.most_common():
        print(f"red {times} of {words.runs}: {name}")
    share = 100 * sum(flaky.values()) / max(1, total)
    print(f"flake rate: {share:.2f} % of {total} tests")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
