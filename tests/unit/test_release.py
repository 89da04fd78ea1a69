"""tests/support/release.py: what of a release can be held without the package index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.release import SUMS, sums, without_addresses

ROOT = Path(__file__).parents[2]


def test_sums_are_read_by_sha256sum_and_find_a_changed_file(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"a")
    (tmp_path / "b.json").write_bytes(b"b")
    (tmp_path / SUMS).write_text(sums(tmp_path))
    check = ["sha256sum", "--strict", "--check", SUMS]

    good = subprocess.run(check, cwd=tmp_path, check=False, capture_output=True, text=True)
    (tmp_path / "b.json").write_bytes(b"c")
    bad = subprocess.run(check, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert (good.returncode, good.stdout) == (0, "a.whl: OK\nb.json: OK\n")
    assert bad.returncode == 1
    assert "b.json: FAILED" in bad.stdout


def test_sbom_names_packages_and_no_index() -> None:
    reference = {"type": "distribution", "url": "https://index.example/simple/a/", "hashes": [1]}
    component = {"name": "a", "purl": "pkg:pypi/a@1", "externalReferences": [reference]}

    made = json.loads(without_addresses(json.dumps({"components": [component, {"name": "b"}]})))

    assert made["components"][0]["externalReferences"] == [
        {"type": "distribution", "url": "pkg:pypi/a@1", "hashes": [1]}
    ]


def test_a_release_is_not_mixed_with_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "old.whl").write_bytes(b"")

    done = subprocess.run(
        [sys.executable, "-m", "tests.support.release", str(tmp_path), "--dirty"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["old.whl"]
