"""The keys of a pipeline's document, seen at the registries, the receivers and the promotions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.schemas.pipeline import load_pipeline
from service.errors import Conflict
from service.model.events.values import Action, Delivery, RegistryEvent
from service.model.pipeline import PromotionState
from service.model.project import Grant, Project
from service.store.keyring import write_new_key
from tests.support.processes import wait_until
from tests.support.promoting import SECRET, VARIABLE, Flow, GateReceiver, reply, signed, yes
from tests.support.signing import Signer
from tests.support.world import World

ENTERS = {"name": "dev", "registry": "east", "repository": "shop/*", "tag": "v*"}


def flow_of(
    world: World, *gates: dict[str, Any], more: dict[str, Any] | None = None, **stage: Any
) -> Flow:
    """The pipeline of a document; `stage` goes into its last stage."""
    flow = Flow(world)
    last = {"name": "prod", "registry": "west", "repository": "live/{name}", "gates": list(gates)}
    last |= stage
    document = {"name": "shop", "stages": [ENTERS, last], **(more or {})}
    pipeline, secret = load_pipeline(document)
    flow.pipeline = pipeline
    flow.services.pipelines.put(pipeline, document=document, private=True, secret=secret)
    return flow


def test_effect_pipelines_stages(world: World) -> None:
    """What enters, where it goes, what it is called there, and that it goes by itself."""
    last = {"name": "live", "registry": "west", "repository": "a/{name}", "tag": "{tag}-x"}
    flow = flow_of(world, more={"stages": [ENTERS, {**last, "auto": True}]})
    digest = flow.push()
    names = ("shop/web:v1", "shop/web:w1", "other/web:v1")
    events = [
        RegistryEvent(Action.PUSHED, *name.split(":"), digest) for name in names if flow.push(name)
    ]
    flow.services.events.accept("east", (), Delivery(tuple(events)))
    wait_until(lambda: flow.services.events.consume(lambda *_: None) > 0, 10, "the hints")
    flow.step()

    (promotion,) = flow.services.promotions.list()
    flow.until(promotion, PromotionState.PLACED)
    assert (promotion.stage, promotion.pipeline) == ("live", "shop")
    assert world.west.storage.tags("a/web") == {"v1-x": flow.get(promotion).digest}
    assert world.west.storage.repositories() == ["a/web"]


def test_effect_pipelines_stages_gates_approval(world: World) -> None:
    """Two have to agree; who has asked may be one of them where that is written; and there is a time."""
    gate = {"approval": {"count": 2, "own": True}, "timeout": "1h"}
    flow = flow_of(world, gate)
    digest = flow.push()
    promotion = flow.ask(by="anna")
    store = flow.services.promotions
    step = flow.gate(promotion)
    assert step.begun_at is not None
    assert step.deadline_at == pytest.approx(step.begun_at + 3600)
    store.approve(promotion.id, 0, "anna", digest)
    flow.step()
    assert flow.live() is None
    store.approve(promotion.id, 0, "ben", digest)
    flow.until(promotion, PromotionState.PLACED)

    flow = flow_of(world, {"approval": {"own": False}})
    flow.push(mark="next")
    with pytest.raises(Conflict, match="may not approve"):
        store.approve(flow.ask(by="anna").id, 0, "anna", flow.ask().digest)


def test_effect_pipelines_secret(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is posted, and what is answered, is signed with the one that is stored, else with the variable's."""
    key = world.folder / "keys"
    write_new_key(key)
    world.services = world.open(replace(world.settings, secret_key_file=str(key)))
    stored = "another secret, which is stored"

    def stored_says(asked: dict[str, Any]) -> tuple[int, bytes, str]:
        body = reply(asked, decision="approve")
        return 200, body, signed(body, stored, at=time.time())

    with GateReceiver(say=stored_says) as receiver:
        gate = {"webhook": receiver.url}
        flow = flow_of(world, gate, more={"secret": stored})
        flow.push()
        flow.until(flow.ask(), PromotionState.PLACED)
        assert receiver.received[0].is_signed_with(stored)
        assert stored.encode() not in b"".join(
            one.read_bytes() for one in world.folder.glob("*.db*")
        )

        flow.services.pipelines.delete("shop")
        monkeypatch.setenv(VARIABLE, SECRET)
        receiver.say = yes
        flow = flow_of(world, gate, more={"secret_env": VARIABLE})
        flow.push(mark="next")
        flow.until(flow.ask(), PromotionState.PLACED)
        assert receiver.received[-1].is_signed_with(SECRET)


