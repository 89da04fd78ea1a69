"""S1: large layers on loopback, plain and over TLS: CPU of the client per GiB, and wall.

One image: settings that only tell how many repositories are copied at once are not swept. Each round also
copies an image of one small layer, which costs nothing but the start of the command: what is left beyond
it is what the bytes cost.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from api.samples.fleet import FleetSummary
from bench.contest import Run, Stage, StageMaker, best_peer, contest, median, ratio
from bench.fleets import Loaded
from bench.options import Missing, Options
from bench.peers import CRANE, OURS, REGSYNC, SKOPEO, Contestant, Invocation, Job
from bench.peers_install import find
from bench.registries import KINDS, TlsFiles, TlsRegistry, registry
from bench.results import Aim, Result, comparison, number
from bench.stages import FleetStage, scratch
from tests.oracle.closure import check
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost
from tests.support.wire import Wire, image_body

TITLE = "large layers"
SCENARIO = "S1"
KIND = "distribution-v3"
SMALL = (1 << 10,)


def push(url: str, layers: tuple[int, ...]) -> Loaded:
    """One image with layers of these sizes."""
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    contents = [
        b"\x1f\x8b\x08\x00" + hashlib.shake_128(f"large {i} {size}".encode()).digest(size)
        for i, size in enumerate(layers)
    ]
    with Wire(url) as wire:
        for data in (config, *contents):
            assert wire.push_blob("large/image", data).status == 201
        answer = wire.put_manifest("large/image", "v1", image_body(config, contents))
        assert answer.status == 201, answer
    size = len(config) + sum(len(data) for data in contents)
    digests = {("large/image", "v1"): str(answer["Docker-Content-Digest"])}
    return Loaded(FleetSummary(1, 1, len(layers) + 1, size, 1, digests), size)


class TlsStage(FleetStage):
    """Both sides speak TLS; the checker reads the same files through plain servers."""

    files: TlsFiles

    def job(self) -> Job:
        return Job(
            self.source.url,
            [one.url for one in self.destinations],
            self.fleet.repositories,
            self.fleet.places,
            self.scratch,
            ca=self.files.ca,
        )

    def costs(self) -> Mapping[str, RequestCost]:
        return {
            "source": RequestCost.of(self.source.access_log()),
            "destination-0": RequestCost.of(self.destinations[0].access_log()),
        }

    def judge(self, invocation: Invocation) -> list[str]:
        source, destination = self.source, self.destinations[0]
        assert isinstance(source, TlsRegistry)
        assert isinstance(destination, TlsRegistry)
        with source.plain() as here, destination.plain() as there:
            expected = self.fleet.expected(invocation.naming)
            return check(here.url, there.url, expected).faults


def _plain_stages(source: RealRegistry, fleet: Loaded) -> StageMaker:
    @contextlib.contextmanager
    def stage(_: Contestant) -> Iterator[Stage]:
        with scratch() as folder, registry(KIND) as destination:
            source.clear_access_log()
            yield FleetStage(source, [destination], fleet, folder)

    return stage


def _tls_stages(source: TlsRegistry, fleet: Loaded, files: TlsFiles, program: str) -> StageMaker:
    @contextlib.contextmanager
    def stage(_: Contestant) -> Iterator[Stage]:
        with scratch() as folder, TlsRegistry(files, program) as destination:
            source.clear_access_log()
            found = TlsStage(source, [destination], fleet, folder)
            found.files = files
            yield found

    return stage


def run(options: Options) -> Result:
    """One large layer and several, without and with TLS."""
    program = find(KINDS[KIND])
    if program is None:
        raise Missing(f"{KINDS[KIND]} is missing: run `python -m bench.peers_install`")
    _, missing = options.fleet_peers()
    contestants: list[Contestant] = [
        OURS,
        replace(CRANE, settings=("1 x -j1", "1 x -j4", "1 x -j16")),
        replace(SKOPEO, settings=("1 at once",)),
        replace(REGSYNC, settings=("parallel 1 , reqConcurrent 3", "parallel 8 , reqConcurrent 8")),
    ]
    result = options.result(SCENARIO, TITLE, contestants, missing)
    mib = 1 << 20
    shapes = (
        {"one layer of 128 MiB": (128 * mib,)}
        if options.quick
        else {"one layer of 1 GiB": (1024 * mib,), "8 layers of 128 MiB": (128 * mib,) * 8}
    )
    for shape, layers in shapes.items():
        with registry(KIND) as source:
            fleet = push(source.url, layers)
            runs, swept = contest(
                contestants,
                _plain_stages(source, fleet),
                rounds=options.rounds,
                sweep=options.sweep,
            )
        with registry(KIND) as source:
            little = push(source.url, SMALL)
            starts, _ = contest(
                contestants, _plain_stages(source, little), rounds=options.rounds, sweep=False
            )
        _add(result, f"{shape}, plain HTTP", fleet, runs, swept, starts)
        with scratch() as folder:
            files = TlsFiles(folder)
            with TlsRegistry(files, program) as source:
                with source.plain() as door:
                    fleet = push(door.url, layers)
                runs, swept = contest(
                    contestants,
                    _tls_stages(source, fleet, files, program),
                    rounds=options.rounds,
                    sweep=options.sweep,
                )
            with TlsRegistry(files, program) as source:
                with source.plain() as door:
                    little = push(door.url, SMALL)
                starts, _ = contest(
                    contestants,
                    _tls_stages(source, little, files, program),
                    rounds=options.rounds,
                    sweep=False,
                )
        _add(result, f"{shape}, TLS on both sides", fleet, runs, swept, starts)
    result.notes.append(
        "Client CPU is that of whole commands: ours brings Redis, a worker and Python up, which "
        "costs the same whatever is copied."
    )
    return result


def _beyond_start(runs: list[Run], starts: list[Run], of: str) -> float | None:
    """The median of what whole runs cost beyond those of a small layer."""
    whole = median([getattr(one, of) for one in runs])
    start = median([getattr(one, of) for one in starts])
    return None if whole is None or start is None else max(0.01, whole - start)


def _add(
    result: Result,
    name: str,
    fleet: Loaded,
    runs: dict[str, list[Run]],
    swept: list[Run],
    starts: dict[str, list[Run]],
) -> None:
    size = fleet.summary.unique_bytes
    result.tables.append(
        comparison(
            f"{name}; distribution v3 on both sides, loopback",
            runs,
            OURS.name,
            tags=1,
            unique_bytes=size,
            missing={},
        )
    )
    cpu = ratio(runs[OURS.name], runs[CRANE.name], "cpu")
    per_gib = median([one.cpu / (size / 2**30) for one in runs[OURS.name]])
    result.aims.append(
        Aim(
            f"{name}: client CPU per GiB",
            "<= 0.8 x crane",
            f"{number(cpu)} x crane ({number(per_gib)} s/GiB)",
            None if cpu is None else cpu <= 0.8,
        )
    )
    for what, of in (("client CPU", "cpu"), ("wall", "wall")):
        ours, theirs = (
            _beyond_start(runs[one], starts[one], of) for one in (OURS.name, CRANE.name)
        )
        share = None if ours is None or theirs is None else ours / theirs
        bound = 0.8 if of == "cpu" else 0.9
        result.aims.append(
            Aim(
                f"{name}: {what} beyond that of a small layer",
                f"<= {bound} x crane",
                f"{number(share)} x crane ({number(ours)} and {number(theirs)} s)",
                None if share is None else share <= bound,
            )
        )
    best = best_peer(runs, [CRANE.name, SKOPEO.name, REGSYNC.name])
    wall = ratio(runs[OURS.name], runs[best[0]]) if best else None
    result.aims.append(
        Aim(
            f"{name}: wall",
            "<= 0.9 x the best",
            f"{number(wall)} x {best[0] if best else '-'}",
            None if wall is None else wall <= 0.9,
        )
    )
    result.runs += [*swept, *(one for found in runs.values() for one in found)]
