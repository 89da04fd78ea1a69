"""`make release` makes files that agree with each other, and name no package index."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def test_release_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    subprocess.run(
        ["make", "release", "DIRTY=1", f"RELEASE={folder}"], cwd=ROOT, check=True, timeout=800
    )

    subprocess.run(["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {one.name for one in folder.iterdir()} - {"SHA256SUMS"}
    (wheel,) = folder.glob("*.whl")
    assert "api/cli/main.py" in zipfile.ZipFile(wheel).namelist()
    pins = (folder / "requirements.txt").read_text()
    blocks = re.findall(r"^([a-z0-9._-]+)==(\S+)((?: ;[^\\]+)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", pins, re.MULTILINE)  # fmt: skip
    assert sum(block.count("--hash") for *_, block in blocks) == pins.count("--hash")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {re.split(r"[\[=<>;]", one)[0].lower() for one in project["dependencies"]}
    assert wanted <= {name for name, *_ in blocks}
    sbom = json.loads((folder / "transship.cdx.json").read_text())
    assert {(one["name"], one["version"]) for one in sbom["components"]} == {
        (name, version) for name, version, _ in blocks
    }
    assert sbom["metadata"]["component"]["name"] == "transship"
    assert "/simple" not in pins + json.dumps(sbom)
