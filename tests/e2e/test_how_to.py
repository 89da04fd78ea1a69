"""Every how-to page is carried out as it is written: its `console` blocks, against a running service.

A `yaml` block whose first line is a comment with a name is written to that file. Blocks of kind `sh` are
for other people's tools and machines; a page that has only those names the test that runs it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.samples.registry import SampleRegistry
from tests.support.images import push_image
from tests.support.transship import clean_environment
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))
OF_THEIR_OWN = {
    "cross-border.md",
    "freshness.md",
    "govern.md",
    "regions.md",
    "release.md",
    "replicas.md",
    "rotate.md",
}
"""Pages that leave projects, regions, releases, keys or secrets behind, and get a service for themselves."""

ELSEWHERE = {
    "run-a-fleet.md": "tests/e2e/test_compose_fleet.py",
    "watch.md": "tests/e2e/test_alerts.py",
    "console.md": "tests/e2e/console/test_first_time.py",
}
SHELL = """set -euo pipefail
transship() {{
  "{python}" -c 'from api.cli.main import main; main()' "$@" || {{
    code=$?
    # a difference is what `diff` is for
    if [ "$1" = diff ] && [ "$code" = 1 ]; then return 0; fi
    return "$code"
  }}
}}
{script}
"""


@dataclass
class Stage:
    """A service, two registries with an image, and what the pages take for granted."""

    up: Up
    east: SampleRegistry
    west: SampleRegistry
    hub: SampleRegistry
    secret: str

    def environment(self) -> dict[str, str]:
        return {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
            "TRANSSHIP_URL": self.up.url,
            "TRANSSHIP_TOKEN": self.up.token,
            "URL": self.up.url,
            "DATA": str(self.up.running.data),
            "SECRET": self.secret,
            "PASSWORD": "s3cret",
            "SIGNING_SECRET": "a signing secret of some length",
        }


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One service for the pages that leave nothing behind but rules."""
    with running_up(tmp_path_factory.mktemp("how-to") / "up") as up:
        yield up


@pytest.fixture
def stage(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        if page.name in OF_THEIR_OWN:
            up = stack.enter_context(running_up(tmp_path / "up"))
        else:
            up = request.getfixturevalue("lasting")
            stack.callback(_clear, up)
        east = stack.enter_context(SampleRegistry())
        west = stack.enter_context(SampleRegistry())
        hub = stack.enter_context(SampleRegistry())
        push_image(east, "team/app", "v1")
        push_image(east, "team-a/app", "v1")
        up.registry("east", east.url)
        up.registry("west", west.url)
        up.rule("fleet", "east", "west", trigger={"event": True})
        yield Stage(up, east, west, hub, up.hook("east"))


def _clear(up: Up) -> None:
    """Take away what a page has left, its rules, webhooks, pipelines and its hook, and let all come to rest."""
    for kind in ("rules", "webhooks", "pipelines"):
        for one in up.ask("GET", f"/{kind}")["items"]:
            up.ask("DELETE", f"/{kind}/{one['name']}")
    up.ask("DELETE", "/registries/east/hook")
    up.idle()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_does_what_it_says(page: Path, stage: Stage, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    text = text.replace("http://127.0.0.1:5000", stage.east.url)
    text = text.replace("http://127.0.0.1:5001", stage.west.url)
    text = text.replace("http://127.0.0.1:5002", stage.hub.url)
    text = text.replace("/media/disk", str(tmp_path))
    blocks = re.findall(r"^```(console|yaml)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ran = 0
    for kind, block in blocks:
        if kind == "yaml":
            name = re.match(r"# (\S+\.ya?ml)\n", block)
            if name:
                file = tmp_path / name[1]
                file.parent.mkdir(exist_ok=True)
                file.write_text(block)
            continue
        done = subprocess.run(
            ["bash", "-c", SHELL.format(python=sys.executable, script=block)],
            cwd=tmp_path,
            env=stage.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        ran += 1
    if page.name in ELSEWHERE:
        assert page.name in (ROOT / ELSEWHERE[page.name]).read_text("utf-8")
    else:
        assert ran, "a how-to page without a command that runs"
