"""S4: one source, 4 and 8 destinations, each registry behind an uplink of its own.

Each is a region of its own, and links join them all: ours is told so, its peers have no words for it. Peers are
swept with four destinations, and keep their best setting for eight. The first fleet is of small layers,
where requests are what costs; that of the last table is of larger ones, where the uplinks are.
"""

from __future__ import annotations

from dataclasses import replace

from api.samples.fleet_plan import MIB, FleetSpec
from bench.contest import contest, median
from bench.fleets import QUICK, load
from bench.options import Options
from bench.peers import OURS, Contestant, Transship
from bench.registries import registry
from bench.results import Aim, Result, comparison, number, wall_aim
from bench.shaping import Link
from bench.stages import fresh

TITLE = "one source, many destinations"
SCENARIO = "S4"
LARGE = FleetSpec(repositories=8, tags=24, unique_bytes=200 * MIB, big_images=0)
LINK = Link(delay=0.02, shared_bytes_per_second=12_500_000)  # 100 Mbit/s each direction


class Joined(Transship):
    """Ours, told where registries are."""

    regions = True


def run(options: Options) -> Result:
    """The same with each number of destinations."""
    present, missing = options.fleet_peers(far=True)
    contestants: list[Contestant] = [Joined("transship", "transship", own=True), *present]
    result = options.result(SCENARIO, TITLE, contestants, missing)
    with registry() as small, registry() as large:
        fleets = {small: load(small.url, QUICK)}
        rounds = [(small, 2)] if options.quick else [(small, 4), (small, 8), (large, 8)]
        if not options.quick:
            fleets[large] = load(large.url, LARGE)
        result.facts["fleet"] = [fleet.describe() for fleet in fleets.values()]
        for source, count in rounds:
            fleet = fleets[source]
            title = f"{count} destinations, {'larger' if source is large else 'small'} layers"
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
                    f"{title}; {fleet.summary.tags} tags, {unique / 2**20:.0f} MiB "
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
                    f"{title}: source egress / unique bytes",
                    "1.0",
                    number(share, 3),
                    None if share is None else share <= 1.01,
                )
            )
            names = [one.name for one in present]
            result.aims.append(wall_aim(runs, OURS.name, names, 0.25, f"{title}: wall"))
            result.runs += [*swept, *(one for found in runs.values() for one in found)]
            result.write()  # the tables to come take half an hour
    return result
