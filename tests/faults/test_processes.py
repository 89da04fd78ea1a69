"""Processes that are killed, stopped and frozen in the middle of a copy: rows F003, F020-F024, F040-F044, F181."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest

from api.samples.registry import SampleRegistry
from service.model.line import LEAST_BYTES
from tests.faults.lab import Lab, Scene
from tests.support.content import push_image
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import wait_until
from tests.support.world import some_bytes

pytestmark = pytest.mark.timeout(180)

RECOVERY_SECONDS = 30.0
"""Test timers: a process counts as dead after 2 s, and the reconciler looks every 0.3 s; the rest is for a busy machine."""


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    """Every process runs again after a test, and no fault is left."""
    yield
    lab.east.faults.clear()
    lab.west.faults.clear()
    for name, process in list(lab.processes.items()):
        if process.alive:
            process.send_signal(signal.SIGCONT)
        elif name in ("api", "scheduler", "worker"):
            lab.start(name)


class Held:
    """A request that waits at a registry: the moment at which a process is struck."""

    def __init__(self, side: FaultProxy, path: str, method: str) -> None:
        self._gate = threading.Event()
        self.rule = side.fault(path, method=method, hold=self._gate)

    def reached(self) -> None:
        """Wait until the request is there."""
        wait_until(lambda: self.rule.fired, 20, "the request to hold")

    def let_go(self) -> None:
        self._gate.set()


MOMENTS: dict[str, tuple[str, Callable[[Scene], str], str]] = {
    "reading-the-manifest": ("east", lambda s: s.at_source("app/manifests/"), "GET"),
    "reading-a-blob": ("east", lambda s: s.at_source("app/blobs/"), "GET"),
    "opening-an-upload": ("west", lambda s: s.at_destination("app/blobs/uploads/"), "POST"),
    "closing-an-upload": ("west", lambda s: s.at_destination("app/blobs/uploads/"), "PUT"),
    "putting-the-tag": ("west", lambda s: s.at_destination("app/manifests/v1"), "PUT"),
}


def held_at(scene: Scene, moment: str) -> Held:
    side, path, method = MOMENTS[moment]
    return Held(scene.east if side == "east" else scene.west, path(scene), method)


def whole(scene: Scene, tags: int, blobs: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=blobs, uploads=True)
    assert verdict.faults == [], str(verdict)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("size", [20_000, 900_000], ids=["small", "large"])
def test_f040_f070_a_worker_killed_in_a_copy_loses_nothing(
    lab: Lab, moment: str, size: int
) -> None:
    scene = lab.scene(f"f040-{moment}-{size}")
    scene.push("app:v1", (size, 30_000))
    scene.push("neighbour:v1")
    held = held_at(scene, moment)

    identity = scene.start()
    held.reached()
    lab.processes["worker"].kill()
    held.let_go()
    lab.start("worker")

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    assert len(scene.tag_puts("app:v1")) <= 2
    whole(scene, tags=2, blobs=6)


@pytest.mark.parametrize("region", ["local", "f040"])
def test_f040_a_worker_killed_with_another_registrys_blob_holds_nobody_up(
    lab: Lab, region: str
) -> None:
    """Two registries go on from a third; who brings them a large layer ahead of its image dies with it.

    In a region of their own they have it by errands, else along with the first.
    """
    layer = some_bytes(f"f040-{region}", LEAST_BYTES + 1000)
    lab.ask("PUT", "/regions/local", {"jurisdiction": "one"})  # it stays: all registries are in it
    lab.ask("PUT", "/regions/f040", {"jurisdiction": "one"})
    doomed = "worker"
    if region != "local":
        doomed = "worker-f040"
        lab.start(doomed, TRANSSHIP_REGION=region)
    with (
        SampleRegistry() as source,
        SampleRegistry() as a,
        SampleRegistry() as b,
        SampleRegistry() as c,
    ):
        places = {"f040-a": a, "f040-b": b, "f040-c": c}
        for name, registry in {"f040-source": source, **places}.items():
            there = "local" if name in ("f040-source", "f040-a") else region
            lab.ask("PUT", f"/registries/{name}", {"url": registry.url, "region": there})
        image = push_image(source.storage, "team/app", "v1", mark="f040", layer=layer)
        gate = threading.Event()
        rules = [
            one.fault("/v2/team/app/blobs/uploads/", method="PUT", hold=gate) for one in (b, c)
        ]
        lab.rule(
            "f040-errand",
            source="f040-source",
            select=[{"repositories": ["team/app"]}],
            destinations=[{"registry": name} for name in places],
        )

        identity = lab.run("f040-errand")
        wait_until(lambda: any(rule.fired for rule in rules), 20, "the blob's way to b or c")
        lab.processes[doomed].kill()
        gate.set()
        lab.start(doomed)

        ended = lab.wait(identity, RECOVERY_SECONDS)
        assert ended["state"] == "succeeded"
        for registry in (a, b, c):
            found = registry.storage.manifest("team/app", "v1")
            assert found is not None
            assert found.digest == image
        reads = [one for one in source.log if one.method == "GET" and "/blobs/" in one.path]
        assert sum(one.bytes for one in reads) < 2.5 * len(layer), "once more, or once a region"
        lab.ask("DELETE", "/rules/f040-errand")
        for name in ("f040-source", *places):
            lab.ask("DELETE", f"/registries/{name}")
        lab.ask("DELETE", "/regions/f040")
        if region != "local":
            lab.processes.pop(doomed).stop()


def test_f041_a_worker_asked_to_end_finishes_what_it_holds(lab: Lab) -> None:
    scene = lab.scene("f041")
    scene.push("app:v1")
    held = held_at(scene, "reading-a-blob")

    identity = scene.start()
    held.reached()
    worker = lab.processes["worker"]
    worker.send_signal(signal.SIGTERM)
    held.let_go()

    assert worker.wait(60) == 0
    lab.start("worker")
    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    assert scene.copy("app:v1")["attempts"] <= 2
    whole(scene, tags=1, blobs=3)


@pytest.mark.parametrize("moment", ["closing-an-upload", "putting-the-tag"])
def test_f042_f078_a_worker_that_stands_still_past_its_lease_does_no_harm(
    lab: Lab, moment: str
) -> None:
    scene = lab.scene(f"f042-{moment}")
    freeze_past_the_lease(
        lab, scene, moment, lambda is_newer: wait_until(is_newer, 10, "the newer tag")
    )
    whole(scene, tags=1, blobs=3)


def freeze_past_the_lease(
    lab: Lab, scene: Scene, moment: str, put_right: Callable[[Callable[[], bool]], object]
) -> None:
    """Have a worker thaw with a request under way, after another one has committed a newer image.

    At the tag itself its PUT is late and comes through, as no registry compares and swaps (P4): it has
    to put right what it wrote, by itself. `put_right` waits for that.
    """
    scene.push("app:v1", seed="old")
    old = scene.digest("app:v1")
    held = held_at(scene, moment)

    identity = scene.start()
    held.reached()
    frozen = lab.processes["worker"]
    stand_still(lab, "worker")
    scene.push("app:v1", seed="new")
    newer = scene.digest("app:v1")
    lab.start("worker-2")
    try:
        assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
        assert scene.tag_names("app:v1") == newer
        held.let_go()
        if moment == "putting-the-tag":
            wait_until(lambda: scene.tag_names("app:v1") == old, 10, "the late write")
        os.kill(frozen.pid, signal.SIGCONT)
        put_right(lambda: scene.tag_names("app:v1") == newer)
    finally:
        frozen.send_signal(signal.SIGCONT)
        held.let_go()
        lab.processes.pop("worker-2").kill()


@pytest.mark.parametrize("moment", ["reading-the-manifest", "putting-the-tag"])
def test_f020_a_scheduler_killed_in_a_run_is_no_loss(lab: Lab, moment: str) -> None:
    scene = lab.scene(f"f020-{moment}")
    for number in range(6):
        scene.push(f"app:v{number}" if number else "app:v1")
    held = held_at(scene, moment)

    identity = scene.start()
    held.reached()
    lab.processes["scheduler"].kill()
    held.let_go()
    lab.start("scheduler")

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=5, blobs=15)


def stand_still(lab: Lab, name: str) -> None:
    """Stop a process where it holds no lock of SQLite: the file has one writer, whom all others would wait for."""
    process = lab.processes[name]
    if lab.postgres is not None:
        process.send_signal(signal.SIGSTOP)
        return
    file = lab._database.removeprefix("sqlite:///")

    def stopped() -> bool:
        os.kill(process.pid, signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(file, timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(process.pid, signal.SIGCONT)
                return False
        return True

    wait_until(stopped, 20, f"{name} to stand still beside its writes")


def test_f024_a_scheduler_that_hangs_is_replaced_and_stands_down(lab: Lab) -> None:
    scene = lab.scene("f024")
    scene.push("app:v1")
    stand_still(lab, "scheduler")
    lab.start("scheduler-2")
    try:
        assert scene.run(RECOVERY_SECONDS)["state"] == "succeeded"
        lab.processes["scheduler"].send_signal(signal.SIGCONT)
        assert scene.run(RECOVERY_SECONDS)["state"] == "succeeded"
    finally:
        lab.processes["scheduler"].send_signal(signal.SIGCONT)
        lab.processes.pop("scheduler-2").stop(30)

    assert len(scene.tag_puts("app:v1")) == 1
    whole(scene, tags=1, blobs=3)


def test_f003_an_execution_that_was_accepted_survives_its_api(lab: Lab) -> None:
    scene = lab.scene("f003")
    scene.push("app:v1")
    identity = scene.start()
    lab.processes["api"].kill()
    lab.start("api")

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=1, blobs=3)


def test_f181_everything_killed_at_once_goes_on_when_it_is_started(lab: Lab) -> None:
    scene = lab.scene("f181")
    for number in range(8):
        scene.push(f"app{number}:v1", (60_000, 80_000))
    held = Held(scene.west, scene.at_destination("app3/manifests/v1"), "PUT")

    identity = scene.start()
    held.reached()
    for process in lab.processes.values():
        process.kill()
    lab.redis.kill()
    held.let_go()
    lab.redis.start()
    lab.start("api", "scheduler", "worker")

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=8, blobs=24)
