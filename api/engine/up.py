"""Everything on one machine under one supervisor: Redis, workers, scheduler, API and console, Flower."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.engine.machine import Machine
from service.errors import EngineError, NotFoundInStore

ADMIN = "admin"
READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where things are."""

    api: str
    flower: str
    token_file: Path
    data: Path


class Up:
    """The parts of `transship up`, in the order in which they start."""

    def __init__(
        self, data: Path, *, listen: str, flower_listen: str, workers: int, command: str = "up"
    ) -> None:
        self.machine = Machine(data, command=command, task_events=True)
        self._listen = _free(listen)
        self._flower = _free(flower_listen)
        self._workers = workers

    def start(self) -> Addresses:
        """Start all and wait until the API answers. Raises EngineError when a part does not come up."""
        self.machine.start(self._workers)
        token = self._token()
        python = [sys.executable, "-m"]
        urgent = ["worker", "--region", self.machine.settings.region, "--urgent"]
        self.machine.start_child("worker-urgent", [*python, "workers.main", *urgent])
        self.machine.start_child("scheduler", [*python, "workers.main", "scheduler"])
        self.machine.start_child("api", [*python, "api.serve"], {"TRANSSHIP_LISTEN": self._listen})
        self.machine.start_child(
            "flower",
            [*python, "workers.flower"],
            {"TRANSSHIP_FLOWER_LISTEN": self._flower, "FLOWER_BASIC_AUTH": f"{ADMIN}:{token}"},
        )
        addresses = Addresses(
            f"http://{self._listen}",
            f"http://{self._flower}",
            self.machine.data.token_file,
            self.machine.data.path,
        )
        self.machine.data.note(api=addresses.api, flower=addresses.flower)
        self._wait(addresses.api + "/healthz")
        return addresses

    def stop(self) -> None:
        """End all in order."""
        self.machine.stop()

    def _token(self) -> str:
        """Return the admin token: made at the first start, kept in a file that only its owner reads."""
        path = self.machine.data.token_file
        tokens = self.machine.services.tokens
        try:
            tokens.get(ADMIN)
            return path.read_text(encoding="ascii").strip()
        except NotFoundInStore:
            text, _ = tokens.create(ADMIN, "admin")
        except OSError:
            raise EngineError(
                f"the admin token was made before, but {path} cannot be read",
                hint="put the token back, or revoke it and remove this data directory's token",
            ) from None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
        return text

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the API does not answer at {url}",
                    hint=f"look at {self.machine.data.logs / 'api.log'}",
                )
            time.sleep(0.05)


def _free(listen: str) -> str:
    """Return HOST:PORT with port 0 turned into a free one. Raises EngineError when it is taken."""
    host, _, port = listen.rpartition(":")
    try:
        with socket.create_server((host or "127.0.0.1", int(port))) as probe:
            return f"{host or '127.0.0.1'}:{probe.getsockname()[1]}"
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{listen} cannot be listened on: {error}", hint="choose another HOST:PORT, or port 0"
        ) from None
