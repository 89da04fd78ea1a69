"""Plan, verify, where and wait as their users run them, on real registries."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.fleet import push_fleet
from api.samples.fleet_plan import FleetSpec
from api.samples.registry import SampleRegistry
from tests.e2e.conftest import Source
from tests.e2e.test_main_job import assert_whole
from tests.support.images import digest_at, push_image
from tests.support.load import busy
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.transship import clean_environment, transship, write_rules
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
WRITING = {"PUT", "POST", "PATCH", "DELETE"}

SMALL = FleetSpec(
    seed=3, repositories=8, tags=24, unique_bytes=8 << 20, big_images=1, big_image_bytes=5 << 20
)
"""A fleet of every shape that the large one has: its content is read eight times here."""


@pytest.fixture
def small() -> Iterator[Source]:
    with RealRegistry() as registry:
        yield Source(registry, push_fleet(registry.url, SMALL))


def test_a_plan_is_kept_carried_out_verified_and_what_is_lost_then_is_repaired(
    small: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    source = small
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    place = ["-f", str(rules), "--data", str(data), "--json"]

    planned = transship("plan", *place)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert [line for line in destination.access_log() if line.method in WRITING] == []
    source.registry.clear_access_log()
    synced = transship("sync", "--plan", plan["plan"], *place)
    assert synced.returncode == 0, synced.stderr
    done = json.loads(synced.stdout)

    assert plan["copies"] == done["copies"]["copied"]
    assert plan["bytes"]["unique"] == done["bytes"]["copied"] == source.cost().blob_bytes
    assert_whole(source, destination)
    again = transship("sync", "--plan", plan["plan"], *place)
    assert json.loads(again.stdout)["execution"] == done["execution"]

    whole = transship("verify", *place)
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["holes"] == 0
    blob = _lose_a_blob(destination)
    holed = transship("verify", *place)
    found = json.loads(holed.stdout)
    assert holed.returncode == 1
    assert found["holes"] >= 1
    assert all(blob in one["reason"] for one in found["failures"])
    source.registry.clear_access_log()
    repaired = transship("verify", "--repair", *place)
    assert repaired.returncode == 0, repaired.stderr
    assert json.loads(repaired.stdout)["repaired"] == found["holes"]
    assert source.cost().kinds["GET blob"] == 1, "only the lost blob is read again"
    assert_whole(source, destination)


def _lose_a_blob(registry: RealRegistry) -> str:
    """Take the bytes of the largest blob away behind the registry's back; its links stay."""
    blobs = registry.storage_path / "docker/registry/v2/blobs/sha256"
    lost = max(blobs.glob("*/*/data"), key=lambda path: path.stat().st_size)
    digest = f"sha256:{lost.parent.name}"
    shutil.rmtree(lost.parent)
    return digest


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("looking")) as running:
        yield running


def client(up: Up) -> dict[str, str]:
    return {**clean_environment(), "TRANSSHIP_URL": up.url, "TRANSSHIP_TOKEN": up.token}


def test_where_names_the_registry_that_lost_a_blob_and_wait_is_the_gate(up: Up) -> None:
    with SampleRegistry() as east, SampleRegistry() as one, SampleRegistry() as two:
        up.registry("east", east.url)
        up.registry("one", one.url, groups=["prod"])
        up.registry("two", two.url, groups=["prod"])
        up.registry("elsewhere", two.url)
        up.rule("to-prod", "east", "", destinations=[{"group": "prod"}])
        layer = b"layer" * 20_000
        digest = push_image(east, "team/app", "v1", layers=[layer])
        environment = client(up)

        early = transship(
            "wait", "team/app:v1", "--in", "prod", "--timeout", "1s", environment=environment
        )
        assert early.returncode == 3, early.stderr
        up.ask("POST", "/rules/to-prod/executions")
        gate = transship(
            "wait",
            f"east/team/app:v1@{digest}",
            "--in",
            "prod",
            "--timeout",
            "30s",
            environment=environment,
        )
        assert gate.returncode == 0, gate.stderr
        up.idle()
        begun = time.monotonic()
        rows = up.ask("GET", "/images/team/app/v1/locations")["locations"]
        print(f"where from SQL: {1000 * (time.monotonic() - begun):.0f} ms")
        states = {row["registry"]: row["state"] for row in rows}
        assert states == {
            "east": "source",
            "one": "whole",
            "two": "whole",
            "elsewhere": "not wanted",
        }

        manifest = two.storage.manifest("team/app", "v1")
        assert manifest is not None
        lost = json.loads(manifest.raw)["layers"][0]["digest"]
        two.storage.collect_blob(lost)
        proved = transship("where", "team/app:v1", "--prove", "--json", environment=environment)
        found = {row["registry"]: row for row in json.loads(proved.stdout)["locations"]}
        assert (found["one"]["state"], found["two"]["state"]) == ("whole", "hole")
        assert lost in found["two"]["why"]
        for place, code in (("one", 0), ("two", 1), ("elsewhere", 1)):
            asked = transship(
                "wait", "team/app:v1", "--in", place, "--timeout", "2s", environment=environment
            )
            assert asked.returncode == code, asked.stderr
        assert transship("wait", "x:v1", "--in", "nobody", environment=environment).returncode == 2


