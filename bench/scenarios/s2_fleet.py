"""S2: a fleet of hundreds of tags with shared layers into an empty destination."""

from __future__ import annotations

from bench.contest import contest, median, ratio
from bench.fleets import FLEET, QUICK, load
from bench.options import Options
from bench.peers import FLOOR, OURS, Contestant
from bench.registries import registry
from bench.results import Aim, Result, comparison, number, wall_aim
from bench.stages import fresh

TITLE = "a fleet into an empty destination"
SCENARIO = "S2"


def run(options: Options) -> Result:
    """All contestants, each into a new registry."""
    present, missing = options.fleet_peers()
    contestants: list[Contestant] = [OURS, *present, FLOOR]
    with registry() as source:
        fleet = load(source.url, QUICK if options.quick else FLEET)
        runs, swept = contest(
            contestants, fresh(source, fleet), rounds=options.rounds, sweep=options.sweep
        )
    result = options.result(SCENARIO, TITLE, contestants, missing)
    result.facts["fleet"] = fleet.describe()
    unique = fleet.summary.unique_bytes
    result.tables.append(
        comparison(
            f"{fleet.summary.tags} tags in {fleet.summary.repositories} repositories, "
            f"{unique / 2**20:.0f} MiB unique, {fleet.logical_bytes / 2**20:.0f} MiB logical; "
            "docker-registry 2.8.2 on both sides, loopback",
            runs,
            OURS.name,
            tags=fleet.summary.tags,
            unique_bytes=unique,
            missing=missing,
        )
    )
    ours, floor = runs[OURS.name], runs[FLOOR.name]
    share = median([one.source_bytes / unique for one in ours])
    result.aims = [
        Aim(
            "bytes over the source link / unique bytes",
            "1.0",
            number(share, 4),
            None if share is None else share <= 1.001,
        ),
        wall_aim(
            runs, OURS.name, ["crane", "skopeo sync", "regsync"], 0.35, "whole command, cold, wall"
        ),
    ]
    engine = ratio(ours, floor, "engine_seconds")
    result.aims.append(
        Aim(
            "engine (its own `seconds`, start-up of the process left out) / queue-less floor",
            "<= 1.5",
            f"{number(engine)} ({number(median([o.engine_seconds for o in ours]))} s / "
            f"{number(median([o.engine_seconds for o in floor]))} s)",
            None if engine is None else engine <= 1.5,
        )
    )
    result.notes.append(f"Whole command / floor as a command: {number(ratio(ours, floor))} x.")
    result.runs = [*swept, *(one for found in runs.values() for one in found)]
    return result
