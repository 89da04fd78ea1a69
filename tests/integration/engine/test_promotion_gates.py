"""Every gate fails closed, in every way in which it can fail: nothing is promoted (issue 10)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from api.samples.faults import FOREVER, FaultRule
from service.errors import Conflict
from service.model.gate_answers import read_answer
from service.model.pipeline import SCAN, SIGNATURE, WEBHOOK, Gate, PromotionState, StepState
from service.store.promotion_values import Promotion
from tests.integration.engine.test_deletion_borders import declare, place
from tests.support.processes import wait_until
from tests.support.promoting import SECRET, VARIABLE, Flow, GateReceiver, reply, signed, yes
from tests.support.signing import Signer
from tests.support.world import open_world

Said = tuple[int, bytes, str]
CLEAN = {"critical": 0, "high": 0, "medium": 0, "low": 0}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """One world for all of these: each test has an image and a receiver of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, SECRET)
        with open_world(tmp_path_factory.mktemp("gates")) as world:
            yield Flow(world)


@pytest.fixture
def flow(shared: Flow, request: pytest.FixtureRequest) -> Flow:
    """The flow, and an image that no other test has."""
    shared.repository = f"t{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    shared.push(f"shop/{shared.repository}:v1")
    return shared


def through(flow: Flow, *gates: Gate, **stage: Any) -> Promotion:
    first, last = flow.pipeline.stages
    told = {"after_url": "", **stage}
    flow.save(replace(flow.pipeline, stages=(first, replace(last, gates=gates, **told))))
    return flow.ask(f"shop/{flow.repository}:v1")


def live(flow: Flow) -> str | None:
    return flow.live(f"live/{flow.repository}:v1")


def never(flow: Flow, promotion: Promotion, words: str, position: int = 0) -> None:
    """Nothing is promoted while the gate waits, nor when its time is over, and it is said why."""

    def said() -> bool:
        flow.step()
        return words in flow.gate(promotion, position).reason

    wait_until(said, 20, f"{words!r}, and not {flow.gate(promotion, position).reason!r}")
    assert flow.get(promotion).state is PromotionState.WAITING
    ended = flow.time_is_over(promotion)
    assert f"gate {position}" in ended.reason
    assert words in ended.reason
    flow.step()
    assert live(flow) is None


def say(body: Callable[[dict[str, Any]], bytes], status: int = 200, **how: Any) -> Any:
    """A receiver that says this, signed."""

    def answer(asked: dict[str, Any]) -> Said:
        said = body(asked)
        return status, said, signed(said, **how)

    return answer


def agree(asked: dict[str, Any]) -> bytes:
    return reply(asked, decision="approve")


