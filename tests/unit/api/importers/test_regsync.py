"""regsync.yml: keys and semantics of peers-cli.md 2.3, with what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.api.importers.said import imported, lines, rules, told


def entry(text: str) -> str:
    return f"version: 1\nsync:\n  - {text}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{source: alpine, target: 'reg.example/library/alpine', type: image}", ["docker.io/library/alpine[latest] -> reg.example/library/alpine"]),
        ("{source: 'a.example/x:v1', target: 'reg.example/x:u', type: image}", ["a.example/x[v1] -> reg.example/x:u"]),
        ("{source: a.example/x, target: reg.example/y, type: repository}", ["a.example/x[*] -> reg.example/y"]),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, tags: {allow: ['3\\.\\d+', 'v|w']}}",
            [r"a.example/x[regex=^3\.\d+$] -> reg.example/y", "a.example/x[regex=^v|w$] -> reg.example/y"],
        ),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, tags: {deny: ['.*-rc\\..*', edge]}}",
            ["a.example/x[exclude=*-rc.*,edge] -> reg.example/y"],
        ),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, tags: {deny: ['a|b']}}",
            ["a.example/x[exclude=a*,*b] -> reg.example/y"],
        ),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, tags: {semverRange: ['>=1.0.0 <2.0.0', '^4']}}",
            ["a.example/x[semver=>=1.0.0 <2.0.0 || ^4] -> reg.example/y"],
        ),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, tags: {allow: [v1]}, tagSets: [{allow: [v2]}, {semverRange: ['>=3']}]}",
            [
                "a.example/x[regex=^v1$] -> reg.example/y",
                "a.example/x[regex=^v2$] -> reg.example/y",
                "a.example/x[semver=>=3] -> reg.example/y",
            ],
        ),
        ("{source: a.example, target: reg.example/m, type: registry}", ["a.example/include=**[*] -> reg.example/m/{repository}"]),
        (
            "{source: a.example, target: reg.example, type: registry, repos: {allow: ['team/.*'], deny: ['team/tmp.*']}}",
            ["a.example/regex=^team/.*$ exclude=team/tmp**[*] -> reg.example/{repository}"],
        ),
        (
            "{source: a.example/x, target: reg.example/y, type: repository, platforms: [linux/amd64, '']}",
            ["a.example/x[*] -> reg.example/y {'platforms': ['linux/amd64']}"],
        ),
    ],
)  # fmt: skip
def test_an_entry(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = imported(tmp_path, "regsync", entry(text))

    assert lines(found) == expected
    assert found.whole
    assert all(rule == {"referrers": False} for rule in rules(found, "referrers"))


@pytest.mark.parametrize(
    "text",
    [
        "{source: a.example/x, target: reg.example/y}",
        "{source: a.example/x, target: reg.example/y, type: images}",
        "{source: a.example/x, type: repository}",
        "{source: '{{.Sync.Target}}', target: reg.example/y, type: repository}",
        "{source: a.example/x, target: reg.example/y, type: repository, platform: linux/amd64}",
        "{source: a.example/x, target: reg.example/y, type: repository, tags: {deny: ['v[0-9]+']}}",
        "{source: a.example/x, target: reg.example/y, type: repository, interval: often}",
        "{source: a.example/x, target: 'reg.example/y:v1:v2', type: image}",
    ],
)
def test_an_entry_that_cannot_be_carried_over_is_told_of(tmp_path: Path, text: str) -> None:
    kept = "{source: a.example/k, target: reg.example/k, type: repository}"

    found = imported(tmp_path, "regsync", f"{entry(kept)}  - {text}\n")

    assert lines(found) == ["a.example/k[*] -> reg.example/k"]
    assert told(found, "lost") == ["0.yaml:4 sync[1]"]


def test_defaults_hold_where_an_entry_does_not_say_otherwise(tmp_path: Path) -> None:
    text = """\
defaults: {interval: 60m, referrers: true, digestTags: true}
sync:
  - {source: a.example/x, target: reg.example/x, type: repository}
  - {source: b.example/y, target: reg.example/y, type: repository, schedule: "0 */6 * * *"}
  - {source: c.example/z, target: reg.example/z, type: repository, interval: 1h30m, referrers: false, digestTags: false}
