"""How long the dispatcher takes to choose what to send next from a large backlog.

    python -m bench.backlog [--copies 100000] [--rounds 9] [--json FILE]

One rule has `--copies` pending copies, another 1,000, a third 50. Milliseconds of the median round, on
SQLite and on PostgreSQL: where copies wait, the next 192 of them, and those marked as sent, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from service.store.database import Database
from service.store.schema import create_or_upgrade
from tests.integration.store.builders import Plot, selected
from tests.support.servers import PostgresServer

NEXT = 192
PAGE = 2000


def fill(database: Database, copies: int) -> Plot:
    create_or_upgrade(database)
    plot = Plot(database)
    for rule, count in (("large", copies), ("middle", 1000), ("small", 50)):
        execution = plot.execution(rule)
        for start in range(0, count, PAGE):
            stop = min(count, start + PAGE)
            names = [f"{rule}{number}" for number in range(start, stop)]
            plot.page(
                execution,
                [selected(name, destination_reference=name) for name in names],
                cursor=str(start),
                done=stop == count,
            )
    if not database.is_sqlite:
        database.write(lambda connection: connection.execute(text("ANALYZE")))
    return plot


def median_ms(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 2)


def measure(url: str, copies: int, rounds: int) -> dict[str, float]:
    database = Database(url)
    try:
        store = fill(database, copies).dispatching

        def choose() -> list[object]:
            return list(store.eligible("local", NEXT, urgent=False))

        assert len(choose()) == NEXT
        return {
            "where_copies_wait_ms": median_ms(store.pending, rounds),
            "the_next_ms": median_ms(choose, rounds),
            "the_next_marked_ms": median_ms(
                lambda: store.dispatch(store.eligible("local", NEXT, urgent=False)), rounds
            ),
        }
    finally:
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as postgres:
        found = {
            "copies": options.copies,
            "sqlite": measure(f"sqlite:///{folder}/b.db", options.copies, options.rounds),
            "postgresql": measure(postgres.fresh_database(), options.copies, options.rounds),
        }
    told = json.dumps(found, indent=1)
    print(told)
    if options.json is not None:
        options.json.write_text(told + "\n")


if __name__ == "__main__":
    main()
