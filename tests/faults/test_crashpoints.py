"""Each named place of service/crashpoints.py: a process dies there, and nothing is lost (F001-F003, F020, F030, F040, F070).

A table says what makes a process come by. A point without a row here is red.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api.samples.registry import OCI_1_1, SampleRegistry
from service.crashpoints import POINTS
from tests.faults.lab import PREFIX, Lab, Scene
from tests.oracle.closure import check
from tests.support.processes import wait_until
from tests.support.promoting import SECRET, GateReceiver, yes
from tests.support.receiver import Receiver
from tests.support.tally import killed

pytestmark = pytest.mark.timeout(180)

RECOVERY_SECONDS = 30.0
TESTING = {"TRANSSHIP_TESTING": "true"}
TIMES = range(int(os.environ.get("CRASH_TIMES", "1")))
SMALL, LARGE, FANNED = (20_000, 30_000), (600_000, 30_000), (9_000_000, 9_000_000, 30_000)


@dataclass(frozen=True)
class Way:
    """Who comes by a point, and by what content."""

    role: str
    sizes: tuple[int, ...] = SMALL
    nth: int = 1


WAYS: dict[str, Way] = {
    "blob.leased": Way("worker"),
    "blob.session_open": Way("worker"),
    "blob.before_final_put": Way("worker", LARGE),
    "blob.after_put_before_sql": Way("worker"),
    "blob.after_sql_before_done": Way("worker"),
    "commit.claimed": Way("worker", FANNED),
    "commit.children_done": Way("worker"),
    "commit.before_reread": Way("worker"),
    "commit.before_put": Way("worker"),
    "commit.before_readback": Way("worker"),
    "commit.before_sql": Way("worker"),
    "copy.begun": Way("worker"),
    "copy.after_sql": Way("worker"),
    "part.placed": Way("worker", FANNED),
    "plan.begun": Way("worker"),
    "plan.listed": Way("worker"),
    "plan.page_written": Way("worker"),
    "sched.marked": Way("scheduler"),
    "sched.published": Way("scheduler"),
}
"""Points that a run of a rule comes by; the others have a test of their own below."""

ELSEWHERE = {
    "api.before_tx",
    "api.after_tx_before_reply",
    "db.migrated",
    "db.table_carried",
    "delete.confirmed",
    "delete.before_sql",
    "hook.before_mark",
    "layout.before_rename",  # tests/integration/registry/test_layout.py
    "promotion.before_answer",
    "promotion.before_place",
    "recon.found",
    "recon.requeued",
    "release.prepared",  # test_releases.py
    "release.after_put",
    "release.set_back",
    "sched.claimed",
}


def test_every_point_has_a_test() -> None:
    assert set(WAYS) | ELSEWHERE == POINTS
    assert not set(WAYS) & ELSEWHERE


@pytest.fixture(autouse=True)
def unarmed(lab: Lab) -> Iterator[None]:
    """Every process runs again after a test, and nothing is armed.

    No message of a dead worker comes again: it would bring the next one to its point with nothing in hand.
    """
    yield
    lab.heal()
    for role in ("api", "scheduler", "worker"):
        lab.rearm(role, {})
    lab.forget_unacknowledged()


def crash(point: str, way: str, nth: int = 1) -> dict[str, str]:
    return {**TESTING, "TRANSSHIP_CRASH": f"{point}:{nth}:{way}"}


def whole(scene: Scene, tags: int, blobs: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=blobs, uploads=True)
    assert verdict.faults == [], str(verdict)


def dead(lab: Lab, role: str, point: str) -> None:
    """Wait for a process's death at the point that it names with its last words."""
    process = lab.processes[role]
    wait_until(lambda: not process.alive, 20, f"the death of {role} at {point}")
    assert process.returncode == -9
    assert f'"point": "{point}"' in process.output(100_000)
    killed(point)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("point", WAYS)
def test_a_process_killed_at_a_point_loses_nothing(lab: Lab, point: str, time: int) -> None:
    way = WAYS[point]
    scene = lab.scene(f"{point}-{time}".replace(".", "-").replace("_", "-"))
    scene.push("app:v1", way.sizes)
    scene.push("other:v1")
    lab.rearm(way.role, crash(point, "kill9", way.nth))

    identity = scene.start()
    dead(lab, way.role, point)
    lab.rearm(way.role, {})

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    assert len(scene.tag_puts("app:v1")) <= 2
    whole(scene, tags=2, blobs=len(way.sizes) + 4)


