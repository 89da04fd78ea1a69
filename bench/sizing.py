"""What a fleet of so many tags needs: memory of each process, bytes of SQL and of Redis, seconds.

    python -m bench.sizing [--tags 1000 100000] [--workers 1] [--json FILE]

Two sample registries in processes of their own: the source holds one small image a tag, no two alike (a config
and a layer of some hundred bytes), 1,000 tags a repository; the destination is empty. `transship up` serves one rule from
one to the other, by itself: a run that copies everything, and three that find all in place.
Bytes of SQL are those of the SQLite file with its write-ahead log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import redis

from api.samples.registry import SampleRegistry
from bench.launch import descendants, name_of, resident
from service.model.states import ENDED_EXECUTIONS
from tests.support.content import push_image
from tests.support.up import Up, running_up

OF_A_REPOSITORY = 1000
AGAIN = 3
MIB = 1 << 20


def serve(tags: int) -> None:
    """Be a registry with so many images until a signal comes."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    registry = SampleRegistry()
    registry.log_kept = False
    for number in range(tags):
        repository = f"team{number // OF_A_REPOSITORY % 10}/r{number // OF_A_REPOSITORY:04}"
        layer = f"layer {number}".encode() * 20
        push_image(
            registry.storage, repository, f"v{number:07}", mark=str(number) * 20, layer=layer
        )
    with registry:
        print(registry.url, flush=True)
        ended.wait()


@contextlib.contextmanager
def registry_of(tags: int) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.sizing", "--serve", str(tags)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def kind_of(pid: int) -> str:
    """What a process is: a module of ours with its part, or a program's name."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "workers.main" in words:
            return words[words.index("workers.main") + 1]
    return {"-c": "up", "api.serve": "api", "workers.flower": "flower"}.get(
        name := name_of(pid), name
    )


class Watch(threading.Thread):
    """Peaks below one process: of the largest process of each kind, of all, and of Redis's data. Bytes."""

    def __init__(self, up: Up) -> None:
        super().__init__(daemon=True)
        self.pid = up.running.process.pid
        self.redis: redis.Redis = up.running.redis()
        self.ended = threading.Event()
        self.of: dict[str, int] = {}
        self.all = self.data = 0

    def run(self) -> None:
        while not self.ended.wait(1.0):
            sizes = {pid: resident(pid) for pid in (self.pid, *descendants(self.pid))}
            for pid, size in sizes.items():
                name = kind_of(pid)
                self.of[name] = max(self.of.get(name, 0), size)
            self.all = max(self.all, sum(sizes.values()))
            self.data = max(self.data, int(self.redis.info("memory")["used_memory"]))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def sql(up: Up) -> int:
    return sum(path.stat().st_size for path in up.running.data.glob("transship.db*"))


def one_run(up: Up, tags: int) -> tuple[float, dict[str, Any]]:
    """Run the rule; return its seconds, and the execution in the end."""
    began = time.monotonic()
    identity = up.ask("POST", "/rules/fleet/executions")["id"]

    deadline = began + 600 + tags / 5
    while (found := up.ask("GET", f"/executions/{identity}"))["state"] not in ENDED_EXECUTIONS:
        if time.monotonic() > deadline:
            raise SystemExit(f"the run has not ended: {found}")
        time.sleep(0.2 + tags / 50_000)  # each question counts all copies
    if found["state"] != "succeeded":
        raise SystemExit(f"the run {found['state']}: {found}")
    return time.monotonic() - began, found


def measure(tags: int, workers: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        registry_of(tags) as source,
        registry_of(0) as destination,
        running_up(Path(folder), "--workers", str(workers)) as up,
    ):
        up.registry("source", source)
        up.registry("destination", destination)
        up.rule("fleet", "source", "destination")
        with Watch(up) as first:
            took, found = one_run(up, tags)
        if found["copies"]["copied"] != tags:
            raise SystemExit(f"not all was copied: {found['copies']}")
        size = sql(up)
        with Watch(up) as later:
            again = [one_run(up, tags)[0] for _ in range(AGAIN)]
        return {
            "tags": tags,
            "workers": workers,
            "copied_s": round(took, 1),
            "unchanged_s": round(min(again), 1),
            "peak_mib_of": {
                name: round(max(peak, later.of.get(name, 0)) / MIB, 1)
                for name, peak in sorted(first.of.items())
            },
            "peak_mib": round(max(first.all, later.all) / MIB, 1),
            "redis_data_mib": round(max(first.data, later.data) / MIB, 2),
            "sql_mib": round(size / MIB, 1),
            "sql_mib_a_run_that_changes_nothing": round((sql(up) - size) / AGAIN / MIB, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tags", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    found = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "runs": [measure(tags, options.workers) for tags in options.tags],
    }
    told = json.dumps(found, indent=1)
    print(told)
    if options.json is not None:
        options.json.write_text(told + "\n")


if __name__ == "__main__":
    main()
