"""A registry that is away, and credentials that change in mid run: nobody fails for it (P13; F111, F121, F182)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from api.samples.auth import BasicAuth
from api.samples.faults import FOREVER
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from service.registry.breaker import FAILURES
from tests.faults.lab import PREFIX, Lab, Scene
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

IMAGES = 40
SLOTS = 8  # of a lab's worker
STORM_SECONDS = 3.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that waits longer for registries than other tests have time for."""
    with Lab(tmp_path_factory.mktemp("outages")) as lab:
        lab.variables = {
            "TRANSSHIP_OUTAGE_PATIENCE_SECONDS": "60",
            "TRANSSHIP_ROTATION_PATIENCE_SECONDS": "60",
        }
        lab.start("api", "scheduler", "worker")
        yield lab


def guard(proxy: FaultProxy, users: dict[str, str]) -> None:
    """Have a proxy ask for one of these users' passwords, which may change."""
    auth = BasicAuth(users)

    def gate(request: Request) -> Response | None:
        try:
            auth.check(request, "", "")
        except ApiError as error:
            return Response(error.status, error.headers, error.body)
        return None

    proxy.gate = gate


def whole(scene: Scene, tags: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=tags, uploads=True)
    assert verdict.faults == [], str(verdict)


def test_f111_a_registry_that_fails_for_a_while_is_asked_little_and_fails_no_copy(
    lab: Lab,
) -> None:
    scene = lab.scene("f111")
    for number in range(IMAGES):
        scene.push(f"app{number}:v1")
    storm = scene.west.fault(scene.at_destination(), status=500, nth=20, times=FOREVER)
    identity = scene.start()
    wait_until(lambda: storm.fired >= FAILURES, 20, "the storm")
    struck = lab.execution(identity)
    assert struck["copies"]["copied"] < IMAGES, "the storm came too late"

    wait_until(lambda: time.monotonic() - storm.fired_at > STORM_SECONDS, 20, "the storm's end")
    asked = storm.fired
    scene.heal()
    # What was under way when it opened, and probes; each copy alone would be tried 20 times.
    assert asked < 4 * SLOTS + 20, f"{asked} requests while it failed"

    ended = lab.wait(identity, 60)
    assert ended["state"] == "succeeded", ended
    whole(scene, IMAGES)


def test_p13_a_dead_registry_does_not_hold_the_rules_of_others(lab: Lab) -> None:
    stuck, other = lab.scene("p13-stuck"), lab.scene("p13-other")
    for number in range(IMAGES):
        stuck.push(f"app{number}:v1")
        other.push(f"app{number}:v1")
    dead = FaultProxy(lab.destination.url)
    with dead:
        lab.ask("PUT", "/registries/dead", {"url": dead.url})
    body = {
        "source": "east",
        "select": [{"repositories": ["p13-stuck/**"]}],
        "destinations": [{"registry": "dead", "repository": PREFIX + "{repository}"}],
    }
    lab.ask("PUT", "/rules/p13-stuck", body)
    waiting = stuck.start()
    ended = other.run()
    assert ended["state"] == "succeeded"
    open_one = lab.execution(waiting)
    assert open_one["state"] in ("pending", "running"), open_one
    assert open_one["copies"]["failed"] == 0, open_one
    lab.ask("POST", f"/executions/{waiting}/stop")
    assert lab.wait(waiting)["state"] == "stopped"
    whole(other, IMAGES)


@pytest.mark.parametrize("side", ["east", "west"])
def test_f182_credentials_that_change_in_mid_run_cost_no_copy_and_nobodys_hand(
    lab: Lab, side: str
) -> None:
    scene = lab.scene(f"f182-{side}")
    for number in range(IMAGES):
        scene.push(f"app{number}:v1", (20_000, 20_000))
    proxy: FaultProxy = getattr(lab, side)
    users = {"robot": "old"}
    guard(proxy, users)
    try:
        register(lab, proxy, side, "old")
        path = scene.at_source("app") if side == "east" else scene.at_destination("app")

        refusals: list[int] = []  # by then: those after it may be over before anybody looks

        def rotate(_: Request) -> None:
            refusals.append(len(refused(proxy)))
            users["robot"] = "new"

        at_work = proxy.fault(rf"{path}.*/blobs/", before=rotate, nth=2 * IMAGES)
        identity = scene.start()
        wait_until(lambda: at_work.fired, 20, "the rotation at the registry")
        wait_until(lambda: len(refused(proxy)) > refusals[0], 20, "a request with the old password")
        during = lab.execution(identity)
        assert during["copies"]["copied"] < IMAGES, "it was changed when all was done"
        assert during["copies"]["failed"] == 0, during
        register(lab, proxy, side, "new")

        ended = lab.wait(identity, 60)
        assert ended["state"] == "succeeded", ended
        assert len(refused(proxy)) < 2 * SLOTS + 4, "asked on with a password that holds no more"
        whole(scene, IMAGES)
    finally:
        proxy.gate = None
        lab.ask("PUT", f"/registries/{side}", {"url": proxy.url})


def test_a_password_that_never_was_right_fails_at_once(lab: Lab) -> None:
    scene = lab.scene("never-right")
    scene.push("app:v1")
    with FaultProxy(lab.destination.url) as closed:
        guard(closed, {"robot": "right"})
        register(lab, closed, "closed", "wrong")
        body = {
            "source": "east",
            "select": [{"repositories": ["never-right/**"]}],
            "destinations": [{"registry": "closed", "repository": PREFIX + "{repository}"}],
        }
        lab.ask("PUT", "/rules/never-right", body)
        ended = scene.run()
    assert (ended["state"], ended["class"]) == ("failed", "auth"), ended


def register(lab: Lab, proxy: FaultProxy, name: str, password: str) -> None:
    credentials = {"username": "robot", "password": password}
    lab.ask("PUT", f"/registries/{name}", {"url": proxy.url, "credentials": credentials})


def refused(proxy: FaultProxy) -> list[object]:
    """Requests with a password that were answered 401."""
    return [
        one
        for one in list(proxy.log)
        if one.status == 401 and "authorization" in {name.lower() for name in one.headers}
    ]
