"""Token services that fail, lie and end tokens in the middle of copies: rows F113, F130-F133.

A gate before a real registry wants tokens. When a copy reads its first layer, all tokens end and the token
service is struck for that copy's repository alone, so the neighbour's are good.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request, WireFault
from tests.faults.lab import PREFIX, Lab, Scene
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import free_port, wait_until
from tests.support.token_gate import ACCOUNT, TokenGate, saying, scope_of

pytestmark = pytest.mark.timeout(180)

MINUTES = 600.0


@dataclass
class Guarded:
    """A scene, one of whose registries wants tokens."""

    scene: Scene
    proxy: FaultProxy
    gate: TokenGate
    side: str

    def repository(self, name: str) -> str:
        """The name of a repository of the scene, as the guarded registry knows it."""
        return f"{'' if self.side == 'east' else PREFIX}{self.scene.name}/{name}"

    def when_the_copy_is_under_way(self, action: Callable[[], object]) -> FaultRule:
        """Do it before the answer to the first request for a layer, or for an upload, of "app"."""
        method, rest = ("GET", "blobs/") if self.side == "east" else ("POST", "blobs/uploads/")

        def act(_request: Request) -> None:
            action()

        path = f"/v2/{self.repository('app')}/{rest}"
        return self.proxy.fault(path, method=method, before=act)

    def token_requests(self, name: str, since: float = 0.0) -> int:
        """How often the service was asked for a repository's token, whatever it answered."""
        rule = FaultRule(scope_of(self.repository(name)))
        return sum(
            1
            for one in list(self.proxy.log)
            if one.started >= since and rule.path and _matches(rule, one.path)
        )


def _matches(rule: FaultRule, target: str) -> bool:
    return rule.matches(Request("GET", target, target, "", {}, None, 0))  # type: ignore[arg-type]


Open = Callable[..., Guarded]


@pytest.fixture
def guarded(lab: Lab) -> Iterator[Open]:
    """Makes scenes with a guarded source ("east") or destination ("west")."""
    with contextlib.ExitStack() as stack:

        def make(name: str, side: str = "east", *, host: str = "", **options: Any) -> Guarded:
            behind = lab.source if side == "east" else lab.destination
            proxy = stack.enter_context(FaultProxy(behind.url))
            url = f"http://{host or '127.0.0.1'}:{proxy.port}"
            gate = TokenGate(proxy, url=url, **options)
            body = {"url": url, "credentials": gate.credentials}
            registry = f"{side}-{name}"
            lab.ask("PUT", f"/registries/{registry}", body)
            if side == "east":
                scene = lab.scene(name, source=registry)
                scene.east = proxy
            else:
                place = {"registry": registry, "repository": PREFIX + "{repository}"}
                scene = lab.scene(name, destinations=[place])
                scene.west = proxy
            return Guarded(scene, proxy, gate, side)

        yield make


# ---- the service fails ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What the token service does from the strike on, how the copy ends, and how often it may be asked."""

    row: str
    name: str
    fault: dict[str, Any] = field(default_factory=dict)
    ends: str = "copied"
    failure: str = ""
    asks: int = 4
    side: str = "east"
    nightly: bool = False

    @property
    def id(self) -> str:
        return f"{self.row}-{self.name}"


