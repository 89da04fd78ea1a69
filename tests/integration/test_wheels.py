"""`make wheels` makes what an installation without a network needs, and no more is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

NO_NETWORK = ["unshare", "--net", "--map-root-user"]
"""Begins a command in a namespace of the network that leads nowhere."""


def test_transship_installs_from_its_directory_of_wheels_without_a_network(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "TRANSSHIP"))}  # fmt: skip
    subprocess.run(["make", "wheels", f"WHEELS={tmp_path}/wheels"], cwd=ROOT, check=True, timeout=300)  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=60)
    pip = [str(tmp_path / "venv/bin/pip"), "install", "--no-index", "--find-links", "wheels"]
    cut_off = NO_NETWORK if _may_unshare() else []

    installed = subprocess.run(
        [*cut_off, *pip, "transship"],
        cwd=tmp_path,
        env=clean,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    said = subprocess.run(
        [str(tmp_path / "venv/bin/transship"), "--version"],
        cwd=tmp_path,
        env=clean,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert installed.returncode == 0, installed.stderr
    assert said.stdout.startswith("transship, version"), said.stderr


def _may_unshare() -> bool:
    """Whether this user may make such a namespace; `--no-index` asks for no network either way."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_NETWORK, "true"], check=False, capture_output=True).returncode == 0