@pytest.mark.nightly
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("point", [name for name in WAYS if WAYS[name].role == "worker"])
def test_an_error_that_nobody_expects_at_a_point_fails_no_copy_for_good(
    lab: Lab, point: str, time: int
) -> None:
    way = WAYS[point]
    scene = lab.scene(f"raise-{point}-{time}".replace(".", "-").replace("_", "-"))
    scene.push("app:v1", way.sizes)
    lab.rearm(way.role, crash(point, "raise", way.nth))

    identity = scene.start()
    reached = lab.processes[way.role]
    wait_until(lambda: f'"point": "{point}"' in reached.output(100_000), 20, point)
    state = lab.wait(identity, RECOVERY_SECONDS)["state"]
    if state != "succeeded":
        assert scene.run()["state"] == "succeeded"

    assert reached.alive
    whole(scene, tags=1, blobs=len(way.sizes) + 1)


@pytest.mark.nightly
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("point", WAYS)
def test_a_process_that_stands_still_at_a_point_is_replaced_and_does_no_harm_when_it_goes_on(
    lab: Lab, point: str, time: int
) -> None:
    """Who stops while another of its threads writes keeps SQLite's lock: nobody goes on before it does."""
    way = WAYS[point]
    scene = lab.scene(f"stop-{point}-{time}".replace(".", "-").replace("_", "-"))
    scene.push("app:v1", way.sizes)
    lab.rearm(way.role, crash(point, "stop", way.nth))
    other = f"{way.role}-2"
    try:
        identity = scene.start()
        frozen = lab.processes[way.role]
        wait_until(lambda: f'"point": "{point}"' in frozen.output(100_000), 20, point)
        if holds_the_database(lab):
            frozen.send_signal(signal.SIGCONT)
        lab.start(other)

        assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
        frozen.send_signal(signal.SIGCONT)
        scene.push("app:v2")
        assert scene.run()["state"] == "succeeded"

        assert frozen.alive
        whole(scene, tags=2, blobs=len(way.sizes) + 4)
    finally:
        lab.processes.pop(other).kill()


def holds_the_database(lab: Lab) -> bool:
    """Whether somebody has SQLite's lock for longer than anybody writes."""
    with contextlib.closing(sqlite3.connect(lab.folder / "transship.db", timeout=3)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


# ---- the API -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["api.before_tx", "api.after_tx_before_reply"])
def test_f001_f002_a_request_that_died_with_the_api_is_asked_again_and_made_once(
    lab: Lab, point: str
) -> None:
    scene = lab.scene(point.replace(".", "-").replace("_", "-"))
    scene.push("app:v1")
    lab.rearm("api", crash(point, "kill9"))
    headers = {"Idempotency-Key": f"key-{point}"}
    path = f"/rules/{scene.name}/executions"
    with pytest.raises(httpx.TransportError):
        lab.client.post(path, headers=headers)
    api = lab.processes["api"]  # one of its children died
    wait_until(lambda: f'"point": "{point}"' in api.output(100_000), 20, f"a death at {point}")
    killed(point)
    lab.rearm("api", {})

    made = [
        one for one in lab.ask("GET", "/executions?limit=200")["items"] if one["rule"] == scene.name
    ]
    assert len(made) == (0 if point == "api.before_tx" else 1)
    again = lab.client.post(path, headers=headers).json()["id"]
    twice = lab.client.post(path, headers=headers).json()["id"]

    assert again == twice
    assert [one["id"] for one in made] in ([], [again])
    scene.runs.append(again)
    assert lab.wait(again)["state"] == "succeeded"
    whole(scene, tags=1, blobs=3)


# ---- the scheduler -------------------------------------------------------------------------------


def test_f020_a_scheduler_that_died_with_a_due_rule_in_hand_starts_it_once(lab: Lab) -> None:
    lab.rearm("scheduler", crash("sched.claimed", "kill9"))
    scene = lab.scene("sched-claimed", trigger={"every": "1h"})
    scene.push("app:v1")
    dead(lab, "scheduler", "sched.claimed")
    lab.rearm("scheduler", {})

    def made() -> list[str]:
        items = lab.ask("GET", "/executions?limit=200")["items"]
        return [one["id"] for one in items if one["rule"] == scene.name]

    wait_until(made, 20, "the rule's execution")
    scene.runs += made()
    assert len(scene.runs) == 1
    lab.wait(scene.runs[0])
    scene.run()
    assert len(made()) == 2
    whole(scene, tags=1, blobs=3)


@pytest.mark.parametrize("point", ["recon.found", "recon.requeued"])
def test_a_reconciler_that_died_over_the_dead_is_followed_by_another(lab: Lab, point: str) -> None:
    scene = lab.scene(point.replace(".", "-"))
    scene.push("app:v1", FANNED)
    lab.rearm("worker", crash("blob.leased", "kill9"), orderly=True)  # the one to be found
    lab.rearm("scheduler", crash(point, "kill9"))  # last: it is to find nobody else

    identity = scene.start()
    dead(lab, "worker", "blob.leased")
    dead(lab, "scheduler", point)
    lab.rearm("scheduler", {})
    lab.rearm("worker", {})

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=1, blobs=4)


