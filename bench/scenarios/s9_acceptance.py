"""S9: executions accepted per second while the machine copies a fleet."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from bench.accept import measure
from bench.fleets import FLEET, QUICK, Loaded, load
from bench.options import Options
from bench.peers import OURS, Job
from bench.registries import registry
from bench.results import Aim, Result, Table, number
from bench.stages import scratch
from tests.support.servers import PostgresServer, RealRegistry

TITLE = "executions accepted per second"
SCENARIO = "S9"
CLIENTS = 16


class Busy:
    """`transship sync` of a fleet into new registries, one after another, until it is told to end."""

    def __init__(self, source: RealRegistry, fleet: Loaded) -> None:
        self.source, self.fleet = source, fleet
        self.ended = threading.Event()
        self.copied = 0
        self.faults: list[str] = []

    def __call__(self) -> None:
        while not self.ended.is_set():
            with scratch() as folder, registry() as destination:
                job = Job(
                    self.source.url,
                    [destination.url],
                    self.fleet.repositories,
                    self.fleet.places,
                    folder,
                )
                invocation = OURS.invoke(job, "as shipped")
                with subprocess.Popen(
                    invocation.command,
                    env=dict(invocation.environment),
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ) as running:
                    while running.poll() is None and not self.ended.wait(0.1):
                        pass
                    if running.poll() is None:
                        running.terminate()
                    elif running.returncode:
                        self.faults.append(f"the sync ended with {running.returncode}")
                        return
                    else:
                        self.copied += 1


def _both(count: int) -> dict[str, Mapping[str, float]]:
    found: dict[str, Mapping[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["SQLite"] = measure(Path(folder), count, CLIENTS)
    durable = {"fsync": "on"}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(settings=durable) as postgres:
        found["PostgreSQL"] = measure(Path(folder), count, CLIENTS, database_url=postgres.url)
    return found


def run(options: Options) -> Result:
    """Idle, then with workers busy on the same cores."""
    count = 300 if options.quick else 2000
    result = options.result(SCENARIO, TITLE, [OURS], {})
    idle = _both(count)
    with registry() as source:
        busy = Busy(source, load(source.url, QUICK if options.quick else FLEET))
        thread = threading.Thread(target=busy)
        thread.start()
        try:
            loaded = _both(count)
        finally:
            busy.ended.set()
            thread.join()
    rows = [
        [name, when, *(number(found[name][key], 1) for key in ("per_second", "p50_ms", "p99_ms"))]
        for when, found in (("idle", idle), ("workers busy", loaded))
        for name in found
    ]
    result.tables.append(
        Table(
            f"{count} executions by {CLIENTS} clients; busy: `transship sync` copies the fleet of "
            "S2 over and over on the same cores, with an engine of its own",
            ["database", "machine", "a second", "median ms", "p99 ms"],
            rows,
        )
    )
    for name, least in (("SQLite", 150), ("PostgreSQL", 300)):
        reached = None if busy.faults else loaded[name]["per_second"] >= least
        result.aims.append(
            Aim(
                f"accepted a second on {name}, workers busy",
                f">= {least}",
                number(loaded[name]["per_second"], 1),
                reached,
            )
        )
    result.notes += busy.faults
    result.facts |= {"idle": idle, "busy": loaded}
    return result
