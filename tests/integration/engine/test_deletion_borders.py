"""Deletions ask the border guard as copies do (issue 6 point 5): what may not be touched stays, and says why."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.model.work import ProcessReport
from service.replication.delete import Deleter
from service.store.deletion_values import CHECKING, DONE
from service.store.tables_governance import audit
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.test_effects_deletions import Scene, deletes
from tests.support.effects import standing
from tests.support.world import RecordingPublisher, World


def place(world: World, **registries: str) -> None:
    """Put registries into regions."""
    for name, region in registries.items():
        endpoint = world.services.registries.get(name).endpoint
        world.services.registries.put(replace(endpoint, region=region), document={})


def declare(world: World, **jurisdictions: str) -> None:
    for name, jurisdiction in jurisdictions.items():
        world.services.regions.put(Region(name, jurisdiction), document={"name": name})


def scheduler_in(world: World, region: str) -> Deleter:
    services = world.open(replace(world.settings, region=region, absence_seconds=0.0))
    return services.deleter


def rows(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What the audit log has of deletions."""
    query = select(audit.c.action, audit.c.after).where(audit.c.action.in_(["hold", "delete"]))
    with world.services.database.read() as connection:
        return [(row.action, json.loads(row.after)) for row in connection.execute(query)]


def gone(world: World) -> Scene:
    """A tag that a full run has not seen any more."""
    scene = Scene(world)
    scene.push("v1", "v2")
    scene.run()
    world.east.storage.delete_tag("app", "v1")
    scene.run()
    return scene


def found(world: World) -> Scene:
    """A deletion that waits for its second look."""
    scene = gone(world)
    scene.deleter(absence_seconds=60).step()
    assert scene.only().state == CHECKING
    return scene


def asked(world: World) -> int:
    return len(list(world.east.log)) + len(list(world.west.log))


@on_both_databases
def test_a_scheduler_of_a_third_jurisdiction_does_not_even_look(world: World) -> None:
    scene = gone(world)
    place(world, east="eu-1", west="eu-2")
    declare(world, **{"eu-1": "eu", "eu-2": "eu", "us-1": "us"})
    before = asked(world)

    scheduler_in(world, "us-1").step()

    assert asked(world) == before
    assert scene.services.deletions.list() == []
    scheduler_in(world, "eu-2").step()
    assert standing(world) == {"app:v2"}
    assert scene.only().state == DONE
    assert rows(world) == [], "nothing was held, and nothing crossed"


@on_both_databases
def test_what_was_found_before_waits_for_one_who_may_and_says_so(world: World) -> None:
    scene = found(world)
    place(world, east="eu-1", west="eu-2")
    declare(world, **{"eu-1": "eu", "eu-2": "eu", "us-1": "us"})
    before = asked(world)

    for _ in range(2):
        scheduler_in(world, "us-1").step()

    assert asked(world) == before
    held = scene.only()
    assert held.state == CHECKING
    assert "a worker of region us-1 (us) may not touch what is of eu" in held.reason
    assert "TRANSSHIP_REGION" in held.reason
    ((action, after),) = rows(world)
    assert (action, after["registry"]) == ("hold", "west")
    scheduler_in(world, "eu-1").step()
    assert (scene.only().state, scene.only().reason) == (DONE, "")
    assert standing(world) == {"app:v2"}


def test_what_the_rule_may_not_reach_stays(world: World) -> None:
    """The destination is found to be abroad, and the rule names only a group."""
    scene = found(world)
    group = replace(scene.rule.destinations[0], registry=None, group="all")
    scene.save(replace(scene.rule, destinations=(group,)))
    place(world, east="eu-1", west="us-1")
    declare(world, **{"eu-1": "eu", "us-1": "us"})
    before = asked(world)

    for region in ("eu-1", "us-1"):
        scheduler_in(world, region).step()

    assert asked(world) == before
    assert "west is in us, and east in eu" in scene.only().reason
    assert standing(world) == {"app:v1", "app:v2"}


def test_a_border_that_is_drawn_in_the_middle_stops_the_rest(world: World) -> None:
    scene = found(world)
    clock = [0.0]
    due = scheduler_in(world, "local")
    vars(due._borders._guard)["_clock"] = lambda: clock[0]

    def draw(_request: object) -> None:
        declare(world, **{"eu-1": "eu"})
        clock[0] += 10.0

    world.east.storage.delete_tag("app", "v2")
    scene.run()
    scene.deleter(absence_seconds=60).step()
    world.west.fault("/v2/app/manifests", method="DELETE", before=draw, times=1)

    due.step()

    assert len(deletes(world)) == 1
    assert len(standing(world)) == 1


