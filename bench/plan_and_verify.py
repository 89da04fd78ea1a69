"""What `plan` and `verify` cost: seconds, memory of all their processes, requests, for N tags.

    python -m bench.plan_and_verify [--tags 5000] [--repositories 10] [--json FILE]

Source and destinations are bench/formula_registry.py: images that differ, of six blobs, three of them
shared by fifty tags. The plan is for a destination where nothing is, so every tag is a copy; the
verification is of one where everything is. Whole commands as shipped, Redis and start included; the
registries run beside them on the same machine, and are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import run
from bench.peers import OURS, Job

MIB = 1 << 20


@contextlib.contextmanager
def registry(repositories: int, tags: int, state: str) -> Iterator[str]:
    """A formula registry; gives its URL."""
    module = [sys.executable, "-m", "bench.formula_registry"]
    command = [*module, str(repositories), str(tags), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def requests(url: str) -> dict[str, int]:
    """What a formula registry was asked so far."""
    with urllib.request.urlopen(f"{url}/requests", timeout=10) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def measure(command: str, state: str, repositories: int, tags: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="transship-bench-") as name,
        registry(repositories, tags, "full") as source,
        registry(repositories, tags, state) as destination,
    ):
        folder, total = Path(name), repositories * tags
        rules = folder / "transship.yaml"
        rules.write_text(json.dumps(OURS.document(Job(source, [destination], [], [], folder))))
        done = run(
            [str(OURS.path()), command, "-f", str(rules), "--json"], cwd=folder, timeout=3600
        )
        if done.exit_code:
            raise SystemExit(f"{command} ended with {done.exit_code}: {done.stderr[-2000:]}")
        asked = {"source": requests(source), "destination": requests(destination)}
        return {
            "tags": total,
            "seconds": round(done.wall, 1),
            "ms_per_tag": round(1000 * done.wall / total, 2),
            "cpu_seconds": round(done.cpu, 1),
            "peak_mib": round(done.peak_rss / MIB, 1),
            "peak_mib_of": {k: round(v / MIB, 1) for k, v in sorted(done.peak_rss_of.items())},
            "requests_per_tag": {
                where: {kind: round(n / total, 3) for kind, n in sorted(counts.items())}
                for where, counts in asked.items()
            },
            "answer": _answer(done.stdout),
        }


def _answer(text: str) -> Any:
    """What the command told, without its lists: that it did look at everything."""
    document = json.loads(text)
    document = document[0] if isinstance(document, list) else document
    return {k: v for k, v in document.items() if not isinstance(v, list)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tags", type=int, default=5000, help="of all repositories together")
    parser.add_argument("--repositories", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    each = max(1, options.tags // options.repositories)
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "plan": measure("plan", "empty", options.repositories, each),
        "verify": measure("verify", "full", options.repositories, each),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