"""
    found = imported(tmp_path, "regsync", text)

    assert rules(found, "trigger", "referrers") == [
        {"trigger": {"every": "3600s"}, "referrers": True},
        {"trigger": {"schedule": "0 */6 * * *"}, "referrers": True},
        {"trigger": {"every": "5400s"}, "referrers": False},
    ]


def test_credentials(tmp_path: Path) -> None:
    text = """\
creds:
  - {registry: docker.io, user: crew, pass: hub, reqPerSec: 2.5, reqConcurrent: 3, repoAuth: true}
  - {registry: reg.example, hostname: "mirror.local:5000", user: u, pass: '{{file "/run/hub"}}', tls: disabled}
  - {registry: a.example, user: '{{env "USER"}}', pass: p, tls: insecure}
sync:
  - {source: alpine, target: reg.example/alpine, type: repository}
  - {source: a.example/x, target: reg.example/x, type: repository}
"""
    found = imported(tmp_path, "regsync", text)

    hub, reg, a = found.document["registries"]
    assert hub["limits"] == {"requests_per_second": 2.5, "concurrency": 3}
    assert found.secrets == {"TRANSSHIP_SECRET_DOCKER_IO": "hub"}
    assert reg["url"] == "http://mirror.local:5000"
    assert reg["credentials"] == {"username": "u", "password_env": "TRANSSHIP_SECRET_REG_EXAMPLE"}
    assert "credentials" not in a
    assert a["tls"] == {"insecure": True}
    assert told(found, "lost") == ["0.yaml:4 creds[2].user"]
    assert "0.yaml:3 creds[1].pass" in told(found, "look")


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        *(("creds", key, "x") for key in ("token", "credHelper", "regcert", "clientCert", "clientKey", "mirrors", "pathPrefix")),
        *(("defaults", key, "x") for key in ("backup", "referrerFilters", "includeExternal", "mediaTypes")),
        *(("sync", key, "x") for key in ("referrerSource", "referrerTarget", "backup")),
        *((where, "nobody", "x") for where in ("creds", "defaults", "sync")),
    ],
)  # fmt: skip
def test_each_key_is_honoured_or_told_of(tmp_path: Path, where: str, key: str, value: str) -> None:
    more = {"creds": "", "defaults": "", "sync": "", where: f", {key}: {value}"}
    text = f"""\
creds:
  - {{registry: a.example{more["creds"]}}}
defaults: {{parallel: 2{more["defaults"]}}}
sync:
  - {{source: a.example/x, target: reg.example/x, type: repository{more["sync"]}}}
"""
    found = imported(tmp_path, "regsync", text)

    (note,) = told(found, "lost")
    assert note.endswith(f".{key}")


@pytest.mark.parametrize("key", ["ratelimit", "forceRecursive", "fastCheck"])
def test_what_means_something_else_is_told_of(tmp_path: Path, key: str) -> None:
    text = entry(f"{{source: a.example/x, target: reg.example/x, type: repository, {key}: true}}")

    assert told(imported(tmp_path, "regsync", text), "changed") == [f"0.yaml:3 sync[0].{key}"]


def test_an_unknown_version_is_not_guessed(tmp_path: Path) -> None:
    kept = entry("{source: a.example/k, target: reg.example/k, type: repository}")

    found = imported(tmp_path, "regsync", kept, kept.replace("version: 1", "version: 2"))

    assert told(found, "lost") == ["1.yaml:1 version"]


def test_what_needs_no_setting_here_is_told_of_all_the_same(tmp_path: Path) -> None:
    text = "defaults: {parallel: 4, cacheCount: 3}\n" + entry(
        "{source: a.example/x, target: reg.example/x, type: repository, hooks: {pre: {type: x}}}"
    )

    assert told(imported(tmp_path, "regsync", text), "look") == [
        "0.yaml:1 defaults.parallel",
        "0.yaml:1 defaults.cacheCount",
        "0.yaml:4 sync[0].hooks",
    ]
