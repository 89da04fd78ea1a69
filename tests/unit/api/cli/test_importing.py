"""`transship import` at its words: a format or none, files that are there or not, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli.importing import import_
from service.errors import InvalidConfiguration, InvalidFields


def run(*words: str) -> Result:
    return CliRunner().invoke(import_, words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "images.yaml"
    path.write_text("a.example/x: [b.example/x]\n")
    return path


def test_a_format_may_be_left_to_the_files(file: Path) -> None:
    named, told = run("image-syncer", str(file)), run(str(file))

    assert (named.exit_code, told.exit_code) == (0, 0)
    assert told.stdout == named.stdout
    assert "read as files of image-syncer" in told.stderr
    assert "read as" not in named.stderr


def test_json_is_one_object_on_stdout_whatever_is_told_beside_it(file: Path) -> None:
    done = run(str(file), "--json")

    assert json.loads(done.stdout)["rules"] == 1
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["regsync"], "a file of that name is ./regsync"),
        (["regsync", "nosuch.yaml"], "'nosuch.yaml' is no file"),
        (["nosuch"], "is no file, and no format: image-transfer"),
        (["."], "'.' is no file"),
        ([], "Missing argument"),
    ],
)
def test_words_that_are_neither_are_told(words: list[str], said: str) -> None:
    done = run(*words)

    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_file_named_as_a_format_is_had_by_its_path(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.rename(file.parent / "harbor")
    monkeypatch.chdir(file.parent)

    assert run("./harbor").exit_code == 0


def test_a_file_that_is_none_is_an_error_of_configuration_with_nothing_on_stdout(
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"a: &a [*a]\n")

    done = run("regsync", str(bad))

    assert isinstance(done.exception, InvalidFields | InvalidConfiguration)
    assert "bad.yaml:1" in str(done.exception)
    assert done.stdout == ""