HUGE = b'{"token":"' + b"x" * 10_000_000 + b'"}'
BROKEN = b'{"token": "abc'
ROWS = [
    Row("F130", "down-once", {"wire": WireFault(reset_at=0)}),
    Row("F130", "down", {"wire": WireFault(reset_at=0), "times": FOREVER}, "failed", "network", 80, nightly=True),
    Row("F130", "slow", {"wire": WireFault(delay_seconds=1.5)}),
    Row("F130", "slow-30-seconds", {"wire": WireFault(delay_seconds=30)}, nightly=True),
    Row("F130", "429-with-seconds", {"status": 429, "headers": {"Retry-After": "1"}}),
    Row("F130", "500-once", {"status": 500}),
    Row("F130", "500", {"status": 500, "times": FOREVER}, "failed", "server", 80, nightly=True),
    Row("F130", "bad-json-once", {"status": 200, "body": BROKEN}),
    Row("F130", "bad-json", {"status": 200, "body": BROKEN, "times": FOREVER}, "failed", "server", 24, nightly=True),
    Row("F130", "no-token-twice", {"status": 200, "body": b"{}", "times": 2}),
    Row("F130", "no-token", {"status": 200, "body": b"{}", "times": FOREVER}, "failed", "server", 24, nightly=True),
    Row("F130", "a-list", {"status": 200, "body": b"[]"}),
    Row("F130", "10-mb-twice", {"status": 200, "body": HUGE, "times": 2}),
    Row("F130", "10-mb", {"status": 200, "body": HUGE, "times": FOREVER}, "failed", "server", 24, nightly=True),
    Row("F130", "no-expiry", {"after": saying(expires_in=...), "times": FOREVER}),
    Row("F130", "expiry-0", {"after": saying(expires_in=0), "times": FOREVER}),
    Row("F130", "expiry-negative", {"after": saying(expires_in=-1), "times": FOREVER}),
    Row("F130", "expiry-text", {"after": saying(expires_in="soon"), "times": FOREVER}),
    Row("F130", "404-twice", {"status": 404, "times": 2}),
    Row("F130", "401", {"status": 401, "times": FOREVER}, "failed", "auth", 8),
    Row("F130", "403", {"status": 403, "times": FOREVER}, "failed", "denied", 8),
    Row("F130", "500-once-for-an-upload", {"status": 500}, side="west"),
    Row("F130", "429-for-an-upload", {"status": 429, "headers": {"Retry-After": "1"}}, side="west"),
    Row("F133", "clock-far-behind", {"after": saying(issued_at="2001-01-01T00:00:00Z"), "times": FOREVER}),
    Row("F133", "clock-far-ahead", {"after": saying(issued_at="2099-01-01T00:00:00Z"), "times": FOREVER}),
]  # fmt: skip

CASES = [
    pytest.param(row, id=row.id, marks=[pytest.mark.nightly] if row.nightly else []) for row in ROWS
]


@pytest.mark.parametrize("row", CASES)
def test_a_token_service_strikes_one_copy(guarded: Open, row: Row) -> None:
    one = guarded(row.id.lower(), row.side)
    scene = one.scene
    scene.push("app:v1")
    scene.push("neighbour:v1")
    rule = FaultRule(scope_of(one.repository("app")), **row.fault)

    def strike() -> None:
        one.gate.tokens.revoke_all()
        one.proxy.faults.add(rule)

    struck = one.when_the_copy_is_under_way(strike)
    try:
        scene.run(120)
    finally:
        scene.heal()

    assert struck.fired, "no layer was asked for"
    assert rule.fired, "no token was asked for anew"
    assert one.token_requests("app", struck.fired_at) <= row.asks
    copy = scene.copy("app:v1")
    assert (copy["state"], copy["class"]) == (row.ends, row.failure), copy
    assert one.gate.password not in copy["reason"]
    assert scene.copy("neighbour:v1")["state"] == "copied"
    if row.ends == "copied":
        assert scene.went_on_after(rule, "app"), "it struck when the copy was through"
    else:
        assert copy["reason"]
        assert scene.retry()["state"] == "succeeded"
    whole(scene)


def whole(scene: Scene, tags: int = 2) -> None:
    verdict = scene.verdict(tags=tags, blobs=3 * tags)
    assert verdict.faults == [], str(verdict)


def test_f130_a_huge_answer_is_not_read_to_its_end(guarded: Open) -> None:
    one = guarded("f130-huge")
    one.scene.push("app:v1")
    rule = one.proxy.fault(
        scope_of(one.repository("app")), status=200, body=b" " * 64_000_000, times=FOREVER
    )

    ended = one.scene.run(60)

    assert ended["state"] == "failed"
    assert rule.fired
    assert "64 KiB" in _reasons(one, ended)
    answers = [line.bytes for line in list(one.proxy.log) if line.path.startswith("/token")]
    assert answers
    assert max(answers) < 32_000_000  # what buffers of sockets hold, and no more


def _reasons(one: Guarded, ended: dict[str, Any]) -> str:
    copies = one.scene.lab.copies(ended["id"])
    return " ".join([ended.get("reason") or "", *(copy["reason"] for copy in copies)])


