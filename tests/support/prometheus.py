"""Debian's Prometheus over our alert rules, for tests: it scrapes every 400 ms, and no alert waits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.processes import ManagedProcess, free_port, require, wait_until

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
SCRAPE_SECONDS = 0.4
SHORTER = (
    (r"^ +for: .*\n", ""),
    (r"\[(5m|15m|1h)\]", "[4s]"),
    (r"> 1800\b", "> 1"),
    (r"> 60\b", "> 3"),
    (r"> 2$", "> 0"),
)
"""What the shipped rules wait for, shortened for a test; the rest of each expression is as shipped."""

CONFIGURATION = """\
global: {{scrape_interval: 400ms, evaluation_interval: 200ms, scrape_timeout: 400ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: transship
    authorization: {{credentials_file: "{token}"}}
    static_configs: [{{targets: {targets}}}]
  - job_name: transship-gateway
    authorization: {{credentials_file: "{token}"}}
    file_sd_configs: [{{files: ["{gateways}"], refresh_interval: 1s}}]
"""


class Prometheus:
    """One server over these targets (HOST:PORT), which it shows the token in a file."""

    def __init__(self, folder: Path, targets: list[str], token_file: Path) -> None:
        binary = require("prometheus")
        text = RULES.read_text("utf-8")
        for pattern, shorter in SHORTER:
            text, count = re.subn(pattern, shorter, text, flags=re.MULTILINE)
            assert count, f"nothing in {RULES.name} is as {pattern}"
        rules = folder / "alerts.yml"
        rules.write_text(text)
        configuration = folder / "prometheus.yml"
        self._gateways = folder / "gateways.json"
        self.gateways()
        configuration.write_text(
            CONFIGURATION.format(
                rules=rules, token=token_file, targets=targets, gateways=self._gateways
            )
        )
        self.port = free_port()
        self._process = ManagedProcess(
            "prometheus",
            [
                binary,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--query.lookback-delta=1500ms",
            ],
            log_directory=folder,
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._process.wait_ready(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def gateways(self, *targets: str) -> None:
        """Have these gateways scraped from now on, and no others; it is seen within a second."""
        fresh = self._gateways.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": list(targets)}]))
        fresh.rename(self._gateways)

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        answer = httpx.get(url, params=query, trust_env=False, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of each alert that fires, by its name."""
        found: dict[str, list[dict[str, str]]] = {}
        for one in self.ask("alerts")["alerts"]:
            if one["state"] == "firing":
                found.setdefault(one["labels"]["alertname"], []).append(one["labels"])
        return found

    def wait_firing(self, alert: str, **labels: str) -> None:
        """Wait until an alert with these labels fires."""
        wait_until(lambda: self._fires(alert, labels), 30, f"{alert} to fire")

    def wait_cleared(self, alert: str, **labels: str) -> None:
        """Wait until no alert with these labels fires."""
        wait_until(lambda: not self._fires(alert, labels), 30, f"{alert} to clear")

    def _fires(self, alert: str, labels: dict[str, str]) -> bool:
        return any(labels.items() <= one.items() for one in self.firing().get(alert, ()))

    def _is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/-/ready"
            return httpx.get(url, trust_env=False, timeout=60).is_success
        except httpx.TransportError:
            return False
