"""Executions accepted per second by `transship api`, on SQLite and PostgreSQL.

    python -m bench.accept [--executions 2000] [--clients 16] [--json FILE]

Each POST is answered when its execution's row is durable (SQLite: synchronous=FULL). Every rule is run
once, so each request makes a new execution. The aims are 150 a second on SQLite and 300 on PostgreSQL.
Client and server share the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from tests.support.api_process import ApiProcess
from tests.support.servers import PostgresServer


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
    server: ApiProcess, numbers: range, latencies: list[float], gate: threading.Barrier
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {server.token}"}
    gate.wait(30)
    for number in numbers:
        began = time.perf_counter()
        connection.request("POST", f"/api/v1/rules/rule-{number}/executions", headers=headers)
        response = connection.getresponse()
        response.read()
        if response.status != 202:
            raise SystemExit(f"the API answered {response.status}")
        latencies.append(time.perf_counter() - began)
    connection.close()


def measure(folder: Path, count: int, clients: int, **settings: Any) -> dict[str, float]:
    server = ApiProcess(
        folder, api_requests_per_second=1e6, api_concurrency=clients + 1, **settings
    )
    try:
        prepare(server, count)
        with server.process:
            server.process.wait_ready(server.ready)
            latencies: list[float] = []
            gate = threading.Barrier(clients + 1)
            threads = [
                threading.Thread(
                    target=post, args=(server, range(i, count, clients), latencies, gate)
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
        if len(latencies) != count:
            raise SystemExit("not every request was answered")
        latencies.sort()
        return {
            "executions": count,
            "per_second": round(count / seconds, 1),
            "p50_ms": round(1000 * latencies[count // 2], 1),
            "p99_ms": round(1000 * latencies[count * 99 // 100], 1),
        }
    finally:
        server.services.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--executions", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": platform.machine(), "clients": options.clients}
    with tempfile.TemporaryDirectory() as folder:
        found["sqlite"] = measure(Path(folder), options.executions, options.clients)
    durable = {"fsync": "on"}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(settings=durable) as postgres:
        found["postgresql"] = measure(
            Path(folder), options.executions, options.clients, database_url=postgres.url
        )
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
