"""Harbor's replication policies: the example and rules of peers-cli.md 2.5, with what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.importers.formats import Options
from tests.unit.api.importers.said import imported, lines, rules, told

HERE = Options(here="harbor.example")
TCR = {
    "id": 3,
    "name": "tcr",
    "type": "tencent-tcr",
    "url": "https://x.tencentcloudcr.com",
    "insecure": False,
    "credential": {"type": "basic", "access_key": "u", "access_secret": "***"},
}


def policy(**more: Any) -> dict[str, Any]:
    base = {
        "name": "to-tcr",
        "src_registry": None,
        "dest_registry": TCR,
        "dest_namespace": "mirror/a",
        "filters": [{"type": "name", "value": "library/**"}],
        "trigger": {"type": "manual"},
        "enabled": True,
    }
    return base | more


def policies(tmp_path: Path, *found: dict[str, Any]) -> Any:
    return imported(tmp_path, "harbor", json.dumps(list(found)), options=HERE)


def test_the_example(tmp_path: Path) -> None:
    found = policies(
        tmp_path,
        policy(
            filters=[
                {"type": "name", "value": "library/**"},
                {"type": "tag", "value": "v*", "decoration": "matches"},
                {"type": "tag", "value": "*-rc", "decoration": "excludes"},
                {"type": "resource", "value": "image"},
            ],
            trigger={"type": "scheduled", "trigger_settings": {"cron": "0 0 2 * * *"}},
            override=False,
            speed=-1,
            copy_by_chunk=False,
            single_active_replication=False,
        ),
    )

    (line,) = lines(found)
    assert line.startswith("harbor.example/include=library/**[include=v* exclude=*-rc] -> ")
    assert line.endswith("x.tencentcloudcr.com/mirror/a/{name} {'types': ['image']}")
    assert rules(found, "name", "enabled", "on_conflict", "trigger") == [
        {
            "name": "to-tcr",
            "enabled": True,
            "on_conflict": "keep",
            "trigger": {"schedule": "0 2 * * *"},
        }
    ]
    here, tcr = sorted(found.document["registries"], key=lambda one: one["name"])
    assert (here["provider"], tcr["provider"]) == ("harbor", "tcr")
    assert tcr["credentials"]["username"] == "u"
    assert found.secrets == {}, "the export masks it"
    assert any("the file does not have it" in note.text for note in found.notes)


@pytest.mark.parametrize(
    ("count", "namespace", "repository"),
    [
        (None, "m", "m/{name}"),
        (-1, "m", "m/{name}"),
        (0, "m", "m/{repository}"),
        (1, "m", "m/{repository[1:]}"),
        (2, "m/n", "m/n/{repository[2:]}"),
        (1, "", "{repository}"),
    ],
)
def test_namespaces(tmp_path: Path, count: int | None, namespace: str, repository: str) -> None:
    found = policies(tmp_path, policy(dest_namespace=namespace, dest_namespace_replace_count=count))

    assert lines(found)[0].endswith(f"/{repository}")


@pytest.mark.parametrize(
    "more",
    [
        {"dest_namespace_replace_count": -2},
        {"dest_namespace_replace_count": "1"},
        {"filters": [{"type": "label", "value": ["prod"], "decoration": "excludes"}]},
        {"filters": [{"type": "name", "value": "a", "decoration": "matches"}]},
        {"filters": [{"type": "tag", "value": "a"}, {"type": "tag", "value": "b"}]},
        {"filters": [{"type": "resource", "value": "model"}]},
        {"trigger": {"type": "scheduled", "trigger_settings": {"cron": "0 2 * * *"}}},
        {"trigger": {"type": "scheduled", "trigger_settings": {"cron": "5 0 2 * * *"}}},
        {"dest_registry": {"id": 7}},
        {"name": ""},
    ],
)
def test_a_policy_that_cannot_be_carried_over_is_left_out_and_told_of(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    found = policies(tmp_path, policy(name="kept"), policy(**more))

    assert [rule["name"] for rule in rules(found, "name")] == ["kept"]
    assert len(told(found, "lost")) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"colour": "red"},
        {"filters": [{"type": "owner", "value": "x"}]},
        {"trigger": {"type": "on_full_moon"}},
        {"dest_registry": {**TCR, "ca_certificate": "PEM"}},
        {"dest_registry": {**TCR, "colour": "red"}},
    ],
)
def test_a_key_that_is_not_carried_over_is_told_of(tmp_path: Path, more: dict[str, Any]) -> None:
    found = policies(tmp_path, policy(**more))

    assert len(lines(found)) == 1
    assert len(told(found, "lost")) == 1


def test_pull_and_events_and_deletions(tmp_path: Path) -> None:
    found = policies(
        tmp_path,
        policy(
            name="Pull of ours",
            src_registry={**TCR, "credential": {"access_key": "u", "access_secret": "CANARY"}},
            dest_registry={"id": 0},
            trigger={"type": "event_based"},
            deletion=True,
            speed=1000,
            enabled=False,
            description="as it was",
        ),
    )

    (rule,) = rules(found, "name", "source", "trigger", "delete", "bandwidth", "enabled")
    assert rule == {
        "name": "pull-of-ours",
        "source": "x.tencentcloudcr.com",
        "trigger": {"event": True},
        "delete": {"enabled": True, "all": True},
        "bandwidth": "1024kbit/s",
        "enabled": False,
    }
    assert found.secrets == {"TRANSSHIP_SECRET_X_TENCENTCLOUDCR_COM": "CANARY"}
    assert "CANARY" not in found.text()
    assert len(told(found, "changed")) == 2


def test_registries_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "harbor",
        json.dumps([{**TCR, "url": "http://127.0.0.1:5001", "type": "docker-registry"}]),
        json.dumps(policy(dest_registry={"id": 3})),
        options=HERE,
    )

    other = next(one for one in found.document["registries"] if one["name"] != "harbor.example")
    assert (other["url"], other["provider"]) == ("http://127.0.0.1:5001", "distribution")


def test_this_harbor_has_to_be_named(tmp_path: Path) -> None:
    kept = policy(name="kept", src_registry={**TCR, "id": 4, "url": "https://a.example"})

    found = imported(tmp_path, "harbor", json.dumps([kept, policy()]))

    assert told(found, "lost") == ["0.yaml:1 to-tcr"]
    assert any("--here" in note.text for note in found.notes)
