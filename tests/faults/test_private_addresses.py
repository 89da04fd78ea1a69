"""A region whose workers reach registries by private addresses alone (issue 6): nothing goes to the public one.

The worker runs in a network namespace of its own, which loses and counts what goes to the public address.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.lab import Lab
from tests.support.netns import Namespace
from tests.support.servers import PostgresServer

pytestmark = pytest.mark.timeout(240)

REGION = "far"


@pytest.fixture
def far() -> Iterator[Namespace]:
    reason = Namespace.why_not()
    if reason:
        pytest.skip(f"no network namespace: {reason}")
    with Namespace() as far:
        yield far


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, far: Namespace) -> Iterator[Lab]:
    with PostgresServer() as postgres:
        made = Lab(tmp_path_factory.mktemp("lab"), postgres=postgres)
        made.address = far.host
        made.launchers["worker"] = far.launcher
        with made as lab:
            lab.start("api", "scheduler")
            yield lab.start("worker", TRANSSHIP_REGION=REGION)


def place(lab: Lab, far: Namespace, *, private: bool) -> None:
    """Declare both registries by their public address, and by the one that leads there if `private`."""
    for name, proxy in (("east", lab.east), ("west", lab.west)):
        near = {REGION: {"connect_to": f"{far.host}:{proxy.port}"}}
        body = {"url": f"http://{far.second}:{proxy.port}", "region": REGION}
        lab.ask("PUT", f"/registries/{name}", {**body, **({"endpoints": near} if private else {})})


def test_only_the_private_address_is_reached(lab: Lab, far: Namespace) -> None:
    lab.ask("PUT", f"/regions/{REGION}", {"jurisdiction": REGION})
    scene = lab.scene("private")
    scene.push("app:v1")
    place(lab, far, private=True)
    far.watch(far.second)

    assert scene.run()["state"] == "succeeded"

    assert far.dropped() == 0, "a packet went to the public address"
    verdict = scene.verdict(tags=1, blobs=3)
    assert verdict.faults == [], str(verdict)

    place(lab, far, private=False)
    lab.processes["worker"].kill()  # the next one has seen nothing else
    lab.start("worker")
    scene.push("app:v2")
    identity = scene.start()
    far.wait_for_a_loss()
    assert lab.execution(identity)["state"] in {"pending", "running"}
    place(lab, far, private=True)
    lab.processes["worker"].kill()  # it would wait for an answer from there for most of a minute
    lab.start("worker")
    assert lab.wait(identity, 60)["state"] == "succeeded"
