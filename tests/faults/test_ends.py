"""How copies end that do not succeed, in real processes: poison (F043, P14) and stops (P15)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.samples.faults import FOREVER
from api.samples.http_messages import WireFault
from tests.faults.lab import Lab
from tests.oracle.cost import open_uploads
from tests.support.load import busy
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(240)

NEIGHBOURS = 6
STOPPED_WITHIN_SECONDS = 5.0


@contextmanager
def restarted(lab: Lab, name: str) -> Iterator[list[float]]:
    """Start a process again whenever it is found dead, as a supervisor does; yields when that was."""
    ended = threading.Event()
    deaths: list[float] = []

    def supervise() -> None:
        while not ended.wait(0.05):
            if not lab.processes[name].alive:
                deaths.append(time.monotonic())
                lab.start(name)

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield deaths
    finally:
        ended.set()
        thread.join()
        lab.processes[name].kill()  # it would end with the thread that started it
        lab.start(name)


def _uploads(lab: Lab, scene: str) -> list[str]:
    """Return the uploads of a scene that are open at the destination."""
    return [path for path in open_uploads(lab.destination.storage_path) if f"/{scene}/" in path]


def test_f043_an_image_that_kills_its_worker_each_time_is_put_aside_and_its_neighbours_finish(
    lab: Lab,
) -> None:
    scene = lab.scene("f043")
    poison = scene.push("poison:v1")["layers"][0]["digest"]
    for number in range(NEIGHBOURS):
        scene.push(f"app{number}:v1")
    killer = scene.east.fault(
        scene.at_source(f"poison/blobs/{poison}"),
        before=lambda _request: lab.processes["worker"].kill(),
        times=FOREVER,
    )

    with restarted(lab, "worker") as deaths:
        execution = lab.wait(scene.start(), 150)

    assert execution["state"] == "partial", execution
    assert killer.fired == len(deaths) == 5  # two, and three more once it runs alone
    copies = {one["source"]: one for one in lab.copies(scene.runs[-1])}
    failed = [one for one in copies.values() if one["state"] != "copied"]
    assert [one["state"] for one in failed] == ["failed"]
    assert "the worker died each time" in failed[0]["reason"]
    del scene.expected["f043/poison", "v1"]
    scene.heal()
    verdict = scene.verdict(tags=NEIGHBOURS, blobs=3 * NEIGHBOURS, uploads=True)
    assert verdict.faults == [], str(verdict)


def test_p15_a_stop_ends_writing_within_five_seconds_and_leaves_no_upload(lab: Lab) -> None:
    scene = lab.scene("p15")
    for number in range(4):
        scene.push(f"app{number}:v1", (3_000_000,))
    scene.east.fault(
        scene.at_source("app[^/]*/blobs/"), wire=WireFault(bytes_per_second=300_000), times=FOREVER
    )
    identity = scene.start()
    wait_until(lambda: _uploads(lab, "p15"), 30, "an upload under way")

    asked = time.monotonic()
    lab.ask("POST", f"/executions/{identity}/stop")
    execution = lab.wait(identity, 60)
    took = time.monotonic() - asked

    within = STOPPED_WITHIN_SECONDS * busy()
    print(f"stopped after {took:.1f} s, of {within:.1f}")
    assert execution["state"] == "stopped", execution
    assert took <= within
    written = [
        one
        for one in list(lab.west.log)
        if one.method == "PUT"
        and one.path.startswith(scene.at_destination())
        and one.started > asked + within
    ]
    assert written == []
    wait_until(lambda: not _uploads(lab, "p15"), 5, "uploads to be given up")