def test_a_push_during_a_backfill_of_its_rule_overtakes_it_and_a_paused_registry_is_left_alone(
    up: Up,
) -> None:
    with SampleRegistry() as east, SampleRegistry() as west:
        up.registry("busy-east", east.url)
        up.registry("busy-west", west.url, limits={"bandwidth": "1MB/s"})
        up.rule("busy", "busy-east", "busy-west", trigger={"event": True})
        secret = up.hook("busy-east")
        for number in range(60):
            push_image(east, f"old/app{number:02}", "v1", layers=[bytes([number]) * 700_000])
        execution = up.ask("POST", "/rules/busy/executions")["id"]
        wait_until(lambda: _copied(up, execution) >= 3, 60, "the backfill to be under way")

        digest = push_image(east, "new/app", "v1")
        event = {"id": "e1", "action": "push", "target": {"repository": "new/app", "tag": "v1"}}
        begun = time.monotonic()
        told = up.notify(
            "distribution/busy-east",
            json.dumps({"events": [event]}).encode(),
            {"Authorization": f"Bearer {secret}"},
        )
        assert told.status_code == 202
        wait_until(lambda: digest_at(west, "new/app", "v1") == digest, 20, "the pushed tag")
        print(f"push during a backfill: {time.monotonic() - begun:.2f} s")
        assert up.ask("GET", f"/executions/{execution}")["state"] == "running"

        up.ask("POST", "/registries/busy-west/pause")
        paused = time.monotonic()
        wait_until(
            lambda: _silence(west, paused) >= 2,
            2 + 5 * busy(),
            "two seconds of silence, after five at most",
            bound=True,
        )
        assert up.ask("GET", f"/executions/{execution}")["state"] == "running"
        up.ask("PUT", "/registries/busy-west", {"url": west.url})
        up.ask("POST", "/registries/busy-west/resume")
        up.idle(60)
        assert up.ask("GET", f"/executions/{execution}")["state"] == "succeeded"


def _silence(registry: SampleRegistry, since: float) -> float:
    """Return the seconds since a registry was asked last, and since `since` at most."""
    return time.monotonic() - max([since, *(line.started for line in list(registry.log))])


def _copied(up: Up, execution: str) -> int:
    count: int = up.ask("GET", f"/executions/{execution}")["copies"]["copied"]
    return count


def test_a_server_plans_and_verifies_its_own_rules_and_carries_a_plan_out(up: Up) -> None:
    with SampleRegistry() as east, SampleRegistry() as west:
        up.registry("there-east", east.url)
        up.registry("there-west", west.url)
        up.rule("there", "there-east", "there-west")
        environment = client(up)
        pushed = push_image(east, "team/app", "v1", layers=[b"layer" * 20_000])

        def said(code: int, *words: str) -> subprocess.CompletedProcess[str]:
            done = transship(*words, environment=environment)
            assert done.returncode == code, done.stderr
            return done

        plan = json.loads(said(0, "plan", "--rule", "there", "--json").stdout)
        assert (plan["state"], plan["copies"], plan["problems"]) == ("succeeded", 1, [])
        assert not [line for line in west.log if line.method in WRITING]
        words = said(0, "plan", "--rule", "there")
        assert "there: 1 tag to copy" in words.stdout
        assert "transship sync --plan" in words.stdout
        assert up.url in words.stderr
        report = json.loads(said(0, "sync", "--plan", plan["plan"], "--json").stdout)
        assert report["copies"]["copied"] == plan["copies"]
        assert report["bytes"]["copied"] == plan["bytes"]["unique"]
        assert digest_at(west, "team/app", "v1") == pushed

        assert "1 checked, 1 whole" in said(0, "verify", "--rule", "there").stdout
        manifest = west.storage.manifest("team/app", "v1")
        assert manifest is not None
        west.storage.collect_blob(json.loads(manifest.raw)["layers"][0]["digest"])
        holed = json.loads(said(1, "verify", "--rule", "there", "--json").stdout)
        assert (holed["holes"], holed["failures_total"], holed["failures"][0]["class"]) == (
            1,
            1,
            "hole",
        )
        mended = json.loads(said(0, "verify", "--rule", "there", "--repair", "--json").stdout)
        assert (mended["holes"], mended["repaired"]) == (1, 1)
        assert "1 whole" in said(0, "verify", "--rule", "there").stdout


def test_what_a_command_cannot_do_on_a_server_says_how_it_is_done(up: Up, tmp_path: Path) -> None:
    file = write_rules(tmp_path / "transship.yaml", "https://a.example", "https://b.example")
    environment = client(up)

    def refused(*words: str) -> str:
        done = transship(*words, environment=environment)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    with_file = refused("plan", "-f", str(file))
    assert "--local" in with_file
    assert "transship plan --rule fleet" in with_file
    assert "rules run fleet --wait" in refused("sync", "-f", str(file))
    assert "--rule NAME" in refused("plan")
    assert "rules run NAME --wait" in refused("sync")
    assert "--local needs -f" in refused("verify", "--rule", "x", "--local")
    assert "no rule named nothing" in refused("plan", "--rule", "nothing")
    assert "no plan" in refused("sync", "--plan", "0" * 24)
