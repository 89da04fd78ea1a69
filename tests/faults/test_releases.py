"""Releases while processes die: the tags of a release are all new or all what they were (issue 6 point 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api.samples.faults import FOREVER
from tests.faults.lab import Lab, Scene
from tests.support.processes import wait_until
from tests.support.tally import killed

pytestmark = pytest.mark.timeout(180)

TAGS = ("app:v1", "app:v2", "web:v1", "web:v2")
WORKING = {"resolving", "staging", "proving", "preparing", "flipping", "setting_back"}
RECOVERY_SECONDS = 30.0


@pytest.fixture(autouse=True)
def unarmed(lab: Lab) -> Iterator[None]:
    yield
    lab.heal()
    lab.rearm("worker", {})
    lab.forget_unacknowledged()


def rest(lab: Lab, name: str) -> dict[str, Any]:
    """Wait until nothing of a release goes on by itself."""

    def found() -> dict[str, Any] | None:
        release: dict[str, Any] = lab.ask("GET", f"/releases/{name}")
        return None if release["state"] in WORKING else release

    return wait_until(found, RECOVERY_SECONDS, f"release {name} to come to rest")


def staged(lab: Lab, scene: Scene, name: str) -> None:
    """Push all tags anew, and stage them."""
    for place in TAGS:
        scene.push(place)
    lab.ask("POST", "/releases", {"name": name, "rule": scene.name})
    assert rest(lab, name)["state"] == "staged"


def at_destination(scene: Scene) -> list[str | None]:
    return [scene.tag_names(place) for place in TAGS]


def second_release(lab: Lab, name: str) -> tuple[Scene, list[str | None]]:
    """A scene whose tags were released once, and are staged once more; what they are now."""
    scene = lab.scene(name)
    staged(lab, scene, f"{name}-1")
    lab.ask("POST", f"/releases/{name}-1/flip")
    assert rest(lab, f"{name}-1")["state"] == "flipped"
    before = at_destination(scene)
    assert before == [scene.digest(place) for place in TAGS]
    staged(lab, scene, f"{name}-2")
    assert at_destination(scene) == before
    return scene, before


@pytest.mark.parametrize(("point", "nth"), [("release.prepared", 1), ("release.after_put", 2)])
def test_a_worker_killed_in_a_flip_leaves_it_to_the_next(lab: Lab, point: str, nth: int) -> None:
    name = point.replace(".", "-").replace("_", "-")
    scene, before = second_release(lab, name)
    lab.rearm("worker", {"TRANSSHIP_TESTING": "true", "TRANSSHIP_CRASH": f"{point}:{nth}:kill9"})

    lab.ask("POST", f"/releases/{name}-2/flip")
    process = lab.processes["worker"]
    wait_until(lambda: not process.alive, 20, f"the death of the worker at {point}")
    assert f'"point": "{point}"' in process.output(100_000)
    killed(point)
    lab.rearm("worker", {})

    found = rest(lab, f"{name}-2")
    assert found["state"] == "flipped", found
    after = at_destination(scene)
    assert after == [scene.digest(place) for place in TAGS]
    assert not set(after) & set(before)
    assert found["window_seconds"] > 0
    report = scene.verdict(tags=4, blobs=12).report
    assert (report.faults, report.tags) == ([], 4)


def test_a_worker_killed_when_it_has_set_back_leaves_tags_as_they_were(lab: Lab) -> None:
    scene, before = second_release(lab, "release-set-back")
    fault = scene.west.fault(
        scene.at_destination("web/manifests/v1$"), method="PUT", status=403, times=FOREVER
    )
    lab.rearm(
        "worker", {"TRANSSHIP_TESTING": "true", "TRANSSHIP_CRASH": "release.set_back:1:kill9"}
    )

    lab.ask("POST", "/releases/release-set-back-2/flip")
    process = lab.processes["worker"]
    wait_until(lambda: not process.alive, 20, "the death of the worker")
    assert fault.fired == 1
    killed("release.set_back")
    lab.rearm("worker", {})

    found = rest(lab, "release-set-back-2")
    assert found["state"] == "set_back", found
    assert "west/mirror/release-set-back/web:v1: " in found["reason"]
    assert at_destination(scene) == before
    rows = lab.ask("GET", "/audit?kind=releases&name=release-set-back-1")["items"]
    assert [row["action"] for row in rows] == ["flip", "create"]
