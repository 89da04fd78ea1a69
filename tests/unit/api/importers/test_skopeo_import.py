"""skopeo sync's YAML: the example and odd cases of peers-cli.md 2.4, with what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.importers.formats import Options
from service.errors import InvalidConfiguration
from tests.unit.api.importers.said import imported, lines, told

TO = Options(to="to.example/mirror", all_platforms=True)
DIGEST = "sha256:" + "0" * 64
EXAMPLE = f"""\
registry.example.com:
  images:
    team/busybox: []
    redis: ["1.0", "{DIGEST}"]
  images-by-tag-regex:
    nginx: ^1\\.13\\.[12]-alpine-perl$
  images-by-semver: {{alpine: ">= 3.12.0", old: ">=1.0.0-rc.1", bad: ">=1.0.0-0"}}
  credentials: {{username: john, password: secret}}
  tls-verify: false
  cert-dir: /home/john/certs
"""


def test_the_example(tmp_path: Path) -> None:
    found = imported(tmp_path, "skopeo", EXAMPLE, options=TO)

    assert lines(found) == [
        "registry.example.com/team/busybox[*] -> to.example/mirror/busybox",
        f"registry.example.com/redis[1.0,{DIGEST}] -> to.example/mirror/redis",
        r"registry.example.com/nginx[regex=^1\.13\.[12]-alpine-perl$] -> to.example/mirror/nginx",
        "registry.example.com/alpine[semver=>= 3.12.0 exclude=*-*] -> to.example/mirror/alpine",
        "registry.example.com/old[semver=>=1.0.0-rc.1] -> to.example/mirror/old",
    ]
    source = found.document["registries"][0]
    assert source["credentials"]["username"] == "john"
    assert source["tls"] == {"insecure": True}
    assert told(found, "lost") == [
        "0.yaml:10 registry.example.com.cert-dir",
        "0.yaml:7 ['bad']",
    ]
    assert told(found, "changed")[0] == "0.yaml:7 registry.example.com.images-by-semver.old"


def test_scoped_names_and_suffixes(tmp_path: Path) -> None:
    options = Options(to="to.example", scoped=True, suffix="-mirror", all_platforms=True)

    found = imported(tmp_path, "skopeo", "a.example: {images: {team/app: [v1]}}", options=options)

    assert lines(found) == ["a.example/team/app[v1] -> to.example/a.example/team/app:{tag}-mirror"]


def test_docker_hubs_short_names(tmp_path: Path) -> None:
    found = imported(tmp_path, "skopeo", "docker.io: {images: {busybox: [v1]}}", options=TO)

    assert lines(found) == ["docker.io/library/busybox[v1] -> to.example/mirror/busybox"]


def test_where_to_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="does not say where"):
        imported(tmp_path, "skopeo", EXAMPLE)


def test_without_all_platforms_the_difference_is_told(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "skopeo", "a.example: {images: {app: []}}", options=Options(to="b.example")
    )

    assert told(found, "changed") == ["0.yaml:None --all"]


def test_names_that_collide_are_told_of(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "skopeo", "a.example: {images: {x/app: [v1], y/app: [v1]}}", options=TO
    )

    assert told(found, "look") == ["0.yaml:1 a.example.images.y/app"]


@pytest.mark.parametrize(
    "line",
    [
        "  images-by-tag-regex: {app: ''}",
        "  images-by-semver: {app: 3}",
        "  images-by-tag-regex: [app]",
        "  images-by-tag-regex: {app: '('}",
        "  images: {App: []}",
        "  images: {app: v1}",
        "  images: {app: ['sha256:12']}",
        "  pictures: {app: []}",
        "  credentials: {username: u, password: p, token: t}",
    ],
)
def test_what_cannot_be_carried_over_is_told_of(tmp_path: Path, line: str) -> None:
    text = f"kept.example: {{images: {{app: [v1]}}}}\na.example:\n{line}"

    found = imported(tmp_path, "skopeo", text, options=TO)

    assert lines(found) == ["kept.example/app[v1] -> to.example/mirror/app"]
    (note,) = told(found, "lost")
    assert int(note.split()[0].partition(":")[2]) in (2, 3)


def test_a_registry_without_images_is_told_of(tmp_path: Path) -> None:
    text = "kept.example: {images: {app: [v1]}}\na.example: {}"

    assert told(imported(tmp_path, "skopeo", text, options=TO), "look") == ["0.yaml:2 a.example"]
