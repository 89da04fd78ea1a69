"""Executions accepted per second by `transship api`, on SQLite and PostgreSQL.

    python -m bench.accept [--executions 2000] [--clients 16] [--half SECONDS] [--json FILE]

Each POST is answered when its execution's row is durable (SQLite: synchronous=FULL). Every rule is run
once, so each request makes a new execution. The aims are 150 a second on SQLite and 300 on PostgreSQL,
and at half of what was reached, for the seconds of `--half`, a p99 below 100 ms. Client and server share
the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from tests.support.api_process import ApiProcess
from tests.support.servers import PostgresServer

MOST_A_SECOND = 600
"""How many rules are at hand for a second of half load, doubled."""


def rule(number: int) -> SyncRule:
    return SyncRule(
        name=f"rule-{number}",
        source="east",
        select=(Selection(repositories=NameFilter(include=(f"team{number}/**",))),),
        destinations=(Destination(registry="west", repository=f"m{number}/{{repository}}"),),
    )


def prepare(server: ApiProcess, count: int) -> None:
    for name in ("east", "west"):
        endpoint = RegistryEndpoint(name, f"https://{name}.example")
        server.services.registries.put(endpoint, document={"name": name})
    for number in range(count):
        server.services.rules.put(rule(number), document={"name": f"rule-{number}"})


def post(
    server: ApiProcess,
    numbers: range,
    first: float,
    every: float,
    latencies: list[float],
    gate: threading.Barrier,
) -> None:
    """Ask for the rules' executions, one each `every` seconds from `first` on, or (0) one after the other.

    A request's time begins when it was due: what waits for a slow one before it has waited, too.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {server.token}"}
    gate.wait(30)
    start = time.perf_counter() + first
    for place, number in enumerate(numbers):
        began = start + place * every if every else time.perf_counter()
        time.sleep(max(0.0, began - time.perf_counter()))
        connection.request("POST", f"/api/v1/rules/rule-{number}/executions", headers=headers)
        response = connection.getresponse()
        response.read()
        if response.status != 202:
            raise SystemExit(f"the API answered {response.status}")
        latencies.append(time.perf_counter() - began)
    connection.close()


def load(
    server: ApiProcess, numbers: range, clients: int, a_second: float = 0.0
) -> dict[str, float]:
    """Ask for an execution of each of these rules; `a_second` of them, or (0) as fast as answers come."""
    latencies: list[float] = []
    gate = threading.Barrier(clients + 1)
    every = clients / a_second if a_second else 0.0
    threads = [
        threading.Thread(
            target=post,
            args=(server, numbers[i::clients], i * every / clients, every, latencies, gate),
        )
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    gate.wait(30)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if len(latencies) != len(numbers):
        raise SystemExit("not every request was answered")
    latencies.sort()
    return {
        "executions": len(numbers),
        "seconds": round(seconds, 1),
        "per_second": round(len(numbers) / seconds, 1),
        "p50_ms": round(1000 * latencies[len(numbers) // 2], 1),
        "p99_ms": round(1000 * latencies[len(numbers) * 99 // 100], 1),
    }


def measure(folder: Path, count: int, clients: int, **settings: Any) -> dict[str, float]:
    """Return what `count` executions, asked for by so many clients at once, took."""
    with serving(folder, count, clients, **settings) as server:
        return load(server, range(count), clients)


@contextmanager
def serving(folder: Path, rules: int, clients: int, **settings: Any) -> Iterator[ApiProcess]:
    """Serve so many rules without any limit of rate."""
    server = ApiProcess(
        folder, api_requests_per_second=1e6, api_concurrency=clients + 1, **settings
    )
    try:
        prepare(server, rules)
        with server.process:
            server.process.wait_ready(server.ready)
            yield server
    finally:
        server.services.close()


def both(
    folder: Path, count: int, clients: int, half_seconds: float, **settings: Any
) -> dict[str, dict[str, float]]:
    """Return what full load came to, and half of it for so many seconds: of the API as it is, none begun anew."""
    most = MOST_A_SECOND * half_seconds / 2
    with serving(folder, count + int(most), clients, **settings) as server:
        full = load(server, range(count), clients)
        a_second = min(full["per_second"], MOST_A_SECOND) / 2
        numbers = range(count, count + int(a_second * half_seconds))
        return {"full": full} | (
            {"half": load(server, numbers, clients, a_second)} if numbers else {}
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--executions", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--half", type=float, default=0.0, help="seconds at half load, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": platform.machine(), "clients": options.clients}
    load_of = (options.executions, options.clients, options.half)
    with tempfile.TemporaryDirectory() as folder:
        found["sqlite"] = both(Path(folder), *load_of)
    durable = {"fsync": "on"}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(settings=durable) as postgres:
        found["postgresql"] = both(Path(folder), *load_of, database_url=postgres.url)
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
