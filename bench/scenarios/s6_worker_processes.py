"""S6: 1, 2, 4 and 8 worker processes of ours on links where latency is everything.

A process is given one task and two helpers at a time, so that eight of them do not want more than the
machine has: with all that one process does at once as shipped, the cores would be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from api.samples.fleet_plan import MIB, FleetSpec
from bench.contest import contest, ratio
from bench.fleets import load
from bench.options import Options
from bench.peers import Contestant, Invocation, Job, Transship
from bench.registries import registry
from bench.results import Aim, Result, comparison, number
from bench.shaping import Link
from bench.stages import fresh

TITLE = "1 to 8 worker processes on latency-bound links"
SCENARIO = "S6"
LINK = Link(delay=0.12)
NARROW = {
    "TRANSSHIP_WORKER_SLOTS": "1",
    "TRANSSHIP_FAR_SLOTS": "1",
    "TRANSSHIP_HELPER_THREADS": "2",
}


class Workers(Transship):
    def words_of(self, setting: str, job: Job) -> Sequence[str]:
        return ("--workers", setting.split(maxsplit=1)[0])

    def invoke(self, job: Job, setting: str) -> Invocation:
        found = super().invoke(job, setting)
        return replace(found, environment={**found.environment, **NARROW})


def run(options: Options) -> Result:
    """Ours against itself; the engine's own time is judged."""
    counts = (1, 2) if options.quick else (1, 2, 4, 8)
    contestants: list[Contestant] = [
        Workers(f"{count} worker processes", "transship", (f"{count} processes",), own=True)
        for count in counts
    ]
    tags = 30 if options.quick else 120
    spec = FleetSpec(repositories=tags // 6, tags=tags, unique_bytes=2 * MIB, big_images=0)
    with registry() as source:
        fleet = load(source.url, spec)
        stages = fresh(source, fleet, source_link=LINK, destination_link=LINK)
        runs, swept = contest(contestants, stages, rounds=options.rounds, sweep=False)
    result = options.result(SCENARIO, TITLE, contestants[:1], {})
    result.facts["fleet"] = fleet.describe()
    first, last = contestants[0].name, contestants[-1].name
    result.tables.append(
        comparison(
            f"{fleet.summary.tags} tags, {fleet.summary.unique_blobs} blobs; {LINK.describe()}, "
            "before both registries",
            runs,
            first,
            tags=fleet.summary.tags,
            unique_bytes=fleet.summary.unique_bytes,
            missing={},
        )
    )
    times = ratio(runs[first], runs[last], "engine_seconds")
    result.aims = [
        Aim(
            f"engine seconds, {first} / {last}",
            ">= 7",
            number(times),
            None if times is None else times >= 7,
        )
    ]
    result.runs = [*swept, *(one for found in runs.values() for one in found)]
    return result
