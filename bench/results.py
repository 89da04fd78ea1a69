"""What a scenario found, as it is written to `bench/results/`."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contest import Run, best_peer, median, ratio

RESULTS = Path(__file__).with_name("results")


@dataclass
class Table:
    """A table of the results page; cells are text already."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Aim:
    """A figure to reach: `found` and whether it is. `reached` is None where nothing could be told."""

    what: str
    aim: str
    found: str
    reached: bool | None


@dataclass
class Result:
    """One scenario."""

    scenario: str
    title: str
    tables: list[Table] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    runs: list[Any] = field(default_factory=list)
    quick: bool = False

    def write(self) -> Path:
        """Write it to its file."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.scenario}{'-quick' if self.quick else ''}.json"
        document = {"machine": machine(), **asdict(self)}
        path.write_text(json.dumps(document, indent=1, default=str) + "\n")
        return path


def machine() -> dict[str, Any]:
    """What it ran on; no names."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "commit": commit,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A cell; a dash for what is not known."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def spread(runs: Sequence[Run]) -> str:
    """Median wall and the range of its rounds; why not, where a run was not proved."""
    bad = [one for one in runs if one.wall is None]
    if bad:
        return f"unproved ({len(bad)} of {len(runs)}: {bad[0].faults[0][:60]})"
    walls = [one.wall for one in runs if one.wall is not None]
    return f"{median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f})"


def comparison(
    title: str,
    runs: Mapping[str, Sequence[Run]],
    ours: str,
    *,
    tags: int,
    unique_bytes: int,
    missing: Mapping[str, str],
) -> Table:
    """All contestants side by side."""
    columns = [
        "tool",
        "its best setting",
        "wall s (range)",
        "ours / it",
        "client CPU s",
        "registries' CPU s",
        "peak MiB, all processes",
        "requests a tag",
        "bytes from the source / unique",
        "mounts",
    ]
    rows = []
    for name, found in runs.items():
        if not found:
            continue
        proved = all(one.wall is not None for one in found)
        rows.append(
            [
                f"**{name}**" if name == ours else name,
                found[0].setting.replace(" ,", ","),
                spread(found),
                "1" if name == ours else number(ratio(runs[ours], found)),
                number(median([one.cpu for one in found])) if proved else "-",
                number(median([sum(one.registry_cpu.values()) for one in found]))
                if proved
                else "-",
                number(median([one.peak_rss / 2**20 for one in found]), 0),
                number(median([one.total_requests / tags for one in found]), 2),
                number(median([one.source_bytes / unique_bytes for one in found]), 3),
                number(median([one.mounts for one in found]), 0),
            ]
        )
    rows += [[name, f"missing: {why}", *("-",) * 8] for name, why in missing.items()]
    return Table(title, columns, rows)


def wall_aim(
    runs: Mapping[str, Sequence[Run]], ours: str, peers: Sequence[str], most: float, what: str
) -> Aim:
    """Our wall time against the best of some peers."""
    best = best_peer(runs, peers)
    if best is None:
        return Aim(what, f"<= {most:g} x the best", "no peer was proved", None)
    found = ratio(runs[ours], runs[best[0]])
    text = f"{number(found)} x {best[0]}"
    return Aim(what, f"<= {most:g} x the best", text, None if found is None else found <= most)
