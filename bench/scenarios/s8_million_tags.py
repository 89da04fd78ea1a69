"""S8: a rule of 1,000,000 tags of a simulated registry: memory over time, SQL, idle runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Measured
from bench.measure import run as measured
from bench.options import Options
from bench.peers import OURS, Job
from bench.results import Aim, Result, Table, number
from bench.stages import scratch

TITLE = "a rule of 1,000,000 tags"
SCENARIO = "S8"
MIB = 1 << 20
_SCRIPT = Path(__file__).parent.parent / "simulated.py"


@contextlib.contextmanager
def simulated(repositories: int, tags: int) -> Iterator[str]:
    command = [sys.executable, "-I", str(_SCRIPT), str(repositories), str(tags)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def rules_file(folder: Path, source: str, destination: str) -> Path:
    document = OURS.document(Job(source, [destination], [], [], folder))
    document["rules"][0]["destinations"] = [{"registry": "destination-0"}]  # type: ignore[index]
    path = folder / "transship.yaml"
    path.write_text(json.dumps(document))
    return path


def timed_sync(folder: Path, rules: Path, timeout: float, interval: float) -> Measured:
    command = [str(OURS.path()), "sync", "-f", str(rules), "--data", str(folder / "data"), "--json"]
    done = measured(command, cwd=folder, timeout=timeout, interval=interval)
    if done.exit_code:
        raise RuntimeError(done.stderr[-2000:])
    return done


def _database(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "data").glob("transship.db*"))


def _half(run: Measured, kind: str, *, second: bool) -> int:
    """The highest resident size of a kind of process in one half of the run."""
    middle = run.series[-1][0] / 2
    sizes = [k.get(kind, 0) for at, _, k in run.series if (at >= middle) == second]
    return max(sizes, default=0)


def run(options: Options) -> Result:
    """One run over all tags, then 100 runs that find nothing new in a smaller registry."""
    repositories, tags = (4, 1000) if options.quick else (100, 10_000)
    runs = 3 if options.quick else 100
    total = repositories * tags
    result = options.result(SCENARIO, TITLE, [OURS], {})
    with (
        simulated(repositories, tags) as source,
        simulated(repositories, tags) as destination,
        scratch() as folder,
    ):
        large = timed_sync(folder, rules_file(folder, source, destination), 6 * 3600, 0.25)
        told = json.loads(large.stdout)
        size = _database(folder)
    whole = told["copies"]["unchanged"] == total and told["state"] == "succeeded"
    rows = []
    for kind in sorted(large.peak_rss_of):
        first, last = (_half(large, kind, second=second) for second in (False, True))
        peak = large.peak_rss_of[kind]
        rows.append([kind, *(number(value / MIB, 1) for value in (first, last, peak))])
    result.tables.append(
        Table(
            f"{total} tags in {repositories} repositories, all at the destination already; "
            f"{large.wall:.0f} s, {large.cpu:.0f} s of CPU; resident MiB of each process",
            ["process", "first half, highest", "second half, highest", "peak"],
            rows,
        )
    )
    result.tables.append(
        Table(
            "That run, whole command, a thousand tags; the database with its write-ahead log",
            ["tags", "seconds per 1,000 tags, all of the command", "bytes of SQL per 1,000 tags"],
            [[str(total), number(1000 * large.wall / total, 3), number(1000 * size / total, 0)]],
        )
    )
    grown = max(
        (
            _half(large, kind, second=True) / max(1, _half(large, kind, second=False))
            for kind in large.peak_rss_of
        ),
        default=0.0,
    )
    redis = large.peak_rss_of.get("redis-server", 0)
    result.aims = [
        Aim("every tag was compared", str(total), str(told["copies"]["unchanged"]), whole),
        Aim(
            "highest memory, second half of the run / first half, the worst process",
            "<= 1.1",
            number(grown),
            grown <= 1.1,
        ),
        Aim("Redis, resident", "< 64 MiB", number(redis / MIB, 1, " MiB"), 0 < redis < 64 * MIB),
        _idle(result, runs),
    ]
    return result


def _idle(result: Result, runs: int) -> Aim:
    sizes: list[int] = []
    peaks: list[int] = []
    with (
        simulated(4, 250) as source,
        simulated(4, 250) as destination,
        scratch() as folder,
    ):
        rules = rules_file(folder, source, destination)
        for _ in range(runs + 1):
            peaks.append(timed_sync(folder, rules, 300, 0.1).peak_rss)
            sizes.append(_database(folder))
    growth = sizes[-1] - sizes[0]
    result.facts["database_after_each_idle_run"] = sizes
    result.tables.append(
        Table(
            f"{runs} more runs over 1,000 tags that changed nothing",
            ["", "after the first", "after the last"],
            [
                ["bytes of SQL", str(sizes[0]), str(sizes[-1])],
                ["peak MiB, all processes", number(peaks[0] / MIB, 1), number(peaks[-1] / MIB, 1)],
            ],
        )
    )
    return Aim(
        f"bytes of SQL per idle run, over {runs} runs",
        "<= 4096",
        number(growth / runs, 0),
        growth / runs <= 4096,
    )
