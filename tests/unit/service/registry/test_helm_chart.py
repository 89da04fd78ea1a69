"""A chart's archive becomes what `helm push` makes of it, byte for byte."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from service.errors import InvalidManifest
from service.model.digest import Digest
from service.registry.helm_chart import MAX_FILE_BYTES, convert, read_metadata
from tests.contract.artifacthub import archive

FIXTURES = Path(__file__).parents[3] / "fixtures/charts"
CHART = "apiVersion: v2\nname: demo\nversion: 1.0.0\n"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def files(name: str) -> dict[str, str]:
    """The files of a fixture's archive, Chart.yaml not the first of them."""
    found = {"values.yaml": "a: 1\n" * 5000, "Chart.yaml": fixture(f"{name}.Chart.yaml")}
    if name == "old":
        found["requirements.yaml"] = fixture("old.requirements.yaml")
    return {**found, "charts/sub/Chart.yaml": "name: sub\n"}


@pytest.mark.parametrize("name", ["demo", "old"])
def test_config_and_manifest_are_helms(name: str) -> None:
    manifest = fixture(f"{name}.manifest.json")
    (layer,) = json.loads(manifest)["layers"]

    metadata = read_metadata(io.BytesIO(archive(files(name), folder=name)))
    made = convert(metadata, Digest.parse(layer["digest"]), layer["size"])

    assert made.config.decode() == fixture(f"{name}.config.json")
    assert made.manifest.raw.decode() == manifest


def test_archive_of_helms_own_making_is_read() -> None:
    """Its gzip header has an extra field and a comment."""
    plain = archive({"Chart.yaml": CHART})
    helms = b"\x1f\x8b\x08\x14\0\0\0\0\0\xff" + b"\x04\0Helm" + b"Helm\0" + plain[10:]

    assert read_metadata(io.BytesIO(helms))["name"] == "demo"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>not found</html>", "no archive"),
        (archive({"values.yaml": "a: 1"}), "no Chart.yaml"),
        (archive({"Chart.yaml": "- a"}), "no YAML object"),
        (archive({"Chart.yaml": "a: [" + "[" * 5000}), "no YAML object"),
        (archive({"Chart.yaml": "name: demo\n"}), "no version"),
        (archive({"Chart.yaml": CHART + "#" * MAX_FILE_BYTES}), "over 1 MiB"),
        (archive({"Chart.yaml": CHART})[:-20], "no archive"),
    ],
    ids=["html", "empty", "list", "deep", "nameless", "large", "cut"],
)
def test_what_is_no_chart_is_told(data: bytes, why: str) -> None:
    with pytest.raises(InvalidManifest, match=why):
        read_metadata(io.BytesIO(data))


def test_archive_that_unpacks_to_more_than_a_chart_may_have_is_refused() -> None:
    bomb = archive({"zeros": "0" * (60 << 20), "more": "0" * (60 << 20), "Chart.yaml": CHART})

    with pytest.raises(InvalidManifest, match="unpacks to more"):
        read_metadata(io.BytesIO(bomb))
