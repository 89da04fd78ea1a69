"""image-syncer's files: the examples and odd cases of peers-cli.md 2.2, with what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import InvalidConfiguration, InvalidFields
from tests.unit.api.importers.said import imported, lines, rules, told

DIGEST = "sha256:" + "1" * 64
KRP = "quay.io/coreos/kube-rbac-proxy"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{KRP}: quay.io/ruohe/krp", ["quay.io/coreos/kube-rbac-proxy[*] -> quay.io/ruohe/krp"]),
        (
            f"{KRP}:v1.0: quay.io/ruohe/krp",
            ["quay.io/coreos/kube-rbac-proxy[v1.0] -> quay.io/ruohe/krp"],
        ),
        (
            f"{KRP}:v1.0,v2.0: quay.io/ruohe/krp",
            ["quay.io/coreos/kube-rbac-proxy[v1.0,v2.0] -> quay.io/ruohe/krp"],
        ),
        (
            f"{KRP}:v1.0,v2.0: quay.io/ruohe/krp:a,b",
            [
                "quay.io/coreos/kube-rbac-proxy[v1.0] -> quay.io/ruohe/krp:a",
                "quay.io/coreos/kube-rbac-proxy[v2.0] -> quay.io/ruohe/krp:b",
            ],
        ),
        (
            f"{KRP}@{DIGEST}: quay.io/ruohe/krp",
            [f"quay.io/coreos/kube-rbac-proxy[{DIGEST}] -> quay.io/ruohe/krp"],
        ),
        (
            f"{KRP}:v9@{DIGEST}: quay.io/ruohe/krp@{DIGEST}",
            [f"quay.io/coreos/kube-rbac-proxy[{DIGEST}] -> quay.io/ruohe/krp"],
        ),
        (
            f"{KRP}:v1.1: [quay.io/r/p1, quay.io/r/p2, quay.io/r/p1]",
            [
                "quay.io/coreos/kube-rbac-proxy[v1.1] -> quay.io/r/p1",
                "quay.io/coreos/kube-rbac-proxy[v1.1] -> quay.io/r/p2",
            ],
        ),
        (
            rf"'{KRP}:/^v1\..*/': quay.io/ruohe/krp",
            [r"quay.io/coreos/kube-rbac-proxy[regex=^v1\..*] -> quay.io/ruohe/krp"],
        ),
        ("nginx:v1: quay.io/r/nginx", ["docker.io/library/nginx[v1] -> quay.io/r/nginx"]),
        ("nginx: quay.io/r/nginx", ["docker.io/library/nginx[*] -> quay.io/r/nginx"]),
        ("localhost:5000/a/b:v1: quay.io/r/b", ["localhost-5000/a/b[v1] -> quay.io/r/b"]),
    ],
)
def test_a_line(tmp_path: Path, line: str, expected: list[str]) -> None:
    found = imported(tmp_path, "image-syncer", line)

    assert lines(found) == expected
    assert found.whole
    assert all(rule == {"referrers": False} for rule in rules(found, "referrers"))


@pytest.mark.parametrize(
    "line",
    [
        f"{KRP}:v1,v2: quay.io/ruohe/krp:a",
        f"{KRP}: quay.io/ruohe/krp:a",
        f"'{KRP}:/v/': quay.io/ruohe/krp:a",
        f"{KRP}@{DIGEST}: quay.io/ruohe/krp:a",
        f"{KRP}@sha256:12: quay.io/ruohe/krp",
        f"{KRP}:v1: ''",
        f"{KRP}:v1: []",
        f"{KRP}:v1: 3",
        f"{KRP}:v1: {{a: b}}",
        f"{KRP}:v1: quay.io/UPPER/case",
        "coreos/etcd: quay.io/r/etcd",
        "'coreos/etcd:/v3/': quay.io/r/etcd",
    ],
)
def test_a_line_that_cannot_be_carried_over_is_told_of(tmp_path: Path, line: str) -> None:
    found = imported(tmp_path, "image-syncer", f"{KRP}:kept: quay.io/r/kept\n{line}")

    assert len(lines(found)) == 1
    (note,) = told(found, "lost")
    assert note.startswith("0.yaml:2 ")
    assert not found.whole


def test_the_longest_prefix_has_its_own_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_USER", "crew")
    monkeypatch.setenv("HUB_PASS", "pa$$word")
    auth = """\
