"""A worker whose network fails: rows F140-F143. It runs in a network namespace of its own, over PostgreSQL.

Names in the namespace come from a file of its own, so a name can lead elsewhere in the middle of a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from api.samples.faults import FaultRule
from tests.faults.lab import PREFIX, Lab, Scene
from tests.support.fault_proxy import FaultProxy
from tests.support.netns import Namespace
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def far() -> Iterator[Namespace]:
    reason = Namespace.why_not()
    if reason:
        pytest.skip(f"no network namespace: {reason}")
    with Namespace() as far:
        yield far


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, far: Namespace) -> Iterator[Lab]:
    with PostgresServer() as postgres:
        made = Lab(tmp_path_factory.mktemp("lab"), postgres=postgres)
        made.address = far.host
        made.launchers["worker"] = far.launcher
        made.variables["TRANSSHIP_OUTAGE_PATIENCE_SECONDS"] = "20"  # each cut is healed within it
        with made as lab:
            yield lab.start("api", "scheduler", "worker")


@pytest.fixture(autouse=True)
def healed(lab: Lab, far: Namespace) -> Iterator[None]:
    yield
    far.heal()
    lab.heal()


class Held:
    """A request of a copy that waits at a registry while the network is struck."""

    def __init__(self, rule: FaultRule, gate: threading.Event) -> None:
        self.rule, self._gate = rule, gate

    def reached(self) -> None:
        wait_until(lambda: self.rule.fired, 20, "the request to hold")

    def let_go(self) -> None:
        self._gate.set()


def hold(proxy: FaultProxy, path: str, method: str) -> Held:
    gate = threading.Event()
    return Held(proxy.fault(path, method=method, hold=gate), gate)


def whole(scene: Scene, tags: int, blobs: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=blobs, uploads=True)
    assert verdict.faults == [], str(verdict)


@pytest.mark.parametrize(
    ("side", "answers_only"),
    [
        ("east", False),
        ("west", True),
        pytest.param("east", True, marks=pytest.mark.nightly),
        pytest.param("west", False, marks=pytest.mark.nightly),
    ],
)
def test_f140_a_worker_cut_off_from_a_registry_goes_on_when_it_is_back(
    lab: Lab, far: Namespace, side: str, answers_only: bool
) -> None:
    scene = lab.scene(f"f140-{side}-{answers_only}".lower())
    scene.push("app:v1")
    if side == "east":
        proxy, held = lab.east, hold(lab.east, scene.at_source("app/blobs/"), "GET")
    else:
        proxy, held = lab.west, hold(lab.west, scene.at_destination("app/manifests/v1"), "PUT")

    identity = scene.start()
    held.reached()
    far.cut(proxy.port, answers_only=answers_only)
    held.let_go()
    far.wait_for_a_loss()
    lab.lapse()
    assert lab.execution(identity)["state"] == "running"
    far.heal()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    assert len(scene.tag_puts("app:v1")) <= 2
    whole(scene, tags=1, blobs=3)


def test_f140_a_worker_cut_off_from_sql_is_replaced_and_does_no_harm(
    lab: Lab, far: Namespace
) -> None:
    scene = lab.scene("f140-sql")
    scene.push("app:v1")
    scene.push("neighbour:v1")
    held = hold(lab.west, scene.at_destination("app/blobs/uploads/"), "POST")

    identity = scene.start()
    held.reached()
    far.cut(lab.sql_ways["worker"].port)
    far.wait_for_a_loss()
    lab.start("worker-2")
    try:
        assert lab.wait(identity, 60)["state"] == "succeeded"
        held.let_go()
        far.heal()
        wait_until(lambda: lab.reports("worker"), 30, "the first worker's report")
        lab.lapse()
    finally:
        held.let_go()
        lab.processes.pop("worker-2").kill()

    assert len(scene.tag_puts("app:v1")) <= 2
    scene.push("app:v2")
    assert scene.run()["state"] == "succeeded", "the first worker works no more"
    whole(scene, tags=3, blobs=9)


RATE = 1_000_000 / 8


def test_f141_a_lossy_narrow_link_is_crossed(lab: Lab, far: Namespace) -> None:
    scene = lab.scene("f141")
    sizes = (40_000, 20_000)
    scene.push("app:v1", sizes)
    far.narrow("1mbit")
    for proxy in (lab.east, lab.west):
        far.lose(proxy.port, 0.1)

    began = time.monotonic()
    ended = scene.run(120)
    seconds = time.monotonic() - began

    assert far.dropped() >= 3
    assert ended["state"] == "succeeded"
    assert seconds >= sum(sizes) / RATE * 0.8, "it did not go over the narrow link"
    far.heal()
    whole(scene, tags=1, blobs=3)


@pytest.mark.nightly
def test_f142_connections_that_died_in_silence_are_given_up(lab: Lab) -> None:
    """A NAT forgets what was idle and tells nobody: the next request on it waits for its time-out."""
    with TcpProxy(lab.west.port, host=lab.address, to=lab.address) as nat:
        lab.ask("PUT", "/registries/behind-nat", {"url": f"http://{lab.address}:{nat.port}"})
        place = {"registry": "behind-nat", "repository": PREFIX + "{repository}"}
        scene = lab.scene("f142", destinations=[place])
        scene.push("app:v1")
        assert scene.run()["state"] == "succeeded"
        assert nat.forget() >= 1, "no connection was kept"
        scene.push("app:v2")

        assert scene.run(200)["state"] == "succeeded"

    whole(scene, tags=2, blobs=6)


@pytest.mark.nightly
def test_f142_connections_to_sql_that_died_in_silence_are_given_up(
    lab: Lab, far: Namespace
) -> None:
    """Nobody takes the worker's place, and the kernel would try to reach PostgreSQL for a quarter of an hour."""
    scene = lab.scene("f142-sql")
    scene.push("app:v1")
    held = hold(lab.west, scene.at_destination("app/blobs/uploads/"), "POST")

    identity = scene.start()
    held.reached()
    assert far.forget(lab.sql_ways["worker"].port) >= 1, "no connection was kept"
    far.wait_for_a_loss()
    held.let_go()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=1, blobs=3)


