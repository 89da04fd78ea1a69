"""S3: the same fleet once more: nothing has changed, and the question is what it costs to know."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.contest import Stage, contest, median
from bench.fleets import FLEET, QUICK, Loaded, load
from bench.measure import run as measured_run
from bench.options import Options
from bench.peers import FLOOR, OURS, SKOPEO, Contestant, Job, Transship
from bench.registries import registry
from bench.results import Aim, Result, comparison, number, wall_aim
from bench.stages import FleetStage, scratch
from tests.support.servers import RealRegistry

TITLE = "nothing changed"
SCENARIO = "S3"


class Again(Transship):
    """With `--data`, as a schedule would call it: the database of the first run is there."""

    def words_of(self, setting: str, job: Job) -> Sequence[str]:
        return ("--data", str(_DATA[0]))


_DATA: list[Path] = []
AGAIN = Again("transship --data", "transship", own=True)


def run(options: Options) -> Result:
    """All contestants over one destination that is whole already."""
    present, missing = options.fleet_peers()
    contestants: list[Contestant] = [OURS, AGAIN, *present, FLOOR]
    with registry() as source, registry() as destination, scratch() as data:
        fleet = load(source.url, QUICK if options.quick else FLEET)
        _DATA[:] = [data / "state"]
        _fill(source, destination, fleet)

        @contextlib.contextmanager
        def stage(_: Contestant) -> Iterator[Stage]:
            with scratch() as folder:
                source.clear_access_log()
                destination.clear_access_log()
                yield FleetStage(source, [destination], fleet, folder, extra=False)

        runs, swept = contest(contestants, stage, rounds=options.rounds, sweep=options.sweep)
    result = options.result(SCENARIO, TITLE, contestants, missing)
    result.facts["fleet"] = fleet.describe()
    result.tables.append(
        comparison(
            f"The fleet of S2 ({fleet.summary.tags} tags), already at the destination",
            runs,
            OURS.name,
            tags=fleet.summary.tags,
            unique_bytes=fleet.summary.unique_bytes,
            missing=missing,
        )
    )
    for ours in (OURS.name, AGAIN.name):
        per_tag = median([_besides_listings(one.requests) for one in runs[ours]])
        found = None if per_tag is None else per_tag / fleet.summary.tags
        result.aims.append(
            Aim(
                f"{ours}: requests a tag, both sides, besides listings and pings",
                "<= 2",
                number(found),
                None if found is None else found <= 2,
            )
        )
        result.aims.append(
            wall_aim(runs, ours, ["crane", "skopeo sync", "regsync"], 1.0, f"{ours}: wall")
        )
    result.notes.append(
        "`transship` begins with an empty database each time; `transship --data` keeps that of the "
        "run that copied the fleet."
    )
    result.runs = [*swept, *(one for found in runs.values() for one in found)]
    return result


def _besides_listings(requests: object) -> float:
    total = 0
    assert isinstance(requests, dict)
    for kinds in requests.values():
        total += sum(kinds.values())
        total -= sum(kinds.get(kind, 0) for kind in ("GET tags", "GET catalog", "GET ping"))
    return float(total)


def _fill(source: RealRegistry, destination: RealRegistry, fleet: Loaded) -> None:
    """Have the fleet at the destination: as ours names it, and as skopeo sync does."""
    with scratch() as folder:
        job = Job(source.url, [destination.url], fleet.repositories, fleet.places, folder)
        for one, setting in ((AGAIN, "as shipped"), (SKOPEO, "4 at once")):
            invocation = one.invoke(job, setting)
            done = measured_run(
                invocation.command, environment=invocation.environment, cwd=folder, timeout=600
            )
            if done.exit_code:
                raise RuntimeError(f"{one.name} could not fill the destination: {done.stderr}")
            if one is AGAIN and json.loads(done.stdout)["state"] != "succeeded":
                raise RuntimeError(done.stdout)
