"""What a command costs: wall time, CPU of all its processes, memory, and CPU of the registries apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
_NOTHING = {
    **dict.fromkeys(("wall", "user", "system"), 0.0),
    "timed_out": False,
    "peak_rss": 0,
    "peak_rss_of": {},
    "series": (),
}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command. Seconds and bytes."""

    wall: float
    user: float
    system: float
    exit_code: int
    timed_out: bool
    peak_rss: int  # sum over the tree of processes, at its highest
    peak_rss_of: Mapping[str, int]  # kind of process -> highest of one of them
    stdout: str
    stderr: str
    servers: Mapping[str, float] = field(default_factory=dict)  # name -> CPU seconds meanwhile
    series: Sequence[tuple[float, int, Mapping[str, int]]] = ()  # seconds, all, of each kind

    @property
    def cpu(self) -> float:
        """CPU seconds of the client: every process that the command started."""
        return self.user + self.system


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far, by /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    servers: Mapping[str, int] | None = None,
    timeout: float = 900,
    interval: float = 0.05,
) -> Measured:
    """Run a command to its end. `servers`: name -> process id of what it talks to."""
    servers = servers or {}
    with tempfile.TemporaryDirectory(prefix="transship-bench-") as folder:
        place = Path(folder)
        before = {name: cpu_seconds(pid) for name, pid in servers.items()}
        with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
            launcher = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_LAUNCH)),
                    *(str(place / "report"), str(interval), str(timeout)),
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(environment) if environment is not None else None,
                cwd=cwd,
                start_new_session=True,
            )
            try:
                launcher.wait(timeout + 60)
            finally:
                if launcher.poll() is None:
                    os.killpg(launcher.pid, signal.SIGKILL)
                    launcher.wait()
        after = {name: cpu_seconds(pid) for name, pid in servers.items()}
        stdout, stderr = ((place / name).read_text(errors="replace") for name in ("out", "err"))
        if (place / "report").exists():
            report = json.loads((place / "report").read_text())
        else:  # the measuring process was ended itself: no figure, and the others go on
            report = dict(_NOTHING, exit_code=launcher.returncode or 1)
    return Measured(
        wall=report["wall"],
        user=report["user"],
        system=report["system"],
        exit_code=report["exit_code"],
        timed_out=report["timed_out"],
        peak_rss=report["peak_rss"],
        peak_rss_of=report["peak_rss_of"],
        stdout=stdout,
        stderr=stderr,
        series=[tuple(one) for one in report["series"]],
        servers={name: after[name] - before[name] for name in servers},
    )
