"""How long `where` takes: one image at 40 registries, answered by one API process from SQL.

    python -m bench.where [--registries 40] [--tags 2000] [--executions 3] [--requests 200] [--json FILE]

A rule serves the registries; each of `--executions` runs that are kept has moved every tag to each
of them. Every request asks for another tag. The aim is 200 ms on SQLite and PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.api_process import ApiProcess
from tests.support.many_places import REPOSITORY, ManyPlaces
from tests.support.servers import PostgresServer


def measure(folder: Path, places: ManyPlaces, requests: int, **settings: Any) -> dict[str, float]:
    server = ApiProcess(folder, api_requests_per_second=1e6, **settings)
    try:
        places.fill(server.services)
        with server.process:
            server.process.wait_ready(server.ready)
            latencies = []
            for number in range(requests):
                tag = f"v{number * 7919 % places.tags}"
                began = time.perf_counter()
                status, found = server.ask("GET", f"/api/v1/images/{REPOSITORY}/{tag}/locations")
                latencies.append(time.perf_counter() - began)
                whole = sum(1 for row in found["locations"] if row["state"] == "whole")
                if status != 200 or whole != places.registries:
                    raise SystemExit(f"the API answered {status}: {found}")
        latencies.sort()
        return {
            "p50_ms": round(1000 * latencies[requests // 2], 1),
            "p99_ms": round(1000 * latencies[requests * 99 // 100], 1),
        }
    finally:
        server.services.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--registries", type=int, default=40)
    parser.add_argument("--tags", type=int, default=2000)
    parser.add_argument("--executions", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    places = ManyPlaces(options.registries, options.tags, options.executions)
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "registries": places.registries,
        "copies": places.registries * places.tags * places.executions,
    }
    with tempfile.TemporaryDirectory() as folder:
        found["sqlite"] = measure(Path(folder), places, options.requests)
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as postgres:
        found["postgresql"] = measure(
            Path(folder), places, options.requests, database_url=postgres.url
        )
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
