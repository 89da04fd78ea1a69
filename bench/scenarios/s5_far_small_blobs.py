"""S5: many small blobs, both registries 40 ms away."""

from __future__ import annotations

from api.samples.fleet_plan import MIB, FleetSpec
from bench.contest import contest
from bench.fleets import load
from bench.options import Options
from bench.peers import FLOOR, OURS, Contestant
from bench.registries import registry
from bench.results import Result, comparison, wall_aim
from bench.shaping import Link
from bench.stages import fresh

TITLE = "many small blobs over 40 ms each way"
SCENARIO = "S5"
LINK = Link(delay=0.04, bytes_per_second=30_000_000)


def run(options: Options) -> Result:
    """All contestants, each into a new registry behind a link, the source behind another."""
    present, missing = options.fleet_peers(far=True)
    contestants: list[Contestant] = [OURS, *present, FLOOR]
    tags = 30 if options.quick else 120
    spec = FleetSpec(repositories=tags // 4, tags=tags, unique_bytes=2 * MIB, big_images=0)
    with registry() as source:
        fleet = load(source.url, spec)
        stages = fresh(source, fleet, source_link=LINK, destination_link=LINK)
        runs, swept = contest(contestants, stages, rounds=options.rounds, sweep=options.sweep)
    result = options.result(SCENARIO, TITLE, contestants, missing)
    result.facts["fleet"] = fleet.describe()
    result.tables.append(
        comparison(
            f"{fleet.summary.unique_blobs} blobs, {fleet.summary.unique_bytes / 2**20:.1f} MiB, in "
            f"{fleet.summary.tags} tags; {LINK.describe()}, before both registries",
            runs,
            OURS.name,
            tags=fleet.summary.tags,
            unique_bytes=fleet.summary.unique_bytes,
            missing=missing,
        )
    )
    result.aims = [wall_aim(runs, OURS.name, ["crane"], 0.25, "whole command, wall, to crane")]
    result.runs = [*swept, *(one for found in runs.values() for one in found)]
    return result
