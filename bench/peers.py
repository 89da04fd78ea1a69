"""The contestants: how each is told to copy the same fleet, and the parallelism that is swept.

Every peer gets the same job in its own terms: all tags of all repositories, signatures and
attestations included. Where a tool copies one repository or one tag at a time, several of it run side
by side (xargs -P), because that is what its users do. Ours gets no setting: it runs as shipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from urllib.parse import urlsplit

from bench.fleets import Naming, Place
from bench.peers_install import find

PREFIX = "mirror/"
_CLEAN = ("TRANSSHIP_", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG")


@dataclass(frozen=True)
class Job:
    """What is to be copied, from and to base URLs; `scratch` is a folder of this run alone."""

    source: str
    destinations: Sequence[str]
    repositories: Sequence[str]
    places: Sequence[Place]
    scratch: Path
    ca: Path | None = None  # certificate authority of both sides, where they speak TLS

    @property
    def destination(self) -> str:
        return self.destinations[0]


@dataclass(frozen=True)
class Invocation:
    """A command, its environment, and where the copies will stand."""

    command: Sequence[str]
    environment: Mapping[str, str]
    naming: Naming


def host(url: str) -> str:
    """host:port of a URL."""
    return urlsplit(url).netloc


def mirrored(repository: str) -> str:
    return PREFIX + repository


def flattened(repository: str) -> str:
    """skopeo sync keeps the last part of a name only; the fleet's are unique."""
    return PREFIX + repository.rpartition("/")[2]