def test_effect_pipelines_stages_secrets(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate and an after that name a secret of their own are signed with it alone, and so is what the gate answers."""
    key = world.folder / "keys"
    write_new_key(key)
    world.services = world.open(
        replace(world.settings, secret_key_file=str(key), webhook_retry_seconds=0.01)
    )
    monkeypatch.setenv(VARIABLE, SECRET)
    own = {name: f"a secret of {name} alone, and long" for name in ("gate", "after")}

    def says(secret: str) -> Callable[[dict[str, Any]], tuple[int, bytes, str]]:
        def say(asked: dict[str, Any]) -> tuple[int, bytes, str]:
            body = reply(asked, decision="approve")
            return 200, body, signed(body, secret)

        return say

    with GateReceiver() as receiver, GateReceiver() as told:
        for name, one in (("gate", receiver), ("after", told)):
            world.services.secrets.put(name, own[name], [one.url.split("/")[2]])
        flow = flow_of(
            world,
            {"webhook": receiver.url, "secret": "gate"},
            more={"secret_env": VARIABLE},
            after={"webhook": told.url, "secret": "after"},
        )
        flow.push()
        promotion = flow.ask()
        for wrong in (SECRET, own["after"]):
            receiver.say = says(wrong)
            enough = (
                len(receiver.received) + 2
            )  # the second of them was asked for by this wrong one
            wait_until(
                lambda enough=enough: flow.step() or len(receiver.received) >= enough, 20, "asking"
            )
            assert "not signed with" in flow.gate(promotion).reason
            assert flow.get(promotion).state is PromotionState.WAITING
        assert flow.live() is None
        receiver.say = says(own["gate"])
        flow.until(promotion, PromotionState.PLACED)
        wait_until(lambda: flow.step() or bool(told.received), 20, "who is told afterwards")

    assert all(one.is_signed_with(own["gate"]) for one in receiver.received)
    assert told.received[0].is_signed_with(own["after"])
    assert not any(one.is_signed_with(SECRET) for one in (*receiver.received, *told.received))


def test_effect_pipelines_stages_gates_scan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scanner is told that a scan is wanted, and held to the worst."""
    monkeypatch.setenv(VARIABLE, SECRET)

    def found(asked: dict[str, Any]) -> tuple[int, bytes, str]:
        body = reply(asked, findings={"critical": 0, "high": 0, "medium": 1, "low": 0})
        return 200, body, signed(body)

    with GateReceiver(say=found) as scanner:
        for worst, state in (("low", PromotionState.REJECTED), ("medium", PromotionState.PLACED)):
            gate = {"scan": {"worst": worst, "webhook": scanner.url}}
            flow = flow_of(world, gate, more={"secret_env": VARIABLE})
            flow.push(mark=worst)
            flow.until(flow.ask(), state)
    assert scanner.received[0].event["type"] == "transship.promotion.scan"


def test_effect_pipelines_stages_gates_signature_key(world: World) -> None:
    signer = Signer()
    flow = flow_of(world, {"signature": {"key": signer.public}})
    digest = flow.push()
    promotion = flow.ask()
    Signer().attach(world.east.storage, "shop/web", digest)
    flow.step()
    assert flow.get(promotion).state is PromotionState.WAITING
    signer.attach(world.east.storage, "shop/web", digest)
    flow.until(promotion, PromotionState.PLACED)


def test_effect_pipelines_project(world: World) -> None:
    """A promotion may write where its project may, whatever its pipeline says."""
    team = Project("team-a", (Grant("east", ("**",)),), (Grant("west", ("elsewhere/**",)),))
    world.services.projects.put(team, document={})
    flow = flow_of(world, more={"project": "team-a"})
    flow.push()

    failed = flow.until(flow.ask(), PromotionState.FAILED)

    assert "executions failures" in failed.reason
    (copy,) = world.copies(failed.execution)
    assert copy.failure_class == "denied"
    assert "team-a" in copy.reason
    assert flow.live() is None
