"""S7: from the registry's answer to a push until the tag stands at the destination, by event."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bench.options import Options
from bench.peers import OURS, Job, clean_environment
from bench.registries import registry
from bench.results import Aim, Result, Table, number
from tests.oracle.closure import check
from tests.support.processes import ManagedProcess, free_port, wait_until
from tests.support.servers import RealRegistry
from tests.support.wire import Wire

TITLE = "from a push event to the committed tag"
SCENARIO = "S7"


class Service:
    """`transship up` as shipped, spoken to by its API."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        job = Job("", [""], [], [], folder)
        self.process = ManagedProcess(
            "up",
            [
                *(str(OURS.path()), "up", "--data", str(self.data)),
                *("--listen", "127.0.0.1:0", "--flower-listen", "127.0.0.1:0"),
            ],
            log_directory=folder,
            environment=clean_environment(job),
        )

    def facts(self) -> dict[str, str] | None:
        try:
            facts: dict[str, str] = json.loads((self.data / "engine.json").read_text())
            self.address = facts["api"]
            self.token = (self.data / "admin.token").read_text().strip()
            connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=5)
            connection.request("GET", "/readyz")
            return facts if connection.getresponse().status == 200 else None
        except (OSError, ValueError, KeyError):
            return None

    def ask(self, method: str, path: str, body: object) -> dict[str, str]:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=20)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
        }
        connection.request(method, f"/api/v1{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        found: dict[str, str] = json.loads(text or b"{}")
        return found


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[Service]:
    service = Service(folder)
    with service.process.start():
        wait_until(service.facts, 60, "the API")
        yield service


def _source(service: Service, port: int, secret: str) -> RealRegistry:
    endpoint = {
        "name": "transship",
        "url": f"{service.address}/hooks/distribution/east",
        "headers": {"Authorization": [f"Bearer {secret}"]},
        "timeout": "2s",
        "threshold": 5,
        "backoff": "5s",
        "ignore": {"mediatypes": ["application/octet-stream"], "actions": ["pull"]},
    }
    return RealRegistry(port=port, configuration={"notifications": {"endpoints": [endpoint]}})


def _there(wire: Wire, tag: str) -> bool:
    return wire.get_manifest("events/app", tag).status == 200


def run(options: Options) -> Result:
    """Pushes one after another, each waited for."""
    count = 5 if options.quick else 50
    result = options.result(SCENARIO, TITLE, [OURS], {})
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="transship-bench-run-") as name:
        port = free_port()
        with _service(Path(name)) as service, registry() as destination:
            service.ask("PUT", "/registries/east", {"url": f"http://127.0.0.1:{port}"})
            service.ask("PUT", "/registries/west", {"url": destination.url})
            rule = {
                "source": "east",
                "select": [{"repositories": ["**"]}],
                "destinations": [{"registry": "west"}],
                "trigger": {"event": True},
            }
            service.ask("PUT", "/rules/events", rule)
            secret = service.ask("PUT", "/registries/east/hook", {})["secret"]
            with _source(service, port, secret) as source:
                with Wire(source.url) as here, Wire(destination.url) as there:
                    for number_of in range(count):
                        tag = f"v{number_of}"
                        here.image("events/app", tag, layers=3)
                        began = time.monotonic()
                        wait_until(lambda tag=tag: _there(there, tag), 60, f"the tag {tag}")
                        seconds.append(time.monotonic() - began)
                expected = {("events/app", f"v{i}"): ("events/app", f"v{i}") for i in range(count)}
                faults = check(source.url, destination.url, expected).faults
    seconds.sort()
    middle = None if faults else statistics.median(seconds)
    result.tables.append(
        Table(
            f"{count} pushes of an image of three small layers to docker-registry 2.8.2, which "
            "notifies `transship up`; from the answer to the push until the tag is at the other",
            ["", "seconds"],
            [["proof", "whole" if not faults else f"unproved: {faults[0]}"]]
            if faults
            else [
                ["fastest", number(seconds[0], 3)],
                ["median", number(middle, 3)],
                ["slowest", number(seconds[-1], 3)],
            ],
        )
    )
    result.aims = [
        Aim("median", "< 1 s", number(middle, 3, " s"), None if middle is None else middle < 1)
    ]
    result.facts["seconds"] = [round(value, 4) for value in seconds]
    return result