WAYS: dict[str, tuple[Callable[[dict[str, Any]], Said], str]] = {
    "another secret": (say(agree, secret="another secret of sixteen"), "not signed with"),
    "no signature": (lambda asked: (200, agree(asked), ""), "not signed with"),
    "half a signature": (lambda asked: (200, agree(asked), "t=1,"), "not signed with"),
    "signed long ago": (say(agree, at=time.time() - 900), "signed too long ago"),
    "signed, then changed": (
        lambda asked: (
            200,
            agree(asked),
            signed(reply(asked, decision="reject")),
        ),
        "not signed with",
    ),
    "another digest": (
        say(lambda asked: agree(asked | {"digest": f"sha256:{'0' * 64}"})),
        "about another digest",
    ),
    "another promotion's answer": (
        say(lambda asked: agree(asked | {"promotion": "0" * 24})),
        "about another promotion",
    ),
    "another gate's answer": (say(lambda asked: agree(asked | {"gate": 1})), "about another gate"),
    "the gate as true": (say(lambda asked: agree(asked | {"gate": False})), "about another gate"),
    "an unknown decision": (say(lambda asked: reply(asked, decision="APPROVE")), "decides"),
    "no decision": (say(reply), "decides"),
    "no JSON": (say(lambda asked: b"approve"), "the answer is"),
    "a list": (say(lambda asked: b"[]"), "no JSON object"),
    "twice the key": (
        say(lambda asked: agree(asked)[:-1] + b', "decision": "approve"}'),
        "the answer is",
    ),
    "nothing": (say(lambda asked: b""), "the answer is"),
    "201": (say(agree, 201), "answered 201"),
    "204": (say(agree, 204), "answered 204"),
    "400": (say(agree, 400), "answered 400"),
    "500": (say(agree, 500), "answered 500"),
    "503": (say(agree, 503), "answered 503"),
    "redirect": (say(agree, 307), "redirects are not followed"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [WEBHOOK, SCAN])
def test_an_answer_that_is_none_opens_no_gate(flow: Flow, kind: str, way: str) -> None:
    answer, words = WAYS[way]
    if kind == SCAN:
        if "decision" in way:
            words = "does not count"
        agreed = answer

        def answer(asked: dict[str, Any]) -> Said:
            status, body, header = agreed(asked)
            if header and b"approve" in body and body.startswith(b"{"):
                whole = body[:-1] + b', "findings": %s}' % json.dumps(CLEAN).encode()
                if header == signed(body):
                    return status, whole, signed(whole)
                return status, whole, header
            return status, body, header

    with GateReceiver(say=answer) as receiver:
        promotion = through(flow, Gate(kind, url=receiver.url))
        never(flow, promotion, words)


@pytest.mark.parametrize("kind", [WEBHOOK, SCAN])
@pytest.mark.parametrize(
    ("mode", "words"), [("hang", "no "), ("drip", "did not finish"), ("gone", "refused")]
)
def test_a_receiver_that_says_nothing_opens_no_gate(
    flow: Flow, kind: str, mode: str, words: str
) -> None:
    with GateReceiver(mode=mode) as receiver:
        url = receiver.url if mode != "gone" else "http://127.0.0.1:1/"
        never(flow, through(flow, Gate(kind, url=url)), words)


def test_a_webhook_that_agrees_opens_its_gate_and_is_asked_signed(flow: Flow) -> None:
    with GateReceiver() as receiver:
        promotion = through(flow, Gate(WEBHOOK, url=receiver.url))
        flow.until(promotion, PromotionState.PLACED)

    asked = receiver.received[0]
    assert asked.is_signed_with(SECRET)
    assert asked.event["type"] == "transship.promotion.webhook"
    data = asked.event["data"]
    assert (data["digest"], data["stage"], data["asked_by"]) == (promotion.digest, "prod", "dev")
    assert data["source"] == (
        f"{flow.world.east.url.partition('//')[2]}/shop/{flow.repository}@{promotion.digest}"
    )
    assert live(flow) == promotion.digest


def test_a_webhook_that_says_no_ends_the_promotion(flow: Flow) -> None:
    no = say(lambda asked: reply(asked, decision="reject", reason="not this one"))
    with GateReceiver(say=no) as receiver:
        promotion = through(flow, Gate(WEBHOOK, url=receiver.url))
        ended = flow.until(promotion, PromotionState.REJECTED)

    assert ended.reason == "not this one"
    assert live(flow) is None


def test_a_receiver_that_takes_its_time_is_asked_once_and_silence_expires(flow: Flow) -> None:
    with GateReceiver(say=lambda asked: (202, b"", "")) as receiver:
        promotion = through(flow, Gate(WEBHOOK, url=receiver.url))
        never(flow, promotion, "will come later")
        assert len(receiver.received) == 1


def test_an_old_answer_played_again_opens_no_other_gate(flow: Flow) -> None:
    """What somebody has recorded of an earlier promotion of the same digest agrees to that one only."""
    recorded: list[Said] = []

    def first(asked: dict[str, Any]) -> Said:
        recorded.append(yes(asked))
        return recorded[0]

    with GateReceiver(say=first) as receiver:
        gate = Gate(WEBHOOK, url=receiver.url)
        flow.until(through(flow, gate), PromotionState.PLACED)
        receiver.say = lambda asked: recorded[0]
        again = flow.ask(f"shop/{flow.repository}:v1")

        def refused() -> bool:
            flow.step()
            return "about another promotion" in flow.gate(again).reason

        wait_until(refused, 20, "the answer to be refused")
        assert flow.get(again).state is PromotionState.WAITING
        flow.time_is_over(again)


@pytest.mark.parametrize(
    ("worst", "findings", "passes"),
    [
        ("medium", {"medium": 3, "low": 9}, True),
        ("medium", {"high": 1}, False),
        ("high", {"critical": 1}, False),
        ("none", {"low": 1}, False),
        ("none", {}, True),
        ("critical", {"critical": 5}, True),
    ],
)
def test_a_scan_is_held_to_the_worst_that_is_let_through(
    flow: Flow, worst: str, findings: dict[str, int], passes: bool
) -> None:
    told = say(lambda asked: reply(asked, findings=CLEAN | findings))
    with GateReceiver(say=told) as receiver:
        promotion = through(flow, Gate(SCAN, url=receiver.url, worst=worst))
        state = PromotionState.PLACED if passes else PromotionState.REJECTED
        ended = flow.until(promotion, state)

    assert live(flow) == (promotion.digest if passes else None)
    assert passes or "is worse than" in ended.reason


@pytest.mark.parametrize(
    "findings",
    [
        None,
        {},
        {"critical": 0, "high": 0, "medium": 0},
        CLEAN | {"unknown": 0},
        CLEAN | {"critical": -1},
        CLEAN | {"critical": "0"},
        CLEAN | {"critical": False},
        CLEAN | {"critical": 0.0},
    ],
)
def test_findings_that_do_not_count_everything_are_none(flow: Flow, findings: Any) -> None:
    with GateReceiver(say=say(lambda asked: reply(asked, findings=findings))) as receiver:
        promotion = through(flow, Gate(SCAN, url=receiver.url, worst="critical"))
        never(flow, promotion, "findings")


def test_a_signature_by_the_key_opens_its_gate_and_comes_along(flow: Flow) -> None:
    """Who pushes signs afterwards: the gate waits for it."""
    signer = Signer()
    promotion = through(flow, Gate(SIGNATURE, key=signer.public))
    for _ in range(2):
        flow.step()
    assert flow.get(promotion).state is PromotionState.WAITING
    assert "it has no signature" in flow.gate(promotion).reason

    storage, name = flow.world.east.storage, f"shop/{flow.repository}"
    signature = signer.attach(storage, name, promotion.digest)
    flow.until(promotion, PromotionState.PLACED)

    assert live(flow) == promotion.digest
    tag = f"{promotion.digest.replace(':', '-')}.sig"
    there = flow.world.west.storage.manifest(f"live/{flow.repository}", tag)
    assert there is not None
    assert there.digest == signature, "the signature has not come along"


@pytest.mark.parametrize("way", ["none", "another key", "another digest", "away"])
def test_what_the_key_has_not_signed_never_passes(flow: Flow, way: str) -> None:
    signer = Signer()
    storage, name = flow.world.east.storage, f"shop/{flow.repository}"
    promotion = through(flow, Gate(SIGNATURE, key=signer.public))
    words = "not signed by"
    if way == "another key":
        Signer().attach(storage, name, promotion.digest)
    if way == "another digest":
        other = flow.push(f"shop/{flow.repository}:v2", mark="another one")
        signer.attach(storage, name, promotion.digest, named=other)
    if way == "away":
        signer.attach(storage, name, promotion.digest)
        flow.world.east.faults.add(FaultRule("/manifests/", status=500, times=FOREVER))
        words = "east"
    try:
        never(flow, promotion, words)
    finally:
        flow.world.east.faults.clear()


def test_gates_are_asked_one_after_the_other(flow: Flow) -> None:
    with GateReceiver() as first, GateReceiver(mode="refuse") as second:
        promotion = through(
            flow,
            Gate(WEBHOOK, url=first.url),
            Gate(SCAN, url=second.url),
            Gate(WEBHOOK, url=first.url),
        )
        never(flow, promotion, "answered 500", position=1)
        assert len(first.received) == 1, "a gate was asked before its turn"
    states = [step.state for step in flow.services.promotions.steps(promotion.id)]
    assert states == [StepState.PASSED, StepState.EXPIRED, StepState.PENDING]


def test_without_a_secret_nothing_is_posted(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with GateReceiver() as receiver:
        never(
            flow,
            through(flow, Gate(WEBHOOK, url=receiver.url)),
            f"{VARIABLE}, which pipeline shop signs with, is not set",
        )
        assert receiver.received == []


def test_the_answer_is_judged_alike_wherever_it_comes_from() -> None:
    """What the callback takes is what the answer to a post is held to: one function."""
    body = json.dumps(
        {"promotion": "p", "gate": 0, "digest": "d", "decision": "approve", "reason": "x" * 600}
    ).encode()
    decision = read_answer(
        signed(body),
        body,
        [SECRET],
        time.time(),
        promotion="p",
        position=0,
        digest="d",
        gate=Gate(WEBHOOK),
    )
    assert (decision.decision, len(decision.reason)) == ("approve", 500)


def test_a_project_s_pipeline_posts_to_public_addresses_only(flow: Flow) -> None:
    with GateReceiver() as receiver:
        promotion = through(flow, Gate(WEBHOOK, url=receiver.url))
        flow.services.pipelines.put(flow.pipeline, document={}, private=False)
        never(flow, promotion, "127.0.0.1")
        assert receiver.received == []


def test_beyond_a_border_nothing_is_looked_up_and_a_signature_is_waited_for(flow: Flow) -> None:
    """A process of another jurisdiction asks the registry nothing; one of its own goes on."""
    world = flow.world
    declare(world, us="us", eu="eu")
    place(world, east="us", west="us")
    signer = Signer()
    home = replace(world.settings, region="us")
    away = world.open(replace(world.settings, region="eu"))
    outside = Flow(world, services=away)
    outside.repository = flow.repository
    before = len(world.east.log)

    with pytest.raises(Conflict, match=r"may not touch") as refused:
        through(outside, Gate(SIGNATURE, key=signer.public))
    assert "NAME:TAG@DIGEST" in refused.value.hint
    name = f"shop/{flow.repository}"
    digest = (world.east.storage.tags(name) or {})["v1"]
    promotion = outside.ask(f"{name}:v1@{digest}")
    signer.attach(world.east.storage, name, digest)
    for _ in range(3):
        away.promotion_keeper.step()
    assert "may not touch" in outside.gate(promotion).reason
    assert len(world.east.log) == before, "a registry beyond the border was asked"

    keeper = world.open(home).promotion_keeper
    for _ in range(2):
        keeper.step()
    assert outside.gate(promotion).state is StepState.PASSED
    outside.services.promotions.cancel(promotion.id, "anna")
    place(world, east="local", west="local")
    for region in ("us", "eu"):
        world.services.regions.delete(region)