def clean_environment(job: Job) -> dict[str, str]:
    """Ours without settings of Transship or of a registry client."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_CLEAN)}
    kept["HOME"] = str(job.scratch)
    if job.ca is not None:
        kept["SSL_CERT_FILE"] = str(job.ca)
    return kept


@dataclass(frozen=True)
class Contestant(ABC):
    """One tool. `settings` are what the sweep tries; a single one is no sweep.

    `far` are those it tries over links where latency is everything: the narrow ones can only wait
    longer there (skopeo one at a time takes five minutes for S5).
    """

    name: str
    program: str
    settings: Sequence[str] = ("as shipped",)
    far: Sequence[str] = ()
    several_destinations: bool = False
    own: bool = field(default=False)

    def path(self) -> str | None:
        return find(self.program)

    def version(self) -> str:
        """What the program says of itself."""
        path = self.path()
        if path is None:
            return "missing"
        words = ["--version"] if self.program in {"skopeo", "transship"} else ["version"]
        done = subprocess.run([path, *words], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        for line in lines:
            if "VCSTag" in line or line.startswith("Version"):
                return line.split(":")[1].strip()
        return lines[0].strip() if lines else "?"

    @abstractmethod
    def invoke(self, job: Job, setting: str) -> Invocation:
        """The command of one run."""


def numbers(setting: str) -> list[int]:
    """The numbers of a setting like `4 x -j8`."""
    return [int(word.lstrip("-j")) for word in setting.split() if word.lstrip("-j").isdigit()]


def _xargs(job: Job, lines: Sequence[str], side_by_side: int, command: Sequence[str]) -> list[str]:
    """Run a command for each line of arguments, several at once."""
    path = job.scratch / "arguments"
    path.write_text("\n".join(lines) + "\n")
    return ["xargs", "-a", str(path), "-P", str(side_by_side), "-L", "1", *command]


class Crane(Contestant):
    def invoke(self, job: Job, setting: str) -> Invocation:
        side_by_side, jobs = numbers(setting)
        lines = [
            f"{host(job.source)}/{name} {host(to)}/{mirrored(name)}"
            for to in job.destinations
            for name in job.repositories
        ]
        command = _xargs(job, lines, side_by_side, [str(self.path()), "cp", "-a", f"-j{jobs}"])
        return Invocation(command, clean_environment(job), mirrored)


class Skopeo(Contestant):
    def invoke(self, job: Job, setting: str) -> Invocation:
        (side_by_side,) = numbers(setting)
        shares = [list(job.repositories[i::side_by_side]) for i in range(side_by_side)]
        lines = []
        for number, names in enumerate(share for share in shares if share):
            document = {
                host(job.source): {
                    "tls-verify": job.ca is not None,
                    "images": {name: [] for name in names},
                }
            }
            path = job.scratch / f"skopeo-{number}.yaml"
            path.write_text(json.dumps(document))  # JSON is YAML
            lines += [f"{path} {host(to)}/{PREFIX.rstrip('/')}" for to in job.destinations]
        flags = ["--all", "--src", "yaml", "--dest", "docker"]
        if job.ca is None:
            flags += ["--dest-tls-verify=false", "--src-tls-verify=false"]
        command = _xargs(job, lines, side_by_side, [str(self.path()), "sync", *flags])
        return Invocation(command, clean_environment(job), flattened)


class Regsync(Contestant):
    def invoke(self, job: Job, setting: str) -> Invocation:
        parallel, requests = numbers(setting)
        hosts = [host(job.source), *(host(url) for url in job.destinations)]
        tls: dict[str, object] = {"tls": "disabled"}
        if job.ca is not None:
            tls = {"tls": "enabled", "regcert": job.ca.read_text()}
        document = {
            "version": 1,
            "creds": [{"registry": name, **tls, "reqConcurrent": requests} for name in hosts],
            "defaults": {"parallel": parallel, "referrers": True},
            "sync": [
                {
                    "source": f"{hosts[0]}/{name}",
                    "target": f"{to}/{mirrored(name)}",
                    "type": "repository",
                }
                for to in hosts[1:]
                for name in job.repositories
            ],
        }
        path = job.scratch / "regsync.yaml"
        path.write_text(json.dumps(document))
        command = [str(self.path()), "once", "-c", str(path)]
        return Invocation(command, clean_environment(job), mirrored)


class Oras(Contestant):
    def invoke(self, job: Job, setting: str) -> Invocation:
        (side_by_side,) = numbers(setting)
        lines = [
            f"{host(job.source)}/{name}:{tag} {host(to)}/{mirrored(name)}:{tag}"
            for to in job.destinations
            for name, tag in job.places
        ]
        flags = ["-r", "--no-tty"]
        if job.ca is None:
            flags += ["--from-plain-http", "--to-plain-http"]
        command = _xargs(job, lines, side_by_side, [str(self.path()), "cp", *flags])
        return Invocation(command, clean_environment(job), mirrored)


class Floor(Contestant):
    def path(self) -> str | None:
        return sys.executable

    def version(self) -> str:
        return "this checkout's bench/floor.py"

    def invoke(self, job: Job, setting: str) -> Invocation:
        (threads,) = numbers(setting)
        script = str(Path(__file__).with_name("floor.py"))
        command = [
            *(sys.executable, "-I", script, job.source, job.destination),
            *("--prefix", PREFIX, "--threads", str(threads)),
        ]
        return Invocation(command, clean_environment(job), mirrored)


class Transship(Contestant):
    """The command as shipped, cold: no --data, so each run begins with nothing."""

    extra: Sequence[str] = ()
    regions: bool = (
        False  # each registry is in a region of its own, all joined by links of one cost
    )

    def path(self) -> str | None:
        beside = Path(sys.executable).with_name("transship")
        return str(beside) if beside.exists() else None

    def document(self, job: Job) -> dict[str, object]:
        """The file of rules."""
        tls: dict[str, object] = {} if job.ca is None else {"tls": {"ca_file": str(job.ca)}}
        names = [f"destination-{number}" for number in range(len(job.destinations))]
        places = dict(zip(["source", *names], [job.source, *job.destinations], strict=True))
        return {
            "version": 1,
            **(_joined(places) if self.regions else {}),
            "registries": [
                {"name": name, "url": url, **({"region": name} if self.regions else {}), **tls}
                for name, url in places.items()
            ],
            "rules": [
                {
                    "name": "fleet",
                    "source": "source",
                    "select": [{"repositories": ["**"]}],
                    "destinations": [
                        {"registry": name, "repository": PREFIX + "{repository}"} for name in names
                    ],
                }
            ],
        }

    def invoke(self, job: Job, setting: str) -> Invocation:
        rules = job.scratch / "transship.yaml"
        rules.write_text(json.dumps(self.document(job), indent=1))
        words = ["sync", "-f", str(rules), "--json", *self.extra]
        words += self.words_of(setting, job)
        environment = clean_environment(job)
        environment.pop("SSL_CERT_FILE", None)
        return Invocation([str(self.path()), *words], environment, mirrored)

    def words_of(self, setting: str, job: Job) -> Sequence[str]:
        """More words for a setting."""
        return ()


def _joined(places: Iterable[str]) -> dict[str, object]:
    names = list(places)
    return {
        "regions": [{"name": name, "jurisdiction": "bench"} for name in names],
        "links": [
            {"from": one, "to": other, "cost_per_gib": 0.02}
            for one, other in permutations(names, 2)
        ],
    }


CRANE = Crane(
    "crane",
    "crane",
    ("1 x -j4", "2 x -j8", "4 x -j4", "8 x -j1", "8 x -j4", "8 x -j16"),
    ("8 x -j4", "8 x -j16", "16 x -j16"),
)
SKOPEO = Skopeo(
    "skopeo sync",
    "skopeo",
    ("1 at once", "2 at once", "4 at once", "8 at once"),
    ("8 at once", "16 at once"),
)
REGSYNC = Regsync(
    "regsync",
    "regsync",
    (
        "parallel 1 , reqConcurrent 3",
        "parallel 4 , reqConcurrent 8",
        "parallel 8 , reqConcurrent 8",
        "parallel 8 , reqConcurrent 32",
        "parallel 16 , reqConcurrent 32",
    ),
    ("parallel 8 , reqConcurrent 32", "parallel 16 , reqConcurrent 32"),
)
ORAS = Oras(
    "oras cp -r", "oras", ("4 at once", "8 at once", "16 at once"), ("16 at once", "32 at once")
)
FLOOR = Floor("floor (no queue)", "python", ("16 threads",))
OURS = Transship("transship", "transship", own=True)
NEEDED = (CRANE, SKOPEO, REGSYNC)  # without these no fleet scenario runs
OTHERS = (ORAS,)
NEVER_FOUND = {"ocync": "no crate of this name on crates.io"}
