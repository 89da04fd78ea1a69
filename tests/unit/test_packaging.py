"""The product's plain import names (service, workers, api) stay safe: docs/adr/0001."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("service", "workers", "api")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_import_names(package: str) -> None:
    assert packages_distributions().get(package, ["transship"]) == ["transship"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(directory.glob("*.whl")))


def test_wheel_holds_our_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_holds_what_is_no_module(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())

    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    data = [
        path.relative_to(ROOT).as_posix()
        for folder in (ROOT / "api/console", ROOT / "service/store/migrations")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(data) <= names


def test_console_scripts_are_named_after_the_product() -> None:
    assert all(name.startswith("transship") for name in PROJECT["scripts"])


def test_pins_cover_every_dependency_and_hold_no_address() -> None:
    lines = (ROOT / "requirements/constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    grouped = [one for group in groups.values() for one in group if isinstance(one, str)]
    wanted = {_name(requirement) for requirement in PROJECT["dependencies"] + grouped}

    assert [line for line in lines if re.search(r"://|@|--", line)] == []
    assert [pin for pin in pins if not re.match(r"[A-Za-z0-9._-]+==\S+( ; .+)?$", pin)] == []
    assert sorted(wanted - {_name(pin) for pin in pins}) == []


def _name(requirement: str) -> str:
    return re.split(r"[\[=<>!~; ]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            text = file.read_text("utf-8").strip()
            assert text.startswith('"""'), file
            assert text.endswith('"""'), file
            assert text.count('"""') == 2, file


def test_modules_stay_readable() -> None:
    counts = sorted(
        len(file.read_text("utf-8").splitlines())
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    )

    assert counts[len(counts) // 2] <= 200
    assert counts[-1] <= 600