@pytest.mark.parametrize("behind", [-MINUTES, MINUTES], ids=["ahead", "behind"])
def test_f133_a_service_whose_clock_is_ten_minutes_off_is_asked_no_more_often(
    guarded: Open, behind: float
) -> None:
    one = guarded(f"f133-{'ahead' if behind < 0 else 'behind'}")
    for number in range(4):
        one.scene.push(f"app:v{number}")
    issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - behind))
    rule = one.proxy.fault("/token", after=saying(issued_at=issued, expires_in=300), times=FOREVER)

    assert one.scene.run()["state"] == "succeeded"

    assert rule.fired
    assert one.token_requests("app") <= 2
    one.scene.heal()
    whole(one.scene, tags=4)


def test_f130_a_token_service_that_is_not_found_makes_no_repository_look_empty(
    guarded: Open,
) -> None:
    one = guarded("f130-empty")
    one.scene.push("app:v1")
    one.scene.push("neighbour:v1")
    rule = one.proxy.fault(scope_of(one.repository("app")), status=404, times=FOREVER)

    ended = one.scene.run(90)

    assert rule.fired
    assert ended["state"] == "partial", ended
    assert one.scene.copy("neighbour:v1")["state"] == "copied"
    one.scene.heal()
    assert one.scene.run()["state"] == "succeeded"
    whole(one.scene)


# ---- what it gives does not suffice --------------------------------------------------------------


@pytest.mark.parametrize(("side", "action"), [("east", "pull"), ("west", "push")])
def test_f131_a_token_that_lacks_its_scope_ends_in_one_refresh(
    guarded: Open, side: str, action: str
) -> None:
    one = guarded(f"f131-{action}", side)
    scene, tokens = one.scene, one.gate.tokens
    scene.push("app:v1")
    scene.push("neighbour:v1")
    lacking = (ACCOUNT, f"repository:{one.repository('app')}", action)

    def strike() -> None:
        tokens.denied.add(lacking)
        tokens.revoke_all()

    struck = one.when_the_copy_is_under_way(strike)

    assert scene.run()["state"] == "partial"

    assert struck.fired
    copy = scene.copy("app:v1")
    assert (copy["state"], copy["class"]) == ("failed", "auth"), copy
    assert one.token_requests("app", struck.fired_at) <= 8
    assert scene.copy("neighbour:v1")["state"] == "copied"
    tokens.denied.clear()
    assert scene.retry()["state"] == "succeeded"
    whole(scene)


# ---- it is somewhere else ------------------------------------------------------------------------

REALMS = {
    "another-host": ("http://127.0.0.1:{trap}/token", "policy"),
    "metadata": ("http://169.254.169.254/latest/token", "policy"),
    "userinfo": ("http://{own}@127.0.0.1:{trap}/token", "auth"),
    "file": ("file:///etc/passwd", "auth"),
}


@pytest.mark.parametrize("kind", REALMS)
def test_f132_a_realm_elsewhere_is_given_nothing(lab: Lab, guarded: Open, kind: str) -> None:
    realm, failure = REALMS[kind]
    one = guarded(f"f132-{kind}", host="localhost")
    scene = one.scene
    scene.push("app:v1")
    scene.push("neighbour:v1")
    with FaultProxy(lab.source.url) as trap:
        elsewhere = realm.format(trap=trap.port, own="localhost")

        def strike() -> None:
            one.gate.realms[one.repository("app")] = elsewhere
            one.gate.tokens.revoke_all()

        struck = one.when_the_copy_is_under_way(strike)
        assert scene.run()["state"] == "partial"
        assert struck.fired
        assert trap.log == []
    copy = scene.copy("app:v1")
    assert (copy["state"], copy["class"]) == ("failed", failure), copy
    assert one.gate.password not in copy["reason"]
    assert scene.copy("neighbour:v1")["state"] == "copied"
    one.gate.realms.clear()
    assert scene.retry()["state"] == "succeeded"
    whole(scene)