quay.io: {username: xxx, password: yyy, insecure: true}
quay.io/coreos: {username: abc, password: zzz}
docker.io: {username: "${HUB_USER}", password: "$HUB_PASS"}
elsewhere.example: {username: u, password: p}
"""
    found = imported(tmp_path, "image-syncer", auth, f"{KRP}:v1: docker.io/crew/krp")

    quay, hub = found.document["registries"]
    assert quay["credentials"] == [
        {"for": "coreos", "username": "abc", "password_env": "TRANSSHIP_SECRET_QUAY_IO_COREOS"},
        {"username": "xxx", "password_env": "TRANSSHIP_SECRET_QUAY_IO"},
    ]
    assert quay["tls"] == {"insecure": True}
    assert hub["credentials"] == {
        "username": "crew",
        "password_env": "TRANSSHIP_SECRET_DOCKER_IO",
    }
    assert found.secrets == {
        "TRANSSHIP_SECRET_QUAY_IO_COREOS": "zzz",
        "TRANSSHIP_SECRET_QUAY_IO": "yyy",
        "TRANSSHIP_SECRET_DOCKER_IO": "pa$$word",
    }
    assert "0.yaml:4 elsewhere.example" in told(found, "look")


def test_no_password_is_printed(tmp_path: Path) -> None:
    auth = (
        "quay.io: {username: u, password: CANARY-1}\nquay.io/a: {username: v, password: CANARY-2}"
    )
    found = imported(tmp_path, "image-syncer", auth, f"{KRP}:v1: quay.io/r/krp")

    assert "CANARY" not in found.text() + repr(found) + repr(found.notes)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "image-syncer",
        'quay.io: {username: u, password: "${NOT_SET_ANYWHERE}"}',
        f"{KRP}:v1: quay.io/r/krp",
    )

    assert "0.yaml:1 quay.io.password" in told(found, "look")
    assert any("$NOT_SET_ANYWHERE" in note.text for note in found.notes)
    assert found.secrets == {}


def test_the_legacy_file_has_both_and_fills_no_variables_in(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "image-syncer",
        f'{{"auth": {{"quay.io": {{"username": "u", "password": "a$b"}}}}, "images": {{"{KRP}:v1": "quay.io/r/krp"}}}}',
    )

    assert found.secrets == {"TRANSSHIP_SECRET_QUAY_IO": "a$b"}
    assert lines(found) == ["quay.io/coreos/kube-rbac-proxy[v1] -> quay.io/r/krp"]


@pytest.mark.parametrize(
    "auth",
    [
        'quay.io: {username: u, password: p, insecure: "true"}',
        "quay.io: {username: u, password: p, color: red}",
        "quay.io: {password: p}",
        "quay.io: {username: u, password: p}\nother.example: {username: u, password: p, 1: 2}",
    ],
)
def test_what_is_wrong_with_credentials_is_told(tmp_path: Path, auth: str) -> None:
    found = imported(tmp_path, "image-syncer", auth, f"{KRP}:v1: quay.io/r/krp")

    assert len(told(found, "lost")) == 1


def test_ten_thousand_lines_are_one_rule(tmp_path: Path) -> None:
    text = "".join(f"quay.io/team{n % 90}/app{n}:v1: reg.example/m/app{n}\n" for n in range(10_000))

    found = imported(tmp_path, "image-syncer", text)

    (rule,) = found.document["rules"]
    assert len(rule["select"]) == 10_000


def test_tags_of_a_repository_share_entries(tmp_path: Path) -> None:
    text = "".join(f"quay.io/team/app:v{n}: reg.example/m/app\n" for n in range(1_200))

    found = imported(tmp_path, "image-syncer", text)

    (rule,) = found.document["rules"]
    assert [len(entry["tags"]) for entry in rule["select"]] == [500, 500, 200]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("quay.io/a/b: quay.io/c\nquay.io/a/b: quay.io/d", 2),
        ("\tquay.io/a/b: c", 1),
        ("a: !!python/object:os.system x", 1),
        ("a: &x [*x]", 1),
        ("quay.io/a: \x00", 1),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_by_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InvalidFields) as caught:
        imported(tmp_path, "image-syncer", text)

    assert caught.value.problems[0].line in (line, None)


def test_a_file_with_nothing_to_copy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="nothing is to be copied"):
        imported(tmp_path, "image-syncer", "quay.io: {username: u, password: p}")
