"""Contestants against each other in one run, A B A B: swept, run, counted, judged, then timed.

A time is kept only of a run whose result the independent checker found whole.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.measure import Measured, run
from bench.peers import Contestant, Invocation, Job
from tests.support.source_log import RequestCost


class Stage(Protocol):
    """A place where one run happens: registries, links, what stands there before."""

    def servers(self) -> Mapping[str, int]:
        """Name -> process id of each registry."""

    def job(self) -> Job:
        """What is to be copied."""

    def costs(self) -> Mapping[str, RequestCost]:
        """Requests of the run by role (`source`, `destination`), from the access logs."""

    def judge(self, invocation: Invocation) -> list[str]:
        """The independent checker's faults."""


@dataclass
class Run:
    """One run of one contestant; `wall` is None when its result was not proved."""

    contestant: str
    setting: str
    round: int
    wall: float | None
    cpu: float
    registry_cpu: Mapping[str, float]
    peak_rss: int
    peak_rss_of: Mapping[str, int]
    requests: Mapping[str, Mapping[str, int]]
    source_bytes: int
    mounts: int
    exit_code: int
    faults: Sequence[str]
    engine_seconds: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_requests(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.requests.values())


StageMaker = Callable[[Contestant], AbstractContextManager[Stage]]


def once(
    contestant: Contestant, setting: str, number: int, stages: StageMaker, timeout: float
) -> Run:
    """One run on a stage of its own."""
    with stages(contestant) as stage:
        invocation = contestant.invoke(stage.job(), setting)
        measured = run(
            invocation.command,
            environment=invocation.environment,
            cwd=stage.job().scratch,
            servers=stage.servers(),
            timeout=timeout,
        )
        costs = stage.costs()
        faults = list(stage.judge(invocation))
        if measured.timed_out:
            faults.insert(0, f"was ended after {timeout:g} s")
        elif measured.exit_code:
            last = (measured.stderr.strip().splitlines() or [""])[-1]
            faults.insert(0, f"exit code {measured.exit_code}: {last[:300]}")
        return _record(contestant, setting, number, measured, costs, faults)


def _record(
    contestant: Contestant,
    setting: str,
    number: int,
    measured: Measured,
    costs: Mapping[str, RequestCost],
    faults: list[str],
) -> Run:
    told = _told(measured.stdout)
    return Run(
        contestant=contestant.name,
        setting=setting,
        round=number,
        wall=None if faults else round(measured.wall, 3),
        cpu=round(measured.cpu, 3),
        registry_cpu={name: round(value, 2) for name, value in measured.servers.items()},
        peak_rss=measured.peak_rss,
        peak_rss_of=dict(measured.peak_rss_of),
        requests={role: dict(cost.kinds) for role, cost in costs.items()},
        source_bytes=sum(c.blob_bytes for role, c in costs.items() if role.startswith("source")),
        mounts=sum(sum(cost.mounts.values()) for cost in costs.values()),
        exit_code=measured.exit_code,
        faults=faults[:20],
        engine_seconds=told.get("seconds"),
        report={
            **{k: told[k] for k in ("copies", "blobs", "bytes", "requests") if k in told},
            "failures": list(told.get("failures", ()))[:3],
        },
    )


def _told(stdout: str) -> dict[str, Any]:
    """The object that our own commands print; empty for others."""
    text = stdout.strip()
    if not text.startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def contest(
    contestants: Sequence[Contestant],
    stages: StageMaker,
    *,
    rounds: int,
    sweep: bool = True,
    timeout: float = 600,
) -> tuple[dict[str, list[Run]], list[Run]]:
    """Name -> runs at each one's best setting, and the runs of the sweep."""
    swept: list[Run] = []
    best: dict[str, str] = {}
    for one in contestants:
        settings = one.settings if sweep else one.settings[-1:]
        if len(one.settings) == 1 or not sweep:
            best[one.name] = settings[0]
            continue
        tried = [once(one, setting, 0, stages, timeout) for setting in settings]
        swept += tried
        for trial in tried:
            _say(trial, "sweep")
        whole = [trial for trial in tried if trial.wall is not None]
        best[one.name] = min(whole or tried[:1], key=lambda t: t.wall or 0).setting
    runs: dict[str, list[Run]] = {one.name: [] for one in contestants}
    for number in range(1, rounds + 1):
        for one in contestants:
            found = once(one, best[one.name], number, stages, timeout)
            runs[one.name].append(found)
            _say(found, f"round {number}")
    return runs, swept


def _say(found: Run, when: str) -> None:
    time = f"{found.wall:.2f} s" if found.wall is not None else f"unproved: {found.faults[0]}"
    print(
        f"  {when}: {found.contestant} ({found.setting}): {time}, client CPU {found.cpu:.2f} s, "
        f"{found.total_requests} requests, {found.source_bytes / 1e6:.1f} MB from the source, "
        f"peak {found.peak_rss / 2**20:.0f} MiB",
        file=sys.stderr,
        flush=True,
    )


def median(values: Sequence[float | None]) -> float | None:
    """The median; None as soon as one of them was not proved."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def ratio(ours: Sequence[Run], theirs: Sequence[Run], of: str = "wall") -> float | None:
    """The median over the rounds of ours to theirs."""
    pairs = [(getattr(a, of), getattr(b, of)) for a, b in zip(ours, theirs, strict=True)]
    if not pairs or any(a is None or not b for a, b in pairs):
        return None
    return statistics.median(a / b for a, b in pairs)


def best_peer(
    runs: Mapping[str, Sequence[Run]], names: Sequence[str], of: str = "wall"
) -> tuple[str, float] | None:
    """The peer with the lowest median, among those that were proved in every round."""
    found = []
    for name in names:
        value = median([getattr(one, of) for one in runs.get(name, ())])
        if value is not None:
            found.append((value, name))
    if not found:
        return None
    value, name = min(found)
    return name, value
