"""S2b: the same fleet into a destination that refuses every mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from api.samples.registry import DISTRIBUTION_2, FaultRule, SampleRegistry
from bench.contest import Stage, contest, median
from bench.fleets import FLEET, QUICK, Loaded, load
from bench.options import Options
from bench.peers import OURS, Contestant, Invocation, Job
from bench.registries import registry
from bench.results import Aim, Result, comparison, number
from bench.stages import scratch
from tests.oracle.closure import check
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost

TITLE = "a fleet into a destination that refuses mounts"
SCENARIO = "S2b"


class RefusingStage:
    """docker-registry as the source, the shipped sample registry as the destination."""

    def __init__(
        self, source: RealRegistry, sample: SampleRegistry, fleet: Loaded, job: Job
    ) -> None:
        self.source, self.sample, self.fleet, self._job = source, sample, fleet, job

    def servers(self) -> Mapping[str, int]:
        return {"source": self.source.pid, "destination": os.getpid()}

    def job(self) -> Job:
        return self._job

    def costs(self) -> Mapping[str, RequestCost]:
        return {
            "source": RequestCost.of(self.source.access_log()),
            "destination": RequestCost.of(list(self.sample.log)),
        }

    def judge(self, invocation: Invocation) -> list[str]:
        expected = self.fleet.expected(invocation.naming)
        return check(self.source.url, self.sample.url, expected).faults


def run(options: Options) -> Result:
    """All contestants but the floor, which needs mounts."""
    present, missing = options.fleet_peers()
    contestants: list[Contestant] = [OURS, *present]
    with registry() as source:
        fleet = load(source.url, QUICK if options.quick else FLEET)

        @contextlib.contextmanager
        def stage(_: Contestant) -> Iterator[Stage]:
            with scratch() as folder, SampleRegistry(profile=DISTRIBUTION_2) as sample:
                sample.faults.add(
                    FaultRule(path="[?&]mount=", method="POST", times=10**9, refuse_mount=True)
                )
                source.clear_access_log()
                job = Job(source.url, [sample.url], fleet.repositories, fleet.places, folder)
                yield RefusingStage(source, sample, fleet, job)

        runs, swept = contest(contestants, stage, rounds=options.rounds, sweep=options.sweep)
    result = options.result(SCENARIO, TITLE, contestants, missing)
    unique = fleet.summary.unique_bytes
    result.facts["fleet"] = fleet.describe()
    result.tables.append(
        comparison(
            "The fleet of S2; the destination is the shipped sample registry, which answers every "
            "mount as if it did not know the blob",
            runs,
            OURS.name,
            tags=fleet.summary.tags,
            unique_bytes=unique,
            missing=missing,
        )
    )
    share = median([one.source_bytes / unique for one in runs[OURS.name]])
    result.aims = [
        Aim(
            "bytes over the source link / unique bytes",
            "1.0",
            number(share, 4),
            None if share is None else share <= 1.001,
        )
    ]
    result.runs = [*swept, *(one for found in runs.values() for one in found)]
    return result
