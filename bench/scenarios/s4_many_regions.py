"""S4: one source, 4 and 8 destinations, each registry behind an uplink of its own.

Peers are swept with four destinations, and keep their best setting for eight.
"""

from __future__ import annotations

from dataclasses import replace

from bench.contest import contest, median
from bench.fleets import QUICK, load
from bench.options import Options
from bench.peers import OURS, Contestant
from bench.registries import registry
from bench.results import Aim, Result, comparison, number, wall_aim
from bench.shaping import Link
from bench.stages import fresh

TITLE = "one source, many destinations"
SCENARIO = "S4"
LINK = Link(delay=0.02, shared_bytes_per_second=12_500_000)  # 100 Mbit/s each direction


def run(options: Options) -> Result:
    """The same with each number of destinations."""
    present, missing = options.fleet_peers(far=True)
    contestants: list[Contestant] = [OURS, *present]
    result = options.result(SCENARIO, TITLE, contestants, missing)
    with registry() as source:
        fleet = load(source.url, QUICK)
        result.facts["fleet"] = fleet.describe()
        for count in (2,) if options.quick else (4, 8):
            stages = fresh(
                source, fleet, destinations=count, source_link=LINK, destination_link=LINK
            )
            runs, swept = contest(contestants, stages, rounds=options.rounds, sweep=options.sweep)
            contestants = [
                replace(one, settings=(runs[one.name][0].setting,)) for one in contestants
            ]
            unique = fleet.summary.unique_bytes
            result.tables.append(
                comparison(
                    f"{count} destinations; {fleet.summary.tags} tags, {unique / 2**20:.0f} MiB "
                    f"unique; {LINK.describe()}, before every registry",
                    runs,
                    OURS.name,
                    tags=fleet.summary.tags * count,
                    unique_bytes=unique,
                    missing=missing,
                )
            )
            share = median([one.source_bytes / unique for one in runs[OURS.name]])
            result.aims.append(
                Aim(
                    f"{count} destinations: source egress / unique bytes",
                    "1.0",
                    number(share, 3),
                    None if share is None else share <= 1.01,
                )
            )
            names = [one.name for one in present]
            result.aims.append(
                wall_aim(runs, OURS.name, names, 0.25, f"{count} destinations: wall")
            )
            result.runs += [*swept, *(one for found in runs.values() for one in found)]
    return result
