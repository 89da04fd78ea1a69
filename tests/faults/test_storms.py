"""Storms of failures, bad certificates and names that are not there: rows F111, F112."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trustme

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request
from service.registry.breaker import FAILURES
from tests.faults.lab import PREFIX, Lab, Scene
from tests.oracle.closure import check
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(240)

SEED = 20261127


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that takes files of certificates."""
    with Lab(tmp_path_factory.mktemp("storms")) as lab:
        (lab.folder / "secrets").mkdir()
        lab.variables["TRANSSHIP_SECRETS_DIR"] = str(lab.folder / "secrets")
        yield lab.start("api", "scheduler", "worker")


STORM = (500, 502, 503, 504)


@dataclass(slots=True)
class Storm(FaultRule):
    """Strikes a share of the requests; each with the next of the statuses."""

    share: float = 1.0
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))

    def matches(self, request: Request) -> bool:
        """See FaultRule."""
        if not super(Storm, self).matches(request) or self.dice.random() >= self.share:
            return False
        self.status = STORM[self.fired % len(STORM)]
        return True


def weather(scene: Scene, side: str, share: float, seconds: float) -> tuple[str, Storm, int]:
    """Start the rule, let a storm begin with its first layer, and end it after some seconds.

    Returns the execution, the storm, and how many requests met it or passed between its strikes.
    """
    proxy = scene.east if side == "east" else scene.west
    place = scene.at_source() if side == "east" else scene.at_destination()
    storm = Storm(place, times=FOREVER, share=share)
    layers = "blobs/sha256:" if side == "east" else "blobs/uploads/"
    began = proxy.fault(f"{place}.*{layers}", before=lambda _: (proxy.faults.add(storm), None)[1])
    identity = scene.start()
    wait_until(lambda: began.fired and storm.fired, 20, "the storm")
    end = storm.fired_at + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 10, "the end of the storm")
    requests = sum(1 for line in list(proxy.log) if line.started >= storm.fired_at)
    scene.heal()
    return identity, storm, requests


@pytest.mark.parametrize("side", ["east", "west"])
@pytest.mark.parametrize("share", [1.0, 0.3], ids=["all", "three-in-ten"])
def test_f111_a_storm_ends_in_success_within_a_budget_of_requests(
    lab: Lab, side: str, share: float
) -> None:
    print("seed", SEED)
    scene = lab.scene(f"f111-{side}-{int(share * 100)}")
    for number in range(6):
        scene.push(f"app{number}:v1")
    identity, storm, requests = weather(scene, side, share, 2.5)

    ended = lab.wait(identity, 60)

    assert ended["state"] in ("succeeded", "partial", "failed")
    assert storm.fired >= 3
    assert requests <= 6 * 60, "a hot loop: so many requests in two seconds and a half"
    assert all(copy["reason"] for copy in lab.copies(identity) if copy["state"] == "failed")
    if ended["state"] != "succeeded":
        assert scene.retry(60)["state"] == "succeeded"
    verdict = scene.verdict(tags=6, blobs=18, uploads=True)
    assert verdict.faults == [], str(verdict)


@pytest.mark.nightly
@pytest.mark.parametrize("side", ["east", "west"])
@pytest.mark.parametrize("share", [1.0, 0.3], ids=["all", "three-in-ten"])
def test_f111_a_minute_of_storm_is_outlasted(lab: Lab, side: str, share: float) -> None:
    print("seed", SEED)
    scene = lab.scene(f"f111-long-{side}-{int(share * 100)}")
    for number in range(30):
        scene.push(f"app{number}:v1")
    identity, storm, requests = weather(scene, side, share, 60)

    ended = lab.wait(identity, 120)

    assert storm.fired >= FAILURES
    assert requests <= (30 * 8 if share == 1 else 30 * 60)
    if ended["state"] != "succeeded":
        assert scene.retry(120)["state"] == "succeeded"
    verdict = scene.verdict(tags=30, blobs=90, uploads=True)
    assert verdict.faults == [], str(verdict)


