"""Stages: registries made ready for one run, the checker behind them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleets import Loaded
from bench.peers import Contestant, Invocation, Job
from bench.registries import registry
from bench.shaping import Link, Shaper
from tests.oracle.closure import check
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost


@dataclass
class FleetStage:
    """A source with a fleet, and destinations; `links` are what stands before each of them."""

    source: RealRegistry
    destinations: Sequence[RealRegistry]
    fleet: Loaded
    scratch: Path
    extra: bool = True  # whether tags that nobody expects are faults
    source_url: str = ""
    destination_urls: Sequence[str] = field(default_factory=tuple)

    def servers(self) -> Mapping[str, int]:
        found = {"source": self.source.pid}
        for number, one in enumerate(self.destinations):
            found[f"destination-{number}"] = one.pid
        return found

    def job(self) -> Job:
        return Job(
            self.source_url or self.source.url,
            self.destination_urls or [one.url for one in self.destinations],
            self.fleet.repositories,
            self.fleet.places,
            self.scratch,
        )

    def costs(self) -> Mapping[str, RequestCost]:
        found = {"source": RequestCost.of(self.source.access_log())}
        for number, one in enumerate(self.destinations):
            found[f"destination-{number}"] = RequestCost.of(one.access_log())
        return found

    def judge(self, invocation: Invocation) -> list[str]:
        faults = []
        expected = self.fleet.expected(invocation.naming)
        for one in self.destinations:
            report = check(self.source.url, one.url, expected, extra=self.extra)
            faults += report.faults
        return faults


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder of one run, on disk as a user's would be."""
    folder = Path(tempfile.mkdtemp(prefix="transship-bench-run-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh(
    source: RealRegistry,
    fleet: Loaded,
    *,
    destinations: int = 1,
    make: Callable[[], RealRegistry] = registry,
    source_link: Link | None = None,
    destination_link: Link | None = None,
) -> Callable[[Contestant], contextlib.AbstractContextManager[FleetStage]]:
    """Stages with new, empty destinations, behind links where these are given."""

    @contextlib.contextmanager
    def stage(_: Contestant) -> Iterator[FleetStage]:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(scratch())
            others = [stack.enter_context(make()) for _ in range(destinations)]
            found = FleetStage(source, others, fleet, folder)
            if source_link is not None or destination_link is not None:
                shaper = stack.enter_context(Shaper())
                if source_link is not None:
                    found.source_url = shaper.before(source.url, source_link)
                if destination_link is not None:
                    found.destination_urls = [
                        shaper.before(one.url, destination_link) for one in others
                    ]
                shaper.start()
            source.clear_access_log()
            yield found

    return stage
