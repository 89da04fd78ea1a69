"""What a process of a one-shot command loads before its work: each of these costs 5 to 100 ms of CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = (
    "api.cli.main",
    "api.cli.jobs",
    "api.config_file",
    "api.engine.oneshot",
    "api.engine.purposes",
    "api.engine.single_copy",
    "service.replication.plan",
    "service.replication.drive",
    "service.replication.dispatch",
    "service.replication.reconcile",
    "workers.signatures",
)
WORKER = ("workers.main", "workers.process", "service.replication.replicate")
NEVER = (
    "rich",
    "structlog",
    "alembic",
    "flask",
    "prometheus_client",
    "cryptography.hazmat",
    "httpx",
)
COPYING = ("redis", "celery", "kombu", "service.replication.copy_blob", "service.store.claims")
SERVING = ("marshmallow", "yaml", "click")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [(COMMAND, (*NEVER, *COPYING)), (WORKER, (*NEVER, *SERVING))],
    ids=["command", "worker"],
)
def test_start_loads_nothing_that_this_run_does_not_use(
    modules: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    code = f"import sys\nimport {', '.join(modules)}\nprint(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert set(modules) <= set(loaded)
    assert [name for name in unwanted if name in loaded] == []