# ---- F112: certificates and names ----------------------------------------------------------------


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


def expired(authority: trustme.CA) -> trustme.LeafCert:
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    return authority.issue_cert("127.0.0.1", not_before=now - 9 * day, not_after=now - day)


BAD: dict[str, Callable[[trustme.CA], trustme.LeafCert]] = {
    "expired": expired,
    "wrong-name": lambda authority: authority.issue_cert("registry.test"),
    "self-signed": lambda _: trustme.CA().issue_cert("127.0.0.1"),
}


@dataclass
class Second:
    """A second destination beside the good one."""

    scene: Scene
    proxy: FaultProxy
    name: str

    def copy_of(self, registry: str) -> dict[str, str]:
        copies = self.scene.lab.copies(self.scene.runs[-1])
        found: dict[str, str] = next(
            copy for copy in copies if copy["destination"].startswith(f"{registry}/")
        )
        return found


@contextlib.contextmanager
def second(lab: Lab, name: str, url: str, proxy: FaultProxy, ca_file: str = "") -> Iterator[Second]:
    body = {"url": url, **({"tls": {"ca_file": ca_file}} if ca_file else {})}
    lab.ask("PUT", f"/registries/second-{name}", body)
    places = [
        {"registry": registry, "repository": PREFIX + "{repository}"}
        for registry in ("west", f"second-{name}")
    ]
    scene = lab.scene(name, destinations=places)
    scene.push("app:v1")
    yield Second(scene, proxy, f"second-{name}")


@pytest.mark.parametrize("kind", BAD)
def test_f112_a_certificate_that_is_none_is_told_at_once(lab: Lab, kind: str) -> None:
    authority = trustme.CA()
    ca_file = str(lab.folder / "secrets" / f"{kind}.pem")
    authority.cert_pem.write_to_path(ca_file)
    with (
        FaultProxy(lab.destination.url, tls=context(BAD[kind](authority))) as bad,
        FaultProxy(lab.destination.url, tls=context(authority.issue_cert("127.0.0.1"))) as good,
        second(lab, f"f112-{kind}", bad.url, bad, ca_file) as one,
    ):
        assert one.scene.run()["state"] == "partial"

        copy = one.copy_of(one.name)
        assert (copy["state"], copy["class"]) == ("failed", "policy"), copy
        assert "certificate" in copy["reason"]
        assert one.copy_of("west")["state"] == "copied"
        assert bad.log == [], "something was asked over a connection that is not to be trusted"
        assert 1 <= bad.connections <= 8
        asked, began = bad.connections, time.monotonic()
        lab.lapse()
        looks = 1 + int((time.monotonic() - began) / 30)  # at its health, every half a minute
        assert bad.connections <= asked + looks, "it is tried again though nothing was changed"
        lab.ask("PUT", f"/registries/{one.name}", {"url": good.url, "tls": {"ca_file": ca_file}})
        lab.lapse()  # workers look for changed addresses every two seconds
        assert one.scene.run()["state"] == "succeeded"
        assert good.log
    verdict = one.scene.verdict(tags=1, blobs=3)
    assert verdict.faults == [], str(verdict)


def test_f112_a_name_that_does_not_exist_fails_clearly(lab: Lab) -> None:
    with FaultProxy(lab.destination.url) as there:
        url = f"http://no-such-registry.invalid:{there.port}"
        with second(lab, "f112-name", url, there) as one:
            assert one.scene.run(60)["state"] == "partial"

            copy = one.copy_of(one.name)
            assert (copy["state"], copy["class"]) == ("failed", "network"), copy
            assert "no-such-registry.invalid" in copy["reason"]
            assert one.copy_of("west")["state"] == "copied"
            lab.ask("PUT", f"/registries/{one.name}", {"url": there.url})
            lab.lapse()
            assert one.scene.run()["state"] == "succeeded"
            assert there.log
            report = check(lab.source.url, there.url, one.scene.expected, extra=False)
            assert report.faults == []
    verdict = one.scene.verdict(tags=1, blobs=3)
    assert verdict.faults == [], str(verdict)
