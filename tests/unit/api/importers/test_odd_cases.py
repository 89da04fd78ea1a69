"""Odd cases of peers-cli.md section 2 that no other test here has: each with what it becomes, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.importers.formats import Options
from service.errors import InvalidConfiguration, InvalidFields
from tests.unit.api.importers.said import imported, lines, rules, told

SYNC = "version: 1\nsync:\n  - {source: a.example/x, target: b.example/x, type: repository}\n"
COPIED = "a.example/x[*] -> b.example/x"


@pytest.mark.parametrize(
    ("creds", "url", "weight", "notes"),
    [
        ("tls: disabled", "http://a.example", "look", []),
        ("scheme: http, api: x", "https://a.example", "look", ["scheme", "api"]),
        ("priority: 1", "https://a.example", "look", ["priority"]),
        ("blobChunk: 9, blobMax: 9", "https://a.example", "changed", ["blobChunk", "blobMax"]),
        ("credHelper: ecr, credExpire: 1h, credHost: h", "https://a.example", "look", ["credExpire", "credHost"]),
    ],
)  # fmt: skip
def test_regsyncs_registries(
    tmp_path: Path, creds: str, url: str, weight: str, notes: list[str]
) -> None:
    found = imported(tmp_path, "regsync", f"creds: [{{registry: a.example, {creds}}}]\n{SYNC}")

    assert lines(found) == [COPIED]
    assert found.document["registries"][0]["url"] == url
    assert told(found, weight) == [f"0.yaml:1 creds[0].{key}" for key in notes]


def test_regsyncs_schedule_of_the_defaults_goes_before_an_entrys_interval(tmp_path: Path) -> None:
    text = SYNC.replace("type: repository}", "type: repository, interval: 5m}")

    found = imported(tmp_path, "regsync", f"defaults: {{schedule: '0 1 * * *'}}\n{text}")

    assert rules(found, "trigger") == [{"trigger": {"schedule": "0 1 * * *"}}]
    assert told(found, "look") == ["0.yaml:4 sync[0].schedule"]


def test_regsyncs_entry_without_a_time_runs_by_hand(tmp_path: Path) -> None:
    assert rules(imported(tmp_path, "regsync", SYNC), "trigger") == [{}]


def test_regsync_counts_prereleases_otherwise_and_that_is_told(tmp_path: Path) -> None:
    text = SYNC.replace("type: repository}", "type: repository, tags: {semverRange: ['>=3.22']}}")

    found = imported(tmp_path, "regsync", text)

    assert lines(found) == ["a.example/x[semver=>=3.22] -> b.example/x"]
    assert told(found, "changed") == ["0.yaml:3 sync[0].tags.semverRange"]


@pytest.mark.parametrize("version", ["version: 0\n", ""])
def test_regsyncs_version_may_be_0_or_left_out(tmp_path: Path, version: str) -> None:
    assert lines(imported(tmp_path, "regsync", SYNC.replace("version: 1\n", version))) == [COPIED]


def test_a_key_that_stands_twice_is_refused_though_regsync_takes_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidFields, match="the key stands twice") as caught:
        imported(tmp_path, "regsync", f"version: 1\n{SYNC}")

    assert caught.value.problems[0].line == 2


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("images: {x: null}", ["a.example/x[*] -> d.example/x"]),
        ("images: {x: [v1]}, images-by-tag-regex: {x: ^v}",
         ["a.example/x[v1] -> d.example/x", "a.example/x[regex=^v] -> d.example/x"]),
    ],
)  # fmt: skip
def test_skopeos_maps_are_united(tmp_path: Path, images: str, expected: list[str]) -> None:
    options = Options(to="d.example", all_platforms=True)

    found = imported(tmp_path, "skopeo", f"a.example: {{{images}}}", options=options)

    assert lines(found) == expected
    assert found.whole


@pytest.mark.parametrize(
    ("auth", "used"),
    [
        ("q.example/a/b", [{"for": "a/b", "username": "u"}]),
        ("q.example/a", [{"for": "a", "username": "u"}]),
        ("q.example/aa", [{"for": "aa", "username": "u"}]),
    ],
)
def test_image_syncers_keys_of_credentials_are_prefixes_that_end_at_a_slash(
    tmp_path: Path, auth: str, used: list[dict[str, str]]
) -> None:
    """One that is the whole repository ends it with a panic there; one that ends amid a name is none of ours either."""
    found = imported(
        tmp_path,
        "image-syncer",
        f"{auth}: {{username: u, password: p}}",
        "q.example/a/b: r.example/c/b",
    )

    given = found.document["registries"][0]["credentials"]
    assert [{k: v for k, v in one.items() if k != "password_env"} for one in given] == used


HARBOR: dict[str, Any] = {
    "name": "p",
    "src_registry": None,
    "dest_registry": {"id": 3, "name": "t", "type": "docker-registry", "url": "https://d.example"},
    "trigger": {"type": "manual"},
    "filters": [{"type": "name", "value": "library/**"}],
}
TAKEN = "h.example/include=library/**[*] -> d.example/{repository}"


def harbor(tmp_path: Path, **more: Any) -> Any:
    text = json.dumps({**HARBOR, **more})
    return imported(tmp_path, "harbor", text, options=Options(here="h.example"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"filters": [{"type": "name", "value": ""}]}, "h.example/include=**[*] -> d.example/{repository}"),
        ({"filters": [{"type": "resource", "value": "artifact"}]}, "h.example/include=**[*] -> d.example/{repository}"),
        ({"filters": [{"type": "name", "value": "{a,b}/*"}]}, "h.example/include={a,b}/*[*] -> d.example/{repository}"),
        ({"filters": [*HARBOR["filters"], {"type": "tag", "value": "v*", "decoration": "excludes"}]},
         "h.example/include=library/**[exclude=v*] -> d.example/{repository}"),
        ({"single_active_replication": True}, TAKEN),
    ],
)  # fmt: skip
def test_harbors_filters(tmp_path: Path, more: dict[str, Any], expected: str) -> None:
    found = harbor(tmp_path, **more)

    assert lines(found) == [expected]
    assert found.whole


@pytest.mark.parametrize(
    ("more", "weight", "key"),
    [
        ({"speed": 1000}, "changed", "p.speed"),
        ({"copy_by_chunk": True}, "look", "p.copy_by_chunk"),
        ({"deletion": True, "trigger": {"type": "event_based"}}, "changed", "p.replicate_deletion"),
    ],
)
def test_harbors_keys_that_mean_something_else_are_told_of(
    tmp_path: Path, more: dict[str, Any], weight: str, key: str
) -> None:
    found = harbor(tmp_path, **more)

    assert lines(found) == [TAKEN]
    assert told(found, weight) == [f"0.yaml:None {key}"]


def test_harbors_seconds_have_to_be_0(tmp_path: Path) -> None:
    cron = {"type": "scheduled", "trigger_settings": {"cron": "30 0 2 * * *"}}

    with pytest.raises(InvalidConfiguration, match="nothing is to be copied"):
        harbor(tmp_path, trigger=cron)