def test_a_deletion_across_a_border_is_in_the_audit_log(world: World) -> None:
    scene = gone(world)
    place(world, east="eu-1", west="us-1")
    declare(world, **{"eu-1": "eu", "us-1": "us"})

    scheduler_in(world, "eu-1").step()

    ((action, after),) = rows(world)
    assert action == "delete"
    assert (after["from"], after["to"], after["deletion"]) == ("eu", "us", scene.only().id)
    assert after["digest"].startswith("sha256:")


def alive(world: World, *regions: str) -> None:
    for region in regions:
        report = ProcessReport(f"worker-{region}", "worker", region, 4, "host", 1)
        world.services.state.heartbeat(report)


@on_both_databases
def test_what_the_scheduler_may_not_touch_is_sent_to_workers_who_may(world: World) -> None:
    scene = gone(world)
    place(world, east="eu-1", west="eu-2")
    declare(world, **{"eu-1": "eu", "eu-2": "eu", "us-1": "us"})
    alive(world, "eu-1", "eu-2", "us-1")
    scheduler, worker = scheduler_in(world, "us-1"), scheduler_in(world, "eu-2")
    sent = RecordingPublisher()
    scheduler.share(sent.delete)

    scheduler.step()
    scheduler.step()

    piece = f"rule {scene.rule.name}"
    assert sent.deletions == [("eu-2", piece, ("west",))], "once, and to the destination's region"
    assert worker.take(piece, ["west"])
    assert scene.only().state == CHECKING
    scheduler.step()
    (_, (region, deletion, left)) = sent.deletions
    assert (region, deletion, left) == ("eu-2", scene.only().id, ())
    assert worker.take(deletion, left)
    assert (scene.only().state, standing(world)) == (DONE, {"app:v2"})
    assert rows(world) == [], "it was never held"
    scheduler.step()
    assert len(sent.deletions) == 2
    assert not worker.take(piece, ["west"]), "delivered once more"


def test_a_run_is_looked_at_by_several_until_it_is_through(world: World) -> None:
    """Three jurisdictions: whoever may look at one destination sends the rest on."""
    scene = gone(world)
    services = world.services
    services.registries.put(RegistryEndpoint("asia", world.east.url, region="ap-1"), document={})
    other = replace(scene.rule.destinations[0], registry="asia")
    scene.save(replace(scene.rule, destinations=(*scene.rule.destinations, other)))
    place(world, east="eu-1", west="us-1")
    declare(world, **{"eu-1": "eu", "us-1": "us", "ap-1": "ap"})
    alive(world, "ap-1", "us-1")
    piece = f"rule {scene.rule.name}"
    queue = RecordingPublisher()
    deleters = {region: scheduler_in(world, region) for region in ("local", "ap-1", "us-1")}
    for deleter in deleters.values():
        deleter.share(queue.delete)

    deleters["local"].step()
    assert queue.deletions.pop() == ("ap-1", piece, ("asia", "west"))
    assert deleters["ap-1"].take(piece, ["asia", "west"])
    assert queue.deletions.pop() == ("us-1", piece, ("west",))
    assert deleters["us-1"].take(piece, ["west"])

    assert services.deletions.due_scans() == []
    assert scene.only().registry == "west"
    assert not any(deleter.take(piece, ()) for deleter in deleters.values())


def test_schedulers_on_either_side_take_turns(world: World) -> None:
    scene = gone(world)
    place(world, east="eu-1", west="us-1")
    declare(world, **{"eu-1": "eu", "us-1": "us"})
    other = world.open(replace(world.settings, region="us-1"))

    with other.deletion_borders.turn(f"rule {scene.rule.name}") as theirs:
        assert theirs
        scheduler_in(world, "eu-1").step()
        assert scene.services.deletions.list() == []

    scheduler_in(world, "eu-1").step()
    assert deletes(world) == ["/v2/app/manifests/v1"]
    leases = {
        world.open(replace(world.settings, region=one)).deletion_borders.lease("deletions")
        for one in ("eu-1", "us-1")
    }
    assert len(leases) == 2, "neither keeps the other from what only it may do"
