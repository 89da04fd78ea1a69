"""image-transfer's files: the table of peers-cli.md 2.1, with the meaning that its documentation has."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.importers.formats import Options
from service.errors import InvalidFields
from tests.unit.api.importers.said import imported, lines, told

TO = Options(to="reg.example/mirror")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.example/ns/app: b.example/ns/app", "a.example/ns/app[*] -> b.example/ns/app"),
        ("a.example/ns/app:v1,v2: b.example/ns/app", "a.example/ns/app[v1,v2] -> b.example/ns/app"),
        (
            "a.example/ns/app:v1,v2: b.example/ns/app:v1,v2",
            "a.example/ns/app[v1,v2] -> b.example/ns/app",
        ),
        ("a.example/ns/app:v1: b.example/ns/app:v1", "a.example/ns/app[v1] -> b.example/ns/app"),
        ("a.example/ns/app:v1: b.example/ns/app:u", "a.example/ns/app[v1] -> b.example/ns/app:u"),
        ("a.example/ns/app:v1: b.example/ns/app", "a.example/ns/app[v1] -> b.example/ns/app"),
        ("a.example/ns/deep/app: b.example/x/app", "a.example/ns/deep/app[*] -> b.example/x/app"),
        ("a.example/app: b.example/x/app", "a.example/app[*] -> b.example/x/app"),
        (
            "demo/nginx:latest: b.example/x/nginx",
            "docker.io/demo/nginx[latest] -> b.example/x/nginx",
        ),
        ("nginx: b.example/x/nginx", "docker.io/library/nginx[*] -> b.example/x/nginx"),
        ("a.example/ns/app:v1:", "a.example/ns/app[v1] -> reg.example/mirror/ns/app"),
        ("a.example/ns/app: ''", "a.example/ns/app[*] -> reg.example/mirror/ns/app"),
    ],
)
def test_a_line(tmp_path: Path, line: str, expected: str) -> None:
    found = imported(tmp_path, "image-transfer", line, options=TO)

    assert lines(found) == [expected]
    assert found.whole


@pytest.mark.parametrize(
    "line",
    [
        "a.example/ns/app: b.example/ns/app:v1",
        "a.example/ns/app:v1,v2: b.example/ns/app:u",
        "a.example/ns/app:v1,v2: b.example/ns/app:u,w",
        "host:5000/app: b.example/ns/app",
        "a.example/ns/app:v1:v2: b.example/ns/app",
        "a.example/ns/app@sha256:1234: b.example/ns/app",
        "a.example/ns/app: [b.example/ns/app]",
        "a.example/ns/App: b.example/ns/app",
    ],
)
def test_a_line_that_cannot_be_carried_over_is_told_of(tmp_path: Path, line: str) -> None:
    found = imported(
        tmp_path, "image-transfer", f"a.example/k/k: b.example/k/k\n{line}", options=TO
    )

    assert len(lines(found)) == 1
    (note,) = told(found, "lost")
    assert note.startswith("0.yaml:2 ")


def test_a_line_without_a_target_needs_the_registry_of_the_command_line(tmp_path: Path) -> None:
    found = imported(tmp_path, "image-transfer", "a.example/k/k: b.example/k/k\na.example/ns/app:")

    assert told(found, "lost") == ["0.yaml:2 a.example/ns/app"]
    assert any("--to" in note.text for note in found.notes)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """There the last one wins, in silence."""
    with pytest.raises(InvalidFields) as caught:
        imported(
            tmp_path, "image-transfer", "a.example/n/a: b.example/n/a\na.example/n/a: c.example/n/a"
        )

    assert caught.value.problems[0].line == 2


def test_files_come_in_any_order(tmp_path: Path) -> None:
    rules = "a.example/ns/app: b.example/team-a/app\nregistry.hub.docker.com/ns/x: b.example/ns/x"
    security = """\
a.example: {username: "100000", password: xxx, insecure: true}
b.example/team-a: {username: u, password: p}
registry.hub.docker.com: {username: hub, password: h}
"""
    one = imported(tmp_path, "image-transfer", rules, security)
    other = imported(tmp_path, "image-transfer", security, rules)

    assert {r["name"]: r for r in one.document["registries"]} == {
        r["name"]: r for r in other.document["registries"]
    }
    assert one.document["rules"] == other.document["rules"]
    a, b, hub = sorted(one.document["registries"], key=lambda r: r["name"])
    assert a["tls"] == {"insecure": True}
    assert b["credentials"] == [
        {"for": "team-a", "username": "u", "password_env": "TRANSSHIP_SECRET_B_EXAMPLE_TEAM_A"}
    ]
    assert (hub["url"], hub["credentials"]["username"]) == ("https://docker.io", "hub")


def test_half_a_login_falls_back_to_the_docker_configuration(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "image-transfer", "a.example: {username: u}", "a.example/n/a: b.example/n/a"
    )

    assert found.document["registries"][0]["credentials"] == {"docker_config": True}
    assert told(found, "changed") == ["0.yaml:1 a.example"]


def test_the_keys_of_the_quick_mode_are_told_of(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "image-transfer",
        "a.example/n/a: b.example/n/a",
        "ccr: {secretId: CANARY-A, secretKey: CANARY-B}",
    )

    assert told(found, "lost") == ["1.yaml:None ccr, tcr"]
    assert "CANARY" not in repr(found)
