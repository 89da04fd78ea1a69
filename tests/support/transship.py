"""The product's command as a process of its own, and strikes against what it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import redis

from service.settings import TEST_TIMERS
from tests.support.processes import ManagedProcess, wait_until

ENGINE_VARIABLE = b"TRANSSHIP_ENGINE_DIR="


def transship(
    *words: str,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run `transship WORDS` to its end; the caller judges the exit code."""
    return subprocess.run(
        [*command_line(), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**(environment or clean_environment()), **variables},
    )


def command_line() -> list[str]:
    """How the installed command is called."""
    return [sys.executable, "-c", "from api.cli.main import main; main()"]


def clean_environment() -> dict[str, str]:
    """The environment of a user without settings, with the short timers of tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRANSSHIP_")}
    return {**kept, **TEST_TIMERS}


def write_rules(path: Path, source: str, destination: str, **rule: Any) -> Path:
    """Write a file with two registries and one rule that takes everything."""
    document = {
        "version": 1,
        "registries": [
            {"name": "source", "url": source},
            {"name": "destination", "url": destination},
        ],
        "rules": [
            {
                "name": "fleet",
                "source": "source",
                "select": [{"repositories": ["**"]}],
                "destinations": [{"registry": "destination", "repository": "mirror/{repository}"}],
                **rule,
            }
        ],
    }
    path.write_text(json.dumps(document, indent=1))  # JSON is YAML
    return path


class Running:
    """A command of ours in the background, with its engine's parts at hand."""

    def __init__(
        self, words: Sequence[str], data: Path, log_directory: Path, **variables: str
    ) -> None:
        self.data = data
        self.process = ManagedProcess(
            words[0],
            [*command_line(), *words, "--data", str(data)],
            log_directory=log_directory,
            environment={**clean_environment(), **variables},
        )

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop(timeout=40)

    def pids(self, module: str) -> list[int]:
        """Processes of this engine that run `python -m MODULE`, or a program of that name."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if (
                ENGINE_VARIABLE + str(self.data).encode() in environment
                and module.encode() in words
            ):
                found.append(int(entry.name))
        return found

    def kill(self, module: str) -> list[int]:
        """SIGKILL every process of this engine that runs a module; at least one must be there."""
        pids = wait_until(lambda: self.pids(module), 20, f"a process of {module}")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    def redis(self) -> redis.Redis:
        """A client of the embedded Redis."""
        facts = wait_until(self._facts, 20, "engine.json with Redis's address")
        return redis.Redis.from_url(facts["redis"])

    def _facts(self) -> dict[str, Any] | None:
        try:
            facts = json.loads((self.data / "engine.json").read_text())
        except (OSError, ValueError):
            return None
        return facts if "redis" in facts else None

    def report(self, timeout: float) -> dict[str, Any]:
        """Wait for the end and return the object that --json printed."""
        code = self.process.wait(timeout)
        assert code is not None, f"still running after {timeout} s\n{self.process.output()}"
        text = self.process.stdout_path.read_text()
        assert text, f"exit code {code}\n{self.process.output()}"
        report: dict[str, Any] = json.loads(text)
        report["exit_code"] = code
        return report
