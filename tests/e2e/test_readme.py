"""The README's commands, carried out block by block as they are written. `make run` is CI's own and test_main_job's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.samples.fleet import push_fleet
from api.samples.fleet_plan import DEMO_FLEET
from api.samples.registry import SampleRegistry
from tests.support.processes import free_port
from tests.support.transship import clean_environment
from tests.support.up import running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SHELL = """set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
{script}
"""


def blocks() -> list[str]:
    """The README's commands, without those that set up this environment."""
    found = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    ours = [
        "".join(
            line
            for line in block.splitlines(keepends=True)
            if not re.match(r"make |\. \.venv|transship up | *#", line)
        )
        for block in found
    ]
    return [block for block in ours if block]


def carry_out(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", SHELL.format(script=script)],
        cwd=folder,
        env={
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TRANSSHIP_SECRET_EAST": "any",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    copy, rule, service = blocks()
    for port in ("5000", "5001"):
        copy = copy.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")

    assert "copied" in carry_out(copy, tmp_path)

    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    with SampleRegistry() as east, SampleRegistry() as west:
        push_fleet(east.url, DEMO_FLEET)
        text = text.replace("https://registry.east.example", east.url)
        text = text.replace("https://registry.west.example", west.url)
        (tmp_path / "transship.yaml").write_text(text)

        assert "valid: 2 registries, 1 rule" in carry_out(rule, tmp_path)

        with running_up(tmp_path, TRANSSHIP_SECRET_EAST="any") as up:
            done = carry_out(service.replace("http://127.0.0.1:8470", up.url), tmp_path)
    assert "succeeded" in done
