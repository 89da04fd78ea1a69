"""Runs the services of docker-compose.yml as plain processes: the very commands and environments.

Only what a container would give is put in their place: addresses, the volume /run/transship, and
the programs of the images that are not ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from service.settings import TEST_TIMERS
from tests.support.processes import ManagedProcess, free_port
from tests.support.servers import PostgresServer
from tests.support.transship import clean_environment, command_line

ROOT = Path(__file__).parents[2]
VOLUME = "/run/transship"


def services() -> dict[str, dict[str, Any]]:
    """The services as the file has them."""
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


class ComposedFleet:
    """The addresses of one run, and the processes of it."""

    def __init__(self, directory: Path, postgres: PostgresServer) -> None:
        self.directory = directory
        self.volume = directory / "run"
        self.volume.mkdir()
        self.redis_port = free_port()
        self.api_port = free_port()
        self.flower_port = free_port()
        self.gateway_port = free_port()
        self._database = postgres.fresh_database()
        self._running: list[ManagedProcess] = []

    def start(self, name: str) -> ManagedProcess:
        """Start a service by its name in the file."""
        service = services()[name]
        argv = self.argv(name, service["command"])
        environment = {**clean_environment(), **TEST_TIMERS, **self.environment(service)}
        process = ManagedProcess(
            name, argv, log_directory=self.directory, environment=environment, cwd=self.directory
        )
        process.start()
        self._running.append(process)
        return process

    def run(self, name: str) -> None:
        """Run a service that does something once."""
        process = self.start(name)
        code = process.wait(60)
        assert code == 0, f"{name} ended with {code}\n{process.output()}"

    def stop(self) -> dict[str, int | None]:
        """Stop all, the last first; the exit code of each."""
        codes = {}
        for process in reversed(self._running):
            codes[process.name] = process.stop(timeout=40)
        return codes

    def argv(self, name: str, command: list[str]) -> list[str]:
        """The command with this machine's programs and paths."""
        words = [word.replace(VOLUME, str(self.volume)) for word in command]
        words = [word.replace("0.0.0.0:8480", f"127.0.0.1:{self.gateway_port}") for word in words]
        if words[0] == "transship":
            return [*command_line(), *words[1:]]
        if words[0] == "python":
            return [sys.executable, *words[1:]]
        if name == "redis":
            return [*words, "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        raise AssertionError(f"no program for the service {name}")

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """The service's environment with this machine's addresses."""
        found = {}
        for variable, value in service.get("environment", {}).items():
            text = str(value)
            if text.startswith("postgresql"):
                text = self._database
            text = text.replace("redis:6379", f"127.0.0.1:{self.redis_port}")
            text = text.replace("0.0.0.0:8470", f"127.0.0.1:{self.api_port}")
            text = text.replace("0.0.0.0:5555", f"127.0.0.1:{self.flower_port}")
            found[variable] = text.replace(VOLUME, str(self.volume))
        return found