@pytest.mark.parametrize("times", [2, pytest.param(FOREVER, marks=pytest.mark.nightly)])
def test_f132_a_token_service_that_redirects_is_not_followed(
    lab: Lab, guarded: Open, times: int
) -> None:
    one = guarded(f"f132-redirect-{times}")
    scene = one.scene
    scene.push("app:v1")
    scene.push("neighbour:v1")
    with FaultProxy(lab.source.url) as trap:
        rule = FaultRule(
            scope_of(one.repository("app")),
            status=307,
            headers={"Location": f"{trap.url}/token"},
            times=times,
        )

        def strike() -> None:
            one.proxy.faults.add(rule)
            one.gate.tokens.revoke_all()

        struck = one.when_the_copy_is_under_way(strike)
        assert scene.run(60)["state"] == ("partial" if times == FOREVER else "succeeded")
        assert struck.fired
        assert rule.fired >= 2
        assert trap.log == []
    if times == FOREVER:
        copy = scene.copy("app:v1")
        assert (copy["state"], copy["class"]) == ("failed", "server"), copy
        scene.heal()
        assert scene.retry()["state"] == "succeeded"
    whole(scene)


def test_f132_a_listed_host_is_asked(lab: Lab, guarded: Open) -> None:
    """What is refused above is refused for not being listed, and for nothing else."""
    one = guarded("f132-listed", host="localhost")
    one.scene.push("app:v1")
    with FaultProxy(lab.source.url) as elsewhere:
        elsewhere.gate = one.gate
        one.gate.realm = f"{elsewhere.url}/token"
        body = {
            "url": f"http://localhost:{one.proxy.port}",
            "credentials": one.gate.credentials,
            "trusted_hosts": [f"127.0.0.1:{elsewhere.port}"],
        }
        lab.ask("PUT", f"/registries/east-{one.scene.name}", body)
        assert one.scene.run()["state"] == "succeeded"
        assert any(line.path.startswith("/token") for line in elsewhere.log)
    whole(one.scene, tags=1)


# ---- tokens that end all the time ----------------------------------------------------------------


def test_f113_a_token_that_ends_under_eight_copies_is_renewed_once(guarded: Open) -> None:
    one = guarded("f113-once")
    scene, tokens = one.scene, one.gate.tokens
    for number in range(8):
        scene.push(f"app:v{number}", (30_000,))
    gate = threading.Event()
    held = one.proxy.fault(scene.at_source("app/blobs/"), method="GET", hold=gate, times=8)

    identity = scene.start()
    wait_until(lambda: held.fired == 8, 20, "eight requests for layers")
    before = len(one.gate.asked(one.repository("app")))
    tokens.revoke_all()
    gate.set()

    assert scene.lab.wait(identity)["state"] == "succeeded"
    refused = [
        line for line in list(one.proxy.log) if line.status == 401 and "/blobs/" in line.path
    ]
    assert len(refused) >= 8
    assert len(one.gate.asked(one.repository("app"))) - before == 1
    verdict = scene.verdict(tags=8, blobs=16)
    assert verdict.faults == [], str(verdict)


@pytest.mark.parametrize("side", ["east", "west"])
def test_f113_tokens_that_live_a_second_are_renewed_once_a_second(guarded: Open, side: str) -> None:
    one = guarded(f"f113-second-{side}", side, ttl_seconds=1)
    scene = one.scene
    for number in range(20):
        scene.push(f"app:v{number}", (300_000, 20_000))
    slow = one.proxy.fault("/blobs/", wire=WireFault(delay_seconds=0.25), times=FOREVER)

    began = time.monotonic()
    assert scene.run(60)["state"] == "succeeded"
    seconds = time.monotonic() - began

    assert slow.fired
    refused = [line for line in list(one.proxy.log) if line.status == 401]
    assert len(refused) >= 2, "no token ended on the way"
    assert one.token_requests("app") <= seconds + 3
    scene.heal()
    verdict = scene.verdict(tags=20, blobs=50)
    assert verdict.faults == [], str(verdict)


def test_f130_a_token_service_that_is_not_there_fails_clearly(guarded: Open) -> None:
    one = guarded("f130-nobody")
    one.scene.push("app:v1")
    realm, one.gate.realm = one.gate.realm, f"http://127.0.0.1:{free_port()}/token"

    ended = one.scene.run(60)

    assert ended["state"] == "failed"
    assert "cannot be connected to" in _reasons(one, ended)
    one.gate.realm = realm
    assert one.scene.run()["state"] == "succeeded"
    whole(one.scene, tags=1)
