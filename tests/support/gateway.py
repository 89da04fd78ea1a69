"""A gateway of its own process, and a small client that says what came of each request."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import ManagedProcess, free_port, wait_until
from tests.support.transship import clean_environment, command_line

ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)


@dataclass
class Came:
    """What an answer was."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code."""
        return str(json.loads(self.body)["errors"][0]["code"])


class Client:
    """A client of a gateway; `token` is shown with each request, as `docker login` has it."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.token = token

    def get(
        self, path: str, *, method: str = "GET", token: str | None = None, **headers: str
    ) -> Came:
        """Ask once; headers are written with _ for -."""
        shown = self.token if token is None else token
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if shown:
            sent["Authorization"] = "Basic " + base64.b64encode(f"t:{shown}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers={"Accept": ACCEPT, **sent})
            answer = connection.getresponse()
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return Came(answer.status, lower, answer.read())
        finally:
            connection.close()

    def pull(self, repository: str, reference: str) -> str:
        """Pull an image as clients do, verified: returns its digest; anything amiss fails."""
        answer = self.get(f"/v2/{repository}/manifests/{reference}")
        assert answer.status == 200, f"{repository}:{reference}: {answer.status} {answer.body!r}"
        digest = answer.headers["docker-content-digest"]
        assert digest == f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        document = json.loads(answer.body)
        for child in document.get("manifests", ()):
            self.pull(repository, child["digest"])
        for blob in [
            *([document["config"]] if "config" in document else ()),
            *document.get("layers", ()),
        ]:
            self.blob(repository, blob["digest"], blob["size"])
        return digest

    def blob(self, repository: str, digest: str, size: int) -> bytes:
        """Read a blob, verified."""
        answer = self.get(f"/v2/{repository}/blobs/{digest}")
        assert answer.status == 200, f"{digest}: {answer.status} {answer.body[:300]!r}"
        assert len(answer.body) == size
        assert digest == f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        return answer.body


class Gateway(Client):
    """One running gateway, and a client of it."""

    def __init__(
        self, folder: Path, config: dict[str, Any], environment: dict[str, str], name: str = "gw"
    ) -> None:
        super().__init__(free_port())
        self.metrics_port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({"version": 1, "gateway": config}))
        words = ["gateway", "-f", str(path), "--listen", self.host]
        self.process = ManagedProcess(
            name,
            [*command_line(), *words],
            log_directory=folder,
            environment={
                **clean_environment(),
                "TRANSSHIP_GATEWAY_DIR": str(folder / f"{name}.dir"),
                "TRANSSHIP_METRICS_LISTEN": f"127.0.0.1:{self.metrics_port}",
                **environment,
            },
        )

    def start(self) -> Gateway:
        """Start it and wait until it answers."""
        self.process.start()
        self.process.wait_ready(lambda: self.get("/healthz").status == 200)
        return self

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=60)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


@contextmanager
def running_gateway(
    folder: Path, config: dict[str, Any], *, name: str = "gw", **environment: str
) -> Iterator[Gateway]:
    """A gateway over the database that the environment names, ready."""
    gateway = Gateway(folder, config, environment, name)
    try:
        yield gateway.start()
    finally:
        gateway.process.stop()


def beside(data: Path) -> dict[str, str]:
    """The environment of a gateway beside a `transship up`."""
    return {
        "TRANSSHIP_DATABASE_URL": f"sqlite:///{data / 'transship.db'}",
        "TRANSSHIP_SECRET_KEY_FILE": str(data / "secret.keys"),
    }


def until_pulled(gateway: Gateway, name: str, what: float, timeout: float = 20) -> None:
    """Wait until a metric has come to at least so much."""
    wait_until(lambda: gateway.metrics().get(name, 0.0) >= what, timeout, f"{name} >= {what}")
