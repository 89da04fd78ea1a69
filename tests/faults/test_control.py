"""Requests, messages and destinations that come twice, at once, or not: rows F010, F021, F037, F044, F122, F124."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.samples.registry import SampleRegistry
from tests.faults.lab import PREFIX, Lab, Scene
from tests.faults.test_processes import stand_still
from tests.oracle.closure import check
from tests.support.processes import free_port, wait_until
from tests.support.servers import RealRegistry

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    """Every process runs again after a test."""
    yield
    lab.heal()
    for process in lab.processes.values():
        process.send_signal(signal.SIGCONT)


def whole(scene: Scene, tags: int, blobs: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=blobs, uploads=True)
    assert verdict.faults == [], str(verdict)


def test_f010_a_hundred_triggers_at_once_are_one_execution(lab: Lab) -> None:
    scene = lab.scene("f010")
    scene.push("app:v1")
    stand_still(lab, "worker")  # so that the execution is open meanwhile

    def trigger(_: int) -> str:
        identity: str = lab.client.post(f"/rules/{scene.name}/executions").json()["id"]
        return identity

    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(trigger, range(100)))
    os.kill(lab.processes["worker"].pid, signal.SIGCONT)

    assert len(made) == 1
    scene.runs += made
    assert lab.wait(scene.runs[0])["state"] == "succeeded"
    assert len(scene.tag_puts("app:v1")) == 1
    whole(scene, tags=1, blobs=3)


def test_f021_two_schedulers_start_a_due_rule_once(lab: Lab) -> None:
    lab.start("scheduler-2")
    try:
        scene = lab.scene("f021", trigger={"every": "1h"})
        scene.push("app:v1")

        def made() -> list[str]:
            items = lab.ask("GET", "/executions?limit=200")["items"]
            return [one["id"] for one in items if one["rule"] == scene.name]

        wait_until(made, 20, "the rule's execution")
        scene.runs += made()
        lab.wait(scene.runs[0])
        lab.lapse()
        assert len(made()) == 1
    finally:
        lab.processes.pop("scheduler-2").stop(30)
    scene.run()
    whole(scene, tags=1, blobs=3)


def test_f037_f044_messages_that_come_four_times_are_carried_out_once(lab: Lab) -> None:
    scene = lab.scene("f044")
    for number in range(6):
        scene.push(f"app{number}:v1")
    worker = lab.processes["worker"]
    stand_still(lab, "worker")
    identity = scene.start()
    doubled = 0
    with lab.redis.client() as client:

        def standing() -> list[bytes]:
            keys = [key for key in client.scan_iter() if client.type(key) == b"list"]
            return [key for key in keys if client.llen(key)]

        wait_until(standing, 20, "a message on a queue")
        for queue in standing():
            for message in client.lrange(queue, 0, -1):
                for _ in range(3):
                    client.lpush(queue, message)
                    doubled += 1
    os.kill(worker.pid, signal.SIGCONT)

    assert doubled >= 3
    assert lab.wait(identity)["state"] == "succeeded"
    for number in range(6):
        assert len(scene.tag_puts(f"app{number}:v1")) == 1
    whole(scene, tags=6, blobs=18)


@pytest.mark.nightly
def test_f124_one_of_three_destinations_is_down_and_catches_up(lab: Lab) -> None:
    port = free_port()
    with SampleRegistry() as second:
        lab.ask("PUT", "/registries/second", {"url": second.url})
        lab.ask("PUT", "/registries/down", {"url": f"http://127.0.0.1:{port}"})
        names = ("west", "second", "down")
        scene = lab.scene(
            "f124",
            destinations=[
                {"registry": name, "repository": PREFIX + "{repository}"} for name in names
            ],
        )
        scene.push("app:v1")
        first = scene.run(60)

        assert first["state"] == "partial"
        states = {c["destination"].split("/")[0]: c for c in lab.copies(first["id"])}
        assert {name: states[name]["state"] for name in names} == {
            "west": "copied",
            "second": "copied",
            "down": "failed",
        }
        assert states["down"]["class"] == "network"
        with SampleRegistry(listen=("127.0.0.1", port)) as up:
            assert scene.run(60)["state"] == "succeeded"
            places = dict(scene.expected)
            for registry in (second, up):
                assert check(lab.source.url, registry.url, places).faults == []
        lab.ask("DELETE", "/rules/f124")
    whole(scene, tags=1, blobs=3)


@pytest.fixture
def small_registry() -> Iterator[RealRegistry]:
    """A registry whose file system has room for 6 MiB."""
    registry = RealRegistry()
    root = str(registry.storage_path)
    registry.storage_path.mkdir()
    try:
        if subprocess.run([*MOUNT, "size=6m", "tmpfs", root], check=False).returncode:
            pytest.skip("only root may mount a file system")
        try:
            yield registry.start()
        finally:
            registry.stop()
            subprocess.run(["umount", "-l", root], check=True)
    finally:
        registry.close()


MOUNT = ["mount", "-t", "tmpfs", "-o"]


@pytest.mark.nightly
def test_f122_a_destination_without_room_fails_clearly_and_heals_when_there_is_some(
    lab: Lab, small_registry: RealRegistry
) -> None:
    lab.ask("PUT", "/registries/full", {"url": small_registry.url})
    scene = lab.scene("f122", destinations=[{"registry": "full"}])
    scene.push("large:v1", (9_000_000,))
    scene.push("small:v1", (2_000,))

    assert scene.run(90)["state"] in ("partial", "failed")  # the small one meets it full, or not
    copies = {c["destination"].rpartition("/")[2]: c for c in lab.copies(scene.runs[-1])}
    assert (copies["large:v1"]["state"], copies["large:v1"]["class"]) == ("failed", "server")
    assert copies["large:v1"]["reason"]
    root = str(small_registry.storage_path)
    subprocess.run(["mount", "-o", "remount,size=60m", root], check=True)

    assert scene.run(60)["state"] == "succeeded"
    report = check(lab.source.url, small_registry.url, {p: p for p in scene.expected})
    assert report.faults == [], str(report)
    assert report.bytes > 9_000_000