def test_f143_a_name_that_leads_elsewhere_is_judged_anew(lab: Lab, far: Namespace) -> None:
    port = lab.west.port
    far.name_is("registry.lab", far.host)
    lab.ask("PUT", "/registries/named", {"url": f"http://registry.lab:{port}"})
    place = {"registry": "named", "repository": PREFIX + "{repository}"}
    scene = lab.scene("f143", destinations=[place])
    scene.push("app:v1")
    assert scene.run()["state"] == "succeeded"

    with FaultProxy(lab.destination.url, listen=(far.second, port)) as second:
        held = hold(lab.west, scene.at_destination("app/blobs/uploads/"), "POST")
        scene.push("app:v2")
        identity = scene.start()
        held.reached()
        far.name_is("registry.lab", far.second)
        lab.west.cut_connections()
        held.let_go()
        assert lab.wait(identity)["state"] == "succeeded"
        assert any(line.method == "PUT" for line in second.log)

        scene.push("app:v3")
        far.watch("169.254.169.254")
        far.name_is("registry.lab", "169.254.169.254")
        second.cut_connections()
        lab.west.cut_connections()
        ended = scene.run(60)
        assert ended["state"] == "failed"
        reasons = [ended.get("reason") or "", *(one["reason"] for one in lab.copies(ended["id"]))]
        assert any("metadata" in reason for reason in reasons), reasons
        assert far.dropped() == 0, "a packet went to the metadata service"

    far.name_is("registry.lab", far.host)
    assert scene.run()["state"] == "succeeded"
    whole(scene, tags=3, blobs=9)
