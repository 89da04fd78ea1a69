"""A region far from home: its own Redis and database, an agent that fetches copies and gives account (ADR 17).

home: api, scheduler, worker, Redis          far: Redis, a worker with its agent
source <- east     west <- (home plans)      source <- east     near -> destination
                                 api <- a TcpProxy <- the agent

The region's calendar is ten minutes behind home's all the time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.faults.far import REGION, Far, another_calendar
from tests.faults.lab import Lab, Scene
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(180)

SILENCE = "12"
SECRET = "canary-of-a-registry-that-nobody-needs-there"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("home")
    lab = Lab(folder)
    lab.variables = {"TRANSSHIP_AGENT_DEAD_AFTER_SECONDS": SILENCE}
    with lab:
        lab.start("api", "scheduler", "worker")
        yield lab


@pytest.fixture(scope="module")
def far(home: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with contextlib.ExitStack() as stack:
        found = Far(home, tmp_path_factory.mktemp("far"), stack, **another_calendar())
        found.start()
        yield found


@pytest.fixture(autouse=True)
def healed(far: Far) -> Iterator[None]:
    yield
    far.lab.heal()
    far.near.faults.clear()
    far.home.heal()
    if not far.worker.alive:
        far.start()


def written_by_home(far: Far, scene: Scene) -> list[str]:
    """What was written to the destination by its address at home."""
    start = scene.at_destination()
    writes = ("PUT", "POST", "PATCH")
    return [
        f"{one.method} {one.path}"
        for one in list(far.lab.west.log)
        if one.method in writes and one.path.startswith(start)
    ]


def test_a_far_region_carries_out_its_copies_and_home_has_the_books(far: Far) -> None:
    scene = far.scene("books")
    for number in range(6):
        scene.push(f"app:v{number}")
    scene.push("large:v1", sizes=(17_000_000, 3_000_000))
    scene.push_index("multi:v1")

    ended = scene.run()

    assert ended["state"] == "succeeded", ended
    assert written_by_home(far, scene) == []
    assert len(far.tag_puts(scene)) == 8
    verdict = scene.verdict(tags=8, blobs=20)
    assert not verdict.faults, verdict
    assert ended["bytes"]["copied"] > 20_000_000
    assert ended["requests"]["west"] > 40
    assert {one["state"] for one in far.lab.copies(scene.runs[-1])} == {"copied"}
    wait_until(lambda: far.rows("lent_copies") == 0, 10, "the region to owe nothing")
    assert far.rows("copies") == 0
    again = scene.run()
    assert again["state"] == "succeeded"
    assert len(far.tag_puts(scene)) == 8


def test_a_cut_link_loses_nothing_and_what_runs_ends(far: Far) -> None:
    scene = far.scene("cut")
    for number in range(4):
        scene.push(f"app:v{number}")
    held = threading.Event()
    gate = far.near.fault(scene.at_destination("app/blobs/uploads"), hold=held, times=2)
    identity = scene.start()
    wait_until(lambda: gate.fired, 20, "a blob under way")

    far.home.refuse()
    held.set()

    wait_until(lambda: len(far.tag_puts(scene)) == 4, 20, "all tags to move without home")
    assert far.lab.execution(identity)["state"] == "running"
    far.home.heal()
    assert far.lab.wait(identity)["state"] == "succeeded"
    assert len(far.tag_puts(scene)) == 4
    assert not scene.verdict(tags=4, blobs=10).faults


def test_no_tag_moves_when_the_lease_is_over(far: Far) -> None:
    scene = far.scene("lease")
    scene.push("app:v1")
    held = threading.Event()
    gate = far.near.fault(scene.at_destination("app/blobs/uploads"), hold=held)
    identity = scene.start()
    wait_until(lambda: gate.fired, 20, "a blob under way")
    (before,) = far.lab.copies(identity)
    assert before["state"] == "running"

    far.home.refuse()

    wait_until(
        lambda: far.lab.copies(identity)[0]["state"] == "pending", 30, "home to take it back"
    )
    wait_until(lambda: far.slots() == 0, 5, "the agent to count as dead")
    held.set()
    wait_until(lambda: far.rows("copies WHERE state = 'pending'") == 1, 20, "it to let go of it")
    assert far.tag_puts(scene) == []
    far.home.heal()
    assert far.lab.wait(identity)["state"] == "succeeded"
    assert not scene.verdict(tags=1, blobs=3).faults


def test_a_killed_worker_goes_on_with_what_its_region_has(far: Far) -> None:
    scene = far.scene("killed")
    for number in range(5):
        scene.push(f"app:v{number}")
    held = threading.Event()
    gate = far.near.fault(scene.at_destination("app/blobs/uploads"), hold=held, times=3)
    identity = scene.start()
    wait_until(lambda: gate.fired, 20, "a blob under way")

    far.worker.kill()
    held.set()
    far.near.faults.clear()
    far.worker.start()

    assert far.lab.wait(identity, 60)["state"] == "succeeded"
    assert not scene.verdict(tags=5, blobs=11, uploads=True).faults


def test_a_paused_rule_comes_back_from_the_region(far: Far) -> None:
    scene = far.scene("paused")
    scene.push("app:v1")
    held = threading.Event()
    gate = far.near.fault(scene.at_destination("app/blobs/uploads"), hold=held)
    identity = scene.start()
    wait_until(lambda: gate.fired, 20, "a blob under way")

    far.lab.ask("POST", "/rules/paused/pause")

    wait_until(lambda: far.lab.copies(identity)[0]["state"] == "pending", 20, "it to come back")
    held.set()
    assert far.tag_puts(scene) == []
    far.lab.ask("POST", "/rules/paused/resume")
    assert far.lab.wait(identity)["state"] == "succeeded"


def test_home_takes_over_for_nobody_while_the_agent_lives(far: Far) -> None:
    def shown() -> bool:
        """Whether one is alone there: who was killed before counts until it has been silent for long enough."""
        workers = far.lab.ask("GET", f"/regions/{REGION}")["workers"]
        return bool(workers == {"processes": 1, "slots": 8})

    wait_until(shown, 30, "the agent alone")


def test_doctor_looks_from_the_far_region(far: Far) -> None:
    far.scene("doctor")
    asked = far.lab.ask("POST", "/registries/west/examination", {"from": REGION})
    path = f"/registries/west/examinations/{asked['id']}"

    wait_until(lambda: far.lab.ask("GET", path)["state"] == "ended", 20, "the answer")

    assert any(one.path.startswith("/v2/transship-doctor") for one in list(far.near.log))
    assert len(far.lab.ask("GET", path)["findings"]) > 5


def asked_by(far: Far, token: str, path: str, body: Any = None) -> int:
    base = str(far.lab.client.base_url)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, headers=headers, trust_env=False) as client:
        answer = client.get(path) if body is None else client.post(path, json=body)
    return answer.status_code


def test_an_agents_token_opens_its_region_and_nothing_else(far: Far) -> None:
    wish = {"agent": "x", "host": "h", "slots": 0, "room": 0, "held": []}
    far.lab.ask("POST", "/tokens", {"name": "other", "role": "agent", "region": "other"})

    assert asked_by(far, far.token, "/regions/elsewhere/lease", wish) == 403
    for path in ("/rules", "/registries", "/executions", "/secrets", "/regions", "/tokens"):
        assert asked_by(far, far.token, path) == 403, path
    assert asked_by(far, far.lab.token, f"/regions/{REGION}/lease", wish) == 403


def test_only_credentials_that_its_copies_need_come_to_a_region(far: Far) -> None:
    far.lab.ask(
        "PUT",
        "/registries/elsewhere",
        {
            "url": "https://elsewhere.example",
            "credentials": {"username": "u", "password": SECRET},
        },
    )
    scene = far.scene("needed")
    scene.push("app:v1")
    assert scene.run()["state"] == "succeeded"

    for path in sorted((far.folder / "agent").iterdir()):
        assert SECRET.encode() not in path.read_bytes()
        assert b"elsewhere.example" not in path.read_bytes(), path
        assert path.stat().st_mode & 0o077 == 0 or path.suffix != ".key"
