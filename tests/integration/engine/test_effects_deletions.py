"""What goes at the source goes at the destination, slowly, and never for less than proof (P6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from api.samples.registry import DISTRIBUTION_2, OCI_1_1
from api.schemas.rule import effective_rule, load_rule
from service.bootstrap import Services
from service.errors import Conflict
from service.model.endpoint import RegistryEndpoint
from service.model.rule import SyncRule
from service.model.states import ExecutionState
from service.replication.delete import Deleter
from service.store.deletion_values import CANCELLED, DONE, PENDING, WAITING, Deletion
from service.store.tables import leases
from service.store.tables_deletions import deletions
from service.store.tables_releases import release_tags
from tests.support.content import push_image
from tests.support.effects import effect_rule, run, standing
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.world import World

APP = {"repositories": ["app"]}
NOW = {"enabled": True, "grace": "0s"}


class Scene:
    """A rule that deletes, its tags at the destination, and looks that come one after the other."""

    def __init__(self, world: World, **keys: Any) -> None:
        self.world = world
        self.rule = effect_rule(APP, **{"delete": NOW, **keys})
        self.services: Services = world.services
        self.save(self.rule)

    def save(self, rule: SyncRule) -> None:
        self.rule = rule
        self.services.rules.put(rule, document={})

    def push(self, *tags: str) -> None:
        for tag in tags:
            push_image(self.world.east.storage, "app", tag, mark=tag)

    def run(self, state: ExecutionState = ExecutionState.SUCCEEDED) -> str:
        return run(self.world, self.rule, state)

    def deleter(self, absence_seconds: float = 0.0) -> Deleter:
        services = self.services
        return Deleter(
            replace(services.settings, absence_seconds=absence_seconds),
            services.rules,
            services.registries,
            services.projects,
            services.deletions,
            services.clients,
            services.deletion_borders,
        )

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.deleter().step()

    def only(self) -> Deletion:
        (found,) = self.services.deletions.list()
        return found

    def fates(self) -> dict[str, tuple[str, str]]:
        found = self.services.deletions.tags(self.only().id)
        return {item.written.tag: (item.state, item.reason) for item in found}


def deletes(world: World) -> list[str]:
    """What the destination was asked to delete."""
    return [line.path for line in list(world.west.log) if line.method == "DELETE"]


def absences(world: World, tag: str) -> int:
    """How often the source was asked for a tag and said that it is not there."""
    path = f"/v2/app/manifests/{tag}"
    log = list(world.east.log)
    return sum(1 for one in log if (one.method, one.path, one.status) == ("GET", path, 404))


def test_effect_delete_enabled(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    push_image(world.west.storage, "app", "own", mark="not Transship's")

    scene.look()

    assert standing(world) == {"app:v2", "app:own"}
    assert deletes(world) == ["/v2/app/manifests/v1"]
    assert absences(world, "v1") >= 3
    assert scene.only().state == DONE
    assert scene.fates() == {"v1": ("deleted", "")}
    other = effect_rule(APP, name="other")
    scene.save(other)
    world.east.storage.delete_tag("app", "v2")
    push_image(world.east.storage, "app", "v3")
    scene.run()
    scene.look(2)
    assert "app:v2" in standing(world)


def test_nothing_is_deleted_while_the_source_is_seen_to_have_it(world: World) -> None:
    """A rule that takes less than before deletes nothing: delete follows the source, not the rule."""
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    scene.save(effect_rule({**APP, "tags": ["v2"]}, delete=NOW))
    scene.run()

    scene.look(3)

    assert standing(world) == {"app:v1", "app:v2"}
    assert scene.services.deletions.list() == []


def test_two_looks_are_some_seconds_apart(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    for _ in range(3):
        scene.deleter(absence_seconds=30).step()

    assert scene.only().state == "checking"
    assert absences(world, "v1") == 1
    assert deletes(world) == []


def test_a_tag_that_is_back_at_the_second_look_is_kept(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.deleter(absence_seconds=30).step()
    scene.push("v1")

    scene.look()

    assert deletes(world) == []
    assert scene.fates()["v1"] == ("kept", "the source has it again")


def test_a_tag_that_a_release_holds_is_not_deleted(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    scene.services.releases.create("spring", scene.rule, (), region="local")
    held = {"registry": "west", "repository": "app", "tag": "v1", "region": "local"}
    row = {"release": "spring", "source_repository": "app", "digest": "", "state": "pending"}
    world.services.database.write(lambda c: c.execute(release_tags.insert().values(row | held)))
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look()

    assert "app:v1" in standing(world)
    assert scene.fates() == {"v1": ("kept", "release spring holds it")}
    assert deletes(world) == []


def test_effect_delete_grace(world: World) -> None:
    scene = Scene(world, delete={"enabled": True, "grace": "1h"})
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.look(3)

    found = scene.only()
    assert found.state == PENDING
    assert found.due_at is not None
    assert 3000 < found.due_at - found.created_at < 3700
    assert deletes(world) == []

    undone = scene.services.deletions.cancel(found.id, by="ann")
    assert (undone.state, undone.decided_by) == (CANCELLED, "ann")
    scene.run()
    scene.look(3)
    assert "app:v1" in standing(world)
    assert scene.only().id == found.id  # it is nobody's any more: no later run deletes it either


def test_effect_delete_cap(world: World) -> None:
    scene = Scene(world, delete={**NOW, "cap": "10%"})
    tags = [f"v{number}" for number in range(25)]
    scene.push(*tags)
    scene.run()
    for tag in tags[:21]:
        world.east.storage.delete_tag("app", tag)
    scene.run()

    scene.look(3)

    found = scene.only()
    assert (found.state, found.tags, found.of_tags) == (WAITING, 21, 25)
    assert "cap of 10 %" in found.reason
    assert deletes(world) == []
    scene.services.deletions.approve(found.id, by="bob")
    with pytest.raises(Conflict, match="it is pending"):
        scene.services.deletions.approve(found.id, by="eve")
    scene.look()
    assert len(standing(world)) == 4
    assert scene.only().decided_by == "bob"


@pytest.mark.parametrize(("gone", "state"), [(20, DONE), (21, WAITING)])
def test_up_to_twenty_tags_are_below_any_cap(world: World, gone: int, state: str) -> None:
    scene = Scene(world, delete={**NOW, "cap": "1%"})
    tags = [f"v{number}" for number in range(gone + 3)]
    scene.push(*tags)
    scene.run()
    for tag in tags[:gone]:
        world.east.storage.delete_tag("app", tag)
    scene.run()

    scene.look()

    assert scene.only().state == state


def test_small_deletions_one_after_the_other_add_up_to_the_cap(world: World) -> None:
    scene = Scene(world)
    scene.push(*(f"v{number}" for number in range(40)))
    scene.run()
    states = []
    for start in (0, 12):
        for number in range(start, start + 12):
            world.east.storage.delete_tag("app", f"v{number}")
        scene.run()
        scene.look()
        states.append(scene.services.deletions.list()[0].state)

    assert states == [DONE, WAITING]
    assert len(deletes(world)) == 12


def test_a_cap_of_nothing_wants_an_approval_for_each(world: World) -> None:
    scene = Scene(world, delete={**NOW, "cap": "0%"})
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look()

    assert scene.only().state == WAITING


# ---- what is no absence --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("path", [r"/manifests/v1$", r"/tags/list"])
def test_an_answer_that_is_no_404_is_no_absence(world: World, path: str, status: int) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    struck = world.east.fault(
        path, method="GET", times=100, status=status, headers={"Retry-After": "0"}
    )

    scene.look(2)

    assert struck.fired
    assert deletes(world) == []
    assert scene.services.deletions.list() == []


def test_a_404_without_the_registrys_own_code_is_no_absence(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    world.east.fault(r"/manifests/v1$", method="GET", status=404, body=b"<html>not found</html>")

    scene.look(2)

    assert scene.services.deletions.list() == []


def test_a_source_that_fails_when_the_grace_is_over_keeps_the_tag(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.deleter(absence_seconds=30).step()
    deleter = scene.deleter()
    (found,) = scene.services.deletions.to_check(0)
    deleter._second_look(found)
    struck = world.east.fault(
        r"/manifests/v1$", method="GET", times=100, status=503, headers={"Retry-After": "0"}
    )

    scene.look()

    assert struck.fired
    assert deletes(world) == []
    assert scene.only().state == PENDING


def test_a_source_that_says_nothing_is_asked_a_few_times_and_left_alone(world: World) -> None:
    scene = Scene(world, delete={**NOW, "cap": "100%"})
    tags = [f"v{number}" for number in range(30)]
    scene.push(*tags, "stays")
    scene.run()
    for tag in tags:
        world.east.storage.delete_tag("app", tag)
    scene.run()
    scene.deleter(absence_seconds=30).step()
    (found,) = scene.services.deletions.to_check(0)
    scene.deleter()._second_look(found)
    world.east.fault("/manifests/", method="GET", times=1000, status=403)
    before = len(world.east.log)

    scene.look()

    assert len(world.east.log) - before < 10
    assert deletes(world) == []
    assert scene.only().state == PENDING
    world.east.faults.clear()
    world.services.database.write(
        lambda connection: connection.execute(update(deletions).values(due_at=0))
    )
    scene.look()
    assert standing(world) == {"app:stays"}


def test_a_repository_that_is_gone_or_empty_waits_for_an_approval(world: World) -> None:
    scene = Scene(world)
    scene.save(effect_rule({"repositories": ["a*"]}, delete=NOW))
    push_image(world.east.storage, "app", "v1")
    push_image(world.east.storage, "also", "v1", mark="also")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look()

    assert scene.only().state == WAITING
    assert "gone or empty" in scene.only().reason
    assert deletes(world) == []


def test_a_run_that_is_not_a_full_success_deletes_nothing(world: World) -> None:
    scene = Scene(world)
    scene.save(effect_rule({"repositories": ["a*"]}, delete=NOW))
    for name in ("app", "also"):
        for tag in ("v1", "v2"):
            push_image(world.east.storage, name, tag, mark=f"{name}{tag}")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    world.east.fault("/also/tags/list", status=403)

    scene.run(ExecutionState.PARTIAL)
    scene.look(3)

    assert scene.services.deletions.list() == []


def test_an_empty_match_is_no_absence(world: World) -> None:
    scene = Scene(world)
    scene.push("v1")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look(3)

    assert scene.services.deletions.list() == []
    assert standing(world) == {"app:v1"}


def test_events_and_single_tags_delete_nothing(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    scene.look()
    world.east.storage.delete_tag("app", "v1")
    made = scene.services.executions.create_tags(scene.rule, [("app", "v1")])
    assert scene.services.planner.plan(made.id, scene.services.boot)
    scene.services.dispatching.end_executions()

    scene.look(3)

    assert scene.services.deletions.list() == []


def test_a_crash_between_the_looks_costs_only_another_look(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    (scan,) = scene.services.deletions.due_scans()
    left = scene.services.deletions.begin(scan, "west")  # a scan that died here

    scene.look()

    assert scene.only().id != left
    assert scene.only().state == DONE


# ---- what is no longer ours ----------------------------------------------------------------------


def test_a_tag_that_somebody_changed_at_the_destination_is_kept(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    push_image(world.west.storage, "app", "v1", mark="somebody else's")

    scene.look()

    assert deletes(world) == []
    assert scene.fates()["v1"][0] == "kept"


def test_tags_that_were_there_before_the_rule_are_never_deleted(world: World) -> None:
    scene = Scene(world)
    scene.push("v1", "v2")
    push_image(world.west.storage, "app", "v1", mark="v1")  # the same image, put there by others
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look(2)

    assert standing(world) == {"app:v1", "app:v2"}


def test_a_tag_goes_and_its_twin_stays(world: World) -> None:
    scene = Scene(world)
    for tag in ("v1", "stable"):
        push_image(world.east.storage, "app", tag, mark="one image")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()

    scene.look()

    assert standing(world) == {"app:stable"}
    assert all("sha256:" not in path for path in deletes(world))


def test_a_registry_that_takes_the_twins_along_is_stopped(world: World) -> None:
    scene = Scene(world)
    for tag in ("v1", "v2", "stable"):
        push_image(world.east.storage, "app", tag, mark="one image")
    scene.run()
    for tag in ("v1", "v2"):
        world.east.storage.delete_tag("app", tag)
    scene.run()

    def take_all(*_: object) -> None:
        for tag in ("v2", "stable"):
            world.west.storage.delete_tag("app", tag)

    world.west.fault("/manifests/", method="DELETE", after=take_all)
    scene.look()

    assert len(deletes(world)) == 1
    failed = [fate for fate in scene.fates().values() if fate[0] == "failed"]
    assert len(failed) == 1
    assert "along with" in failed[0][1]


def test_a_rule_that_is_paused_or_off_or_gone_deletes_nothing(world: World) -> None:
    scene = Scene(world, delete={"enabled": True, "grace": "1s"})
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.look()
    wait_until(lambda: bool(scene.services.deletions.due()), 5, "the grace to be over")
    scene.services.pauses.pause_rule("effect")
    scene.look()
    assert deletes(world) == []
    scene.services.pauses.resume_rule("effect")
    scene.services.rules.put(replace(scene.rule, enabled=False), document={})
    scene.look()
    assert deletes(world) == []
    scene.services.rules.put(replace(scene.rule, delete=effect_rule(APP).delete), document={})
    scene.look()
    assert deletes(world) == []
    assert (scene.only().state, scene.only().reason) == (CANCELLED, "the rule deletes no longer")


# ---- registries that cannot ----------------------------------------------------------------------


def test_a_registry_that_cannot_delete_tags_says_so_once(world: World) -> None:
    world.west.api.profile = replace(DISTRIBUTION_2, pages_tags=True, referrers_api=True)
    scene = Scene(world)
    scene.push("v1", "v2", "v3")
    scene.run()
    for tag in ("v1", "v2"):
        world.east.storage.delete_tag("app", tag)
    scene.run()

    scene.look()
    scene.run()
    scene.look()

    assert len(deletes(world)) == 1
    assert standing(world) == {"app:v1", "app:v2", "app:v3"}
    (failed, _) = scene.services.deletions.tags(scene.only().id)
    assert failed.state == "failed"
    assert "cannot delete a tag alone" in failed.reason
    assert "distribution 3" in failed.hint
    world.west.api.profile = OCI_1_1


def test_docker_registry_cannot_delete_tags_and_nothing_is_lost(world: World) -> None:
    with RealRegistry() as real:
        world.services.registries.put(RegistryEndpoint("real", real.url), document={})
        scene = Scene(world, destinations=[{"registry": "real"}])
        scene.push("v1", "v2")
        scene.run()
        world.east.storage.delete_tag("app", "v1")
        scene.run()

        scene.look()

        (failed,) = scene.services.deletions.tags(scene.only().id)
        assert failed.state == "failed"
        assert "cannot delete a tag alone" in failed.reason
        client = scene.services.clients.get("real")
        assert client.head_manifest("app", "v1") is not None


# ---- documents -----------------------------------------------------------------------------------


def test_effect_delete_all(world: World) -> None:
    scene = Scene(world)
    everything = {"repositories": ["**"]}
    scene.save(effect_rule(everything, delete={**NOW, "all": True}))
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.look()

    assert standing(world) == {"app:v2"}


def test_effect_mode(world: World) -> None:
    """A replica takes the whole instance under its own names, and what goes goes there too."""
    document = {
        "name": "effect",
        "source": "east",
        "mode": "replicate",
        "destinations": [{"registry": "west"}],
        "delete": NOW,
    }
    rule = load_rule(document)
    assert load_rule(effective_rule(rule)) == rule
    scene = Scene(world)
    scene.save(rule)
    push_image(world.east.storage, "team/tool", "v1", mark="tool")
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    scene.look()

    assert standing(world) == {"team/tool:v1", "app:v2"}


# ---- real processes --------------------------------------------------------------------------------


def test_the_scheduler_deletes_by_itself_and_a_killed_one_is_made_up_for(world: World) -> None:
    scene = Scene(world, delete={"enabled": True, "grace": "1s"})
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    words = ("-m", "workers.main", "scheduler")

    with world.process("first", *words, TRANSSHIP_ABSENCE_SECONDS="0.2") as scheduler:
        wait_until(lambda: bool(scene.services.deletions.list()), 30, "a deletion")
        scheduler.kill()
    world.services.database.write(
        lambda connection: connection.execute(update(leases).values(until=0))
    )
    with world.process("second", *words, TRANSSHIP_ABSENCE_SECONDS="0.2"):
        wait_until(lambda: standing(world) == {"app:v2"}, 30, "the tag to go")
        wait_until(lambda: scene.only().state == DONE, 10, "the deletion's end")

    assert absences(world, "v1") >= 3
    assert deletes(world) == ["/v2/app/manifests/v1"]
