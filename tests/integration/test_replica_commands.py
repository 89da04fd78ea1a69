"""transship replicas, against the API as a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.model.endpoint import RegistryEndpoint
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.replicas import standing_replica


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path)
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


@pytest.fixture
def run(
    server: ApiProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    for name in ("east", "west"):
        endpoint = RegistryEndpoint(name, f"https://{name}.example")
        server.services.registries.put(endpoint, document={"url": endpoint.url})
    return runner(server, monkeypatch, capsys)


def test_a_replica_is_shown_repaired_promoted_and_reversed(server: ApiProcess, run: Run) -> None:
    standing_replica(server.services, drift="team/app:v1")
    of_west = ("west", "--rule", "instance")

    listed = run("replicas", "list")
    shown = run("replicas", "show", *of_west).json
    drift = run("replicas", "drift", *of_west)
    repaired = run("replicas", "drift", *of_west, "--repaired")
    repair = run("replicas", "repair", *of_west)
    promotion = run("replicas", "promotion", *of_west)
    refused = run("replicas", "promote", *of_west)
    still = server.services.rules.get("instance").rule.source
    promoted = run("replicas", "promote", *of_west, "--accept-missing", "--json")
    again = run("replicas", "promote", *of_west)
    reversed_ = run("replicas", "reverse", "east", "--rule", "instance")

    assert (listed.code, "preparing" in listed.out) == (0, True)
    assert (shown["registry"], shown["drift"]["moved"]) == ("west", 1)
    assert (drift.code, "team/app:v1" in drift.out) == (1, True)
    assert (repaired.code, "team/app" in repaired.out) == (0, False)
    assert repair.code == 0
    assert (promotion.code, "it has not caught up" in promotion.out) == (1, True)
    assert (refused.code, "--accept-missing" in refused.err, still) == (2, True, "east")
    assert [one["tag"] for one in promoted.json["missing"]] == ["*", "v1"]
    assert (again.code, "is the primary" in again.err) == (0, True)
    assert server.services.rules.get("instance").rule.source == "west"
    assert "east follows west" in reversed_.err
