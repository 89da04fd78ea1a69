"""contract:harbor. A rule into, and out of, a Harbor: planned, carried out, deleted from by the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.registry import SampleRegistry
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from tests.contract.harbor import FakeHarbor
from tests.support.images import push_image
from tests.support.planning import finish, mirror, plan
from tests.support.transship import transship, write_rules
from tests.support.world import World, open_world, some_bytes

ROBOT = "robot$transship"
LAYERS = [some_bytes(f"layer{number}", 3000) for number in range(4)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def harbor(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarbor]:
    """A Harbor without projects, known to the world as `harbor`."""
    monkeypatch.setenv("TRANSSHIP_SECRET_HARBOR", "s3cret")
    credentials = CredentialSpec(ROBOT, password_env="TRANSSHIP_SECRET_HARBOR")
    with FakeHarbor({ROBOT: "s3cret"}, frozenset({ROBOT}), page=100) as fake:
        endpoint = RegistryEndpoint("harbor", fake.url, credentials=credentials)
        world.services.registries.put(endpoint, document={})
        yield fake


def heads(harbor: FakeHarbor) -> int:
    return sum(1 for one in list(harbor.log) if one.method == "HEAD" and "/manifests/" in one.path)


def test_rule_copies_into_projects_that_are_not_there(world: World, harbor: FakeHarbor) -> None:
    for number in range(6):
        world.push(f"app{number % 2}", f"v{number}", LAYERS[: 1 + number % 3], mark=str(number))

    execution = plan(world, mirror("app*", to="{name}-team/app", registry="harbor"))

    assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert harbor.harbor.projects == {"app0-team", "app1-team"}
    made = [one for one in harbor.log if (one.method, one.path) == ("POST", "/api/v2.0/projects")]
    assert [one.status for one in made] == [201, 201]
    assert sorted(harbor.storage.tags("app0-team/app") or ()) == ["v0", "v2", "v4"]


def test_unchanged_tags_cost_a_page_and_no_heads(world: World, harbor: FakeHarbor) -> None:
    for number in range(12):
        world.push("app", f"v{number}", LAYERS[:1], mark=str(number))
    rule = mirror("app", to="team/app", registry="harbor")
    assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED
    before = heads(harbor), len(harbor.log)

    again = plan(world, rule)

    assert finish(world, again) is ExecutionState.SUCCEEDED
    assert world.copies(again) == []
    assert heads(harbor) == before[0]
    assert len(harbor.log) - before[1] <= 3


def test_tag_that_was_moved_at_harbor_is_seen_in_its_list(world: World, harbor: FakeHarbor) -> None:
    for number in range(12):
        world.push("app", f"v{number}", LAYERS[:1], mark=str(number))
    rule = mirror("app", to="team/app", registry="harbor")
    assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED
    tags = dict(harbor.storage.tags("team/app") or {})
    harbor.storage.move_tag("team/app", "v3", tags["v4"])
    harbor.storage.delete_tag("team/app", "v5")

    again = plan(world, rule)

    assert finish(world, again) is ExecutionState.SUCCEEDED
    assert sorted(one.source_reference for one in world.copies(again)) == ["v3", "v5"]
    assert harbor.storage.tags("team/app") == tags


def test_tags_that_an_event_names_are_not_looked_up_in_a_list(
    world: World, harbor: FakeHarbor
) -> None:
    for number in range(6):
        world.push("app", f"v{number}", LAYERS[:1], mark=str(number))
    there = mirror("app", to="team/app", registry="harbor")
    assert finish(world, plan(world, there)) is ExecutionState.SUCCEEDED
    rule = mirror("team/app", name="out", source="harbor")
    named = [("team/app", f"v{number}") for number in range(6)]
    before = len(harbor.log)

    execution = world.services.executions.create_tags(rule, named).id
    assert world.services.planner.plan(execution, world.services.boot)

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert [one.path for one in harbor.log[before:] if "/artifacts" in one.path] == []


def test_rule_takes_all_repositories_of_all_projects(world: World, harbor: FakeHarbor) -> None:
    for name in ("a/app", "b/c/app"):
        world.push(name, "v1", LAYERS[:2])
    assert finish(world, plan(world, mirror("**", to="{repository}", registry="harbor"))) is (
        ExecutionState.SUCCEEDED
    )

    back = mirror("**", name="back", source="harbor", to="back/{repository}")

    assert finish(world, plan(world, back)) is ExecutionState.SUCCEEDED
    assert {"back/a/app", "back/b/c/app"} <= set(world.west.storage.repositories())


def test_one_shot_sync_makes_the_project_that_its_workers_need(tmp_path: Path) -> None:
    """The whole way: a file, the command, a real queue, a real worker process."""
    with SampleRegistry() as east, FakeHarbor({ROBOT: "s3cret"}, frozenset({ROBOT})) as harbor:
        push_image(east, "team/app", "v1")
        push_image(east, "team/app", "v2")
        file = write_rules(tmp_path / "rules.yaml", east.url, harbor.url)
        document = json.loads(file.read_text())
        document["registries"][1]["credentials"] = {
            "username": ROBOT,
            "password_env": "TRANSSHIP_SECRET_HARBOR",
        }
        file.write_text(json.dumps(document))

        done = transship("sync", "-f", str(file), "--json", TRANSSHIP_SECRET_HARBOR="s3cret")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["copies"]["copied"] == 2
        assert harbor.harbor.projects == {"mirror"}
        assert sorted(harbor.storage.tags("mirror/team/app") or ()) == ["v1", "v2"]
        assert "s3cret" not in done.stdout + done.stderr