@pytest.mark.parametrize("point", ["delete.confirmed", "delete.before_sql"])
def test_a_scheduler_that_died_at_a_deletion_deletes_that_and_nothing_else(
    lab: Lab, point: str
) -> None:
    """At a destination that deletes tags: docker-registry 2.8.2 knows no such thing."""
    quick = {"TRANSSHIP_ABSENCE_SECONDS": "0.2"}
    name = point.replace(".", "-").replace("_", "-")
    with SampleRegistry(profile=OCI_1_1) as destination:
        lab.ask("PUT", f"/registries/{name}", {"url": destination.url})
        scene = lab.scene(
            name,
            destinations=[{"registry": name}],
            delete={"enabled": True, "grace": "0s", "cap": "100%"},
        )
        for tag in ("v1", "v2", "v3"):
            scene.push(f"app:{tag}")
        assert scene.run()["state"] == "succeeded"
        scene.remove("app:v2")
        lab.rearm("scheduler", {**crash(point, "kill9"), **quick})
        scene.run()
        dead(lab, "scheduler", point)
        lab.rearm("scheduler", quick)

        left = f"{name}/app"
        wait_until(lambda: set(destination.storage.tags(left) or ()) == {"v1", "v3"}, 30, "its end")
        wait_until(lambda: lab.ask("GET", "/deletions")["items"][0]["state"] == "done", 30, "done")
        deletes = [line.path for line in destination.log if line.method == "DELETE"]
        assert set(deletes) == {f"/v2/{left}/manifests/v2"}
        expected = {place: place for place in scene.expected}
        report = check(lab.source.url, destination.url, expected)
        assert report.faults == [], str(report)


def test_a_sender_that_died_before_it_noted_a_delivery_sends_it_again(lab: Lab) -> None:
    with Receiver() as receiver:
        lab.ask("PUT", "/webhooks/crash", {"url": receiver.url, "events": ["execution.succeeded"]})
        scene = lab.scene("hook-before-mark")
        scene.push("app:v1")
        lab.rearm("scheduler", crash("hook.before_mark", "kill9"))
        identity = scene.start()
        dead(lab, "scheduler", "hook.before_mark")
        lab.let_letters_go()  # while nobody sends any
        lab.rearm("scheduler", {})

        assert lab.wait(identity)["state"] == "succeeded"

        def told() -> list[str]:
            bodies = [one.event for one in receiver.received]
            return [one["id"] for one in bodies if identity in json.dumps(one)]

        wait_until(lambda: len(told()) >= 2, 60, "the second delivery")
        assert len(set(told())) == 1, "the same event, by its id"
        lab.ask("DELETE", "/webhooks/crash")


@pytest.mark.parametrize("point", ["promotion.before_answer", "promotion.before_place"])
def test_a_scheduler_that_died_over_a_promotion_leaves_it_to_the_next(lab: Lab, point: str) -> None:
    """The gate's answer is lost, and asked for again; the copy's end is not noted, and is found. Nothing happens twice."""
    name = point.replace(".", "-").replace("_", "-")
    scene = lab.scene(name)
    scene.push("app:v1")
    with GateReceiver(say=_agree_or_take) as receiver:
        there = {"name": "there", "registry": "west", "repository": f"{PREFIX}{{repository}}"}
        gates = {"gates": [{"webhook": receiver.url}], "after": {"webhook": receiver.url}}
        stages = [{"name": "here", "registry": "east", "repository": f"{name}/*"}, there | gates]
        lab.ask("PUT", f"/pipelines/{name}", {"stages": stages, "secret": SECRET})
        lab.rearm("scheduler", crash(point, "kill9"))
        wish = {"pipeline": name, "ref": f"{name}/app:v1", "to": "there"}
        identity = lab.ask("POST", "/promotions", wish)["id"]
        dead(lab, "scheduler", point)
        lab.let_letters_go()  # while nobody sends any
        lab.rearm("scheduler", {})

        def told() -> bool:
            found = lab.ask("GET", f"/promotions/{identity}")
            return bool(found["steps"][-1]["state"] == "passed")

        wait_until(told, 60, "the promotion to be placed and told")

    history = [one["event"] for one in lab.ask("GET", f"/promotions/{identity}")["history"]]
    assert history == ["asked", "gate.passed", "copying", "placed", "after.delivered"]
    scene.runs += [
        one["id"] for one in lab.ask("GET", f"/executions?rule=pipeline-{name}-there")["items"]
    ]
    assert len(scene.runs) == 1
    asked = [one.event["type"].rpartition(".")[2] for one in receiver.received]
    assert asked[-1] == "placed"
    assert asked.count("webhook") == (2 if point.endswith("answer") else 1)
    whole(scene, tags=1, blobs=3)


def _agree_or_take(asked: dict[str, Any]) -> tuple[int, bytes, str]:
    """A gate's answer; what is told afterwards is taken."""
    return yes(asked) if "gate" in asked else (204, b"", "")
