"""S4: one source, 4 and 8 destinations, each registry behind an uplink of its own.

Each is a region of its own, and links join them all: ours is told so, its peers have no words for it. Workers of all of them are on this
one machine, as all of a peer's threads are. Peers are swept with four destinations, and keep their best setting
for eight. The fleet is of small layers, where requests are what costs; for larger ones see S4b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.contest import Run, contest, median
from bench.fleets import QUICK, Loaded, load
from bench.options import Options
from bench.peers import OURS, Contestant, Transship
from bench.registries import registry
from bench.results import Aim, Result, comparison, number, wall_aim
from bench.shaping import Link
from bench.stages import fresh
from tests.support.servers import RealRegistry

TITLE = "one source, many destinations"
SCENARIO = "S4"
LINK = Link(delay=0.02, shared_bytes_per_second=12_500_000)  # 100 Mbit/s each direction
COUNTS = (4, 8)


class Joined(Transship):
    """Ours, told where registries are."""

    regions = True


def begin(
    options: Options, scenario: str, title: str
) -> tuple[Result, list[Contestant], dict[str, str]]:
    """Return an empty result, who takes part, and who cannot."""
    present, missing = options.fleet_peers(far=True)
    contestants: list[Contestant] = [Joined("transship", "transship", own=True), *present]
    return options.result(scenario, title, contestants, missing), contestants, missing


def compare(
    result: Result,
    contestants: Sequence[Contestant],
    missing: dict[str, str],
    source: RealRegistry,
    fleet: Loaded,
    count: int,
    what: str,
    *,
    rounds: int,
    sweep: bool,
    timeout: float = 600,
) -> dict[str, list[Run]]:
    """Have all copy to `count` destinations, and note table and aims; returns the runs by name."""
    stages = fresh(source, fleet, destinations=count, source_link=LINK, destination_link=LINK)
    runs, swept = contest(contestants, stages, rounds=rounds, sweep=sweep, timeout=timeout)
    title = f"{count} destinations, {what} layers"
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
    reached = None if share is None else share <= 1.01
    result.aims.append(
        Aim(f"{title}: source egress / unique bytes", "1.0", number(share, 3), reached)
    )
    peers = [one.name for one in contestants if not one.own]
    result.aims.append(wall_aim(runs, OURS.name, peers, 0.25, f"{title}: wall"))
    result.runs += [*swept, *(one for found in runs.values() for one in found)]
    return runs


def run(options: Options) -> Result:
    """The same with each number of destinations."""
    result, contestants, missing = begin(options, SCENARIO, TITLE)
    with registry() as source:
        fleet = load(source.url, QUICK)
        result.facts["fleet"] = fleet.describe()
        for count in COUNTS[:1] if options.quick else COUNTS:
            runs = compare(
                result,
                contestants,
                missing,
                source,
                fleet,
                2 if options.quick else count,
                "small",
                rounds=options.rounds,
                sweep=options.sweep,
            )
            contestants = [
                replace(one, settings=(runs[one.name][0].setting,)) for one in contestants
            ]
            result.write()  # the tables to come take some minutes
    return result
