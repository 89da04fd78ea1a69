"""What a node of Kubernetes does for pods of ours: variables, files, ports and the user, for plain processes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from service.settings import TEST_TIMERS
from tests.support import helm
from tests.support.processes import ManagedProcess, free_port, require
from tests.support.transship import clean_environment

ROOT = Path(__file__).parents[2]
PROGRAM = "from api.cli.main import main; main()"

FENCED = """\
stage=$1 hidden=$2 user=$3; shift 3; places=$1; shift
i=0; while [ $i -lt $places ]; do
  eval "place=\\${$((i + 1))}"; i=$((i + 1)); mkdir -p "$stage/$i"; mount --bind "$place" "$stage/$i"
done
[ -z "$hidden" ] || mount -t tmpfs -o mode=0755 tmpfs "$hidden"
i=0; while [ $i -lt $places ]; do
  place=$1; shift; i=$((i + 1)); [ -z "$hidden" ] || { mkdir -p "$place"; mount --bind "$stage/$i" "$place"; }
done
mount -o remount,bind,ro /
exec setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  --pdeathsig KILL "$@"
"""
"""In a namespace of mounts: the root is read-only, and a home that hides Python or us from other users has only these."""


class Cluster:
    """Starts pods in a folder, with the keys of a Secret."""

    def __init__(self, folder: Path, secret: dict[str, str]) -> None:
        self.folder = folder
        self.secret = secret
        self.variables: dict[str, str] = {}
        self.running: list[ManagedProcess] = []
        folder.chmod(0o755)

    def start(self, example: str, name: str) -> Pod:
        """Start the pods' containers of one object, up to the last one, which is left running."""
        (owner,) = [
            one
            for one in helm.objects(example)
            if one["metadata"]["name"] == name and helm.pod_of(one)
        ]
        spec = helm.pod_of(owner)
        assert spec is not None
        volumes = self._volumes(f"{len(self.running)}-{name}", spec)
        pod = Pod(spec)
        for box in (*spec.get("initContainers", ()), *spec["containers"]):
            if pod.process is not None:
                pod.end()
            pod.process = self._container(example, box, volumes, pod)
            self.running.append(pod.process)
        return pod

    def _volumes(self, name: str, spec: dict[str, Any]) -> dict[str, Path]:
        """A folder for each volume, by its name; files of the Secret belong to root and the pod's group."""
        group = spec["securityContext"]["fsGroup"] if os.geteuid() == 0 else -1
        found = {}
        for volume in (*spec["volumes"], {"name": "data"}):
            place = self.folder / name / volume["name"]
            place.mkdir(parents=True)
            if "secret" not in volume:
                os.chown(place, -1, group)
                place.chmod(0o2770)
            for item in volume.get("secret", {}).get("items", ()):
                file = place / item["path"]
                file.write_text(self.secret[item["key"]])
                os.chown(file, -1, group)
                file.chmod(volume["secret"]["defaultMode"])
            found[volume["name"]] = place
        return found

    def _container(
        self, example: str, box: dict[str, Any], volumes: dict[str, Path], pod: Pod
    ) -> ManagedProcess:
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in box["volumeMounts"]}
        environment = {**clean_environment(), **TEST_TIMERS, "PYTHONPATH": str(ROOT)}
        for one in helm.objects(example):
            if box.get("envFrom") and one["kind"] == "ConfigMap":
                environment.update(one["data"])
        for one in box["env"]:
            key = one.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
            environment[one["name"]] = one["value"] if key is None else self.secret[key]
        for name, value in environment.items():
            for path, place in mounts.items():
                if name.startswith("TRANSSHIP_") and value.startswith(f"{path}/"):
                    environment[name] = f"{place}{value.removeprefix(path)}"
            if name.endswith("LISTEN") and value.startswith("0.0.0.0:"):
                port = pod.ports.setdefault(int(value.rpartition(":")[2]), free_port())
                environment[name] = f"127.0.0.1:{port}"
        environment |= self.variables
        environment["TMPDIR"] = environment["HOME"] = str(mounts["/tmp"])
        words = [str(mounts.get(word, word)) for word in box["command"]]
        programs = {
            "transship": [sys.executable, "-c", PROGRAM],
            "python": [sys.executable],
        }
        context = pod.spec["securityContext"]
        process = ManagedProcess(
            box["name"],
            [
                *fence(context["runAsUser"], self.folder / "stage"),
                *programs[words[0]],
                *words[1:],
            ],
            log_directory=self.folder,
            environment=environment,
            cwd=mounts[box["workingDir"]],
        )
        return process.start()


class Pod:
    """One pod: its last container, and the ports that stand for its own."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.ports: dict[int, int] = {}
        self.process: ManagedProcess | None = None

    def end(self) -> None:
        """Wait for a container that does something once."""
        assert self.process is not None
        code = self.process.wait(60)
        assert code == 0, self.process.output()

    def ready(self) -> None:
        """Wait until all probes of the container are answered."""
        (box,) = self.spec["containers"]
        assert self.process is not None
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in box:
                asked = box[kind]["httpGet"]
                assert asked["port"] == box["ports"][0]["name"]
                url = f"{self.address(box['ports'][0]['containerPort'])}{asked['path']}"
                self.process.wait_ready(lambda url=url: status(url) == 200, 60)

    def address(self, port: int) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"


@functools.cache
def fence(user: int, stage: Path) -> list[str]:
    """What begins a command that runs as a user without rights over a root that is read-only; [] where we may not."""
    if os.geteuid() != 0:
        return []
    places = list(dict.fromkeys([Path(sys.base_prefix), ROOT, Path(sys.prefix)]))
    shut = [one for place in places for one in place.parents if not one.stat().st_mode & 0o001]
    hidden = min(shut, key=lambda one: len(one.parts), default=None)
    bound = [] if hidden is None else [str(one) for one in places if hidden in one.parents]
    stage.mkdir(exist_ok=True)
    words = [
        require("unshare"), "--mount", "--propagation", "private", "sh", "-ec", FENCED, "sh",
        str(stage), str(hidden or ""), str(user), str(len(bound)), *bound,
    ]  # fmt: skip
    look = [*words, sys.executable, "-c", "import api, os; os.execv('/bin/true', ['true'])"]
    able = subprocess.run(look, capture_output=True, check=False, timeout=30, cwd=ROOT)
    return words if able.returncode == 0 else []


def status(url: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return httpx.get(url, headers=headers, trust_env=False, timeout=60).status_code
    except httpx.HTTPError as error:
        raise OSError(str(error)) from None
