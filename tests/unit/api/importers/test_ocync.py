"""ocync's YAML: the examples of its configuration reference, with what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.api.importers.said import imported, lines, rules, told

FULL = """\
global: {max_concurrent_transfers: 50}
registries:
  chainguard: {url: cgr.dev, auth_type: anonymous}
  ecr-east: {url: 123456789012.dkr.ecr.us-east-1.amazonaws.com, max_concurrent: 20}
  ecr-west: {url: "${ACCOUNT}.dkr.ecr.us-west-2.amazonaws.com"}
target_groups:
  prod: [ecr-east, ecr-west]
defaults:
  source: chainguard
  targets: prod
  tags: {semver: ">=1.0", sort: semver, latest: 10, include: [latest]}
mappings:
  - {from: chainguard/nginx, to: nginx}
  - {from: chainguard/python, targets: [ecr-east], tags: {glob: "*-slim", exclude: "*-debug"}}
"""
PRERELEASES = (
    "*-[rR][cC]*,*-[aA][lL][pP][hH][aA]*,*-[bB][eE][tT][aA]*,*-[pP][rR][eE]*,"
    "*-[sS][nN][aA][pP][sS][hH][oO][tT]*,*-[nN][iI][gG][hH][tT][lL][yY]*"
)


def small(mapping: str, registry: str = "{url: a.example, auth_type: anonymous}") -> str:
    return f"""\
registries: {{a: {registry}, b: {{url: b.example, auth_type: anonymous}}}}
mappings:
  - {{source: a, targets: b, from: kept}}
  - {mapping}
"""


def test_the_full_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNT", "210987654321")

    found = imported(tmp_path, "ocync", FULL)

    assert lines(found) == [
        "chainguard/chainguard/nginx[include=latest] -> ecr-east/nginx",
        f"chainguard/chainguard/nginx[exclude={PRERELEASES} semver=>=1.0 newest={{'count': 10, 'by': 'semver'}}] -> ecr-east/nginx",
        f"chainguard/chainguard/python[exclude=*-debug,{PRERELEASES} include=*-slim] -> ecr-east/chainguard/python",
    ]
    first, second = found.document["rules"]
    assert [one["registry"] for one in first["destinations"]] == ["ecr-east", "ecr-west"]
    assert [one["registry"] for one in second["destinations"]] == ["ecr-east"]
    hub, east, west = found.document["registries"]
    assert "credentials" not in hub
    assert east["credentials"] == west["credentials"] == {"keyless": "aws"}
    assert east["limits"] == {"concurrency": 20}
    assert west["url"] == "https://210987654321.dkr.ecr.us-west-2.amazonaws.com"
    assert found.whole


@pytest.mark.parametrize(
    ("registry", "credentials"),
    [
        ("{url: a.example}", {"docker_config": True}),
        ("{url: a.example, auth_type: ghcr}", {"docker_config": True}),
        ("{url: x.azurecr.io}", {"keyless": "azure"}),
        ("{url: eu-docker.pkg.dev}", {"keyless": "gcp"}),
        (
            "{url: a.example, auth_type: basic, credentials: {username: u, password: CANARY}}",
            {"username": "u", "password_env": "TRANSSHIP_SECRET_A_EXAMPLE"},
        ),
        (
            "{url: a.example, auth_type: basic, credentials: {username: '${U:-u}', password: '${NOT_SET}'}}",
            {"username": "u", "password_env": "TRANSSHIP_SECRET_A_EXAMPLE"},
        ),
        ("{url: a.example, auth_type: anonymous}", None),
    ],
)
def test_credentials(tmp_path: Path, registry: str, credentials: dict[str, str] | None) -> None:
    found = imported(tmp_path, "ocync", small("{source: a, targets: b, from: x}", registry))

    assert found.document["registries"][0].get("credentials") == credentials
    assert found.whole
    assert "CANARY" not in found.text() + repr(found)


@pytest.mark.parametrize(
    "mapping",
    [
        "{source: a, targets: nobody, from: x}",
        "{source: nobody, targets: b, from: x}",
        "{targets: b, from: x}",
        "{source: a, from: x}",
        "{source: a, targets: b}",
        "{source: a, targets: b, from: X}",
        "{source: a, targets: b, from: x, tags: {sort: alpha, latest: 3}}",
        "{source: a, targets: b, from: x, tags: {semver: 'newest please'}}",
        "{source: a, targets: b, from: '${NOT_SET:?needed}'}",
        "no map",
    ],
)
def test_a_mapping_that_cannot_be_carried_over_is_told_of(tmp_path: Path, mapping: str) -> None:
    found = imported(tmp_path, "ocync", small(mapping))

    assert lines(found) == [f"a/kept[exclude={PRERELEASES}] -> b/kept"]
    (note,) = told(found, "lost")
    assert note.startswith("0.yaml:4 ")


@pytest.mark.parametrize(
    "more",
    [
        "artifacts: {include: [a/b]}",
        "artifacts: {require_artifacts: true}",
        "artifacts: {colour: red}",
        "tags: {colour: red}",
        "colour: red",
    ],
)
def test_each_key_is_honoured_or_told_of(tmp_path: Path, more: str) -> None:
    found = imported(tmp_path, "ocync", small(f"{{source: a, targets: b, from: x, {more}}}"))

    assert len(lines(found)) == 2
    assert len(told(found, "lost")) == 1


def test_referrers_platforms_and_empty_lists(tmp_path: Path) -> None:
    mapping = (
        "{source: a, targets: b, from: x, artifacts: {enabled: false}, platforms: [linux/amd64], "
        "tags: {min_tags: 2}}"
    )
    found = imported(tmp_path, "ocync", small(mapping))

    assert rules(found, "referrers", "on_empty") == [
        {"referrers": True},
        {"referrers": False, "on_empty": "fail"},
    ]
    assert lines(found)[1].endswith("{'platforms': ['linux/amd64']}")
    assert len(told(found, "changed")) == 2
