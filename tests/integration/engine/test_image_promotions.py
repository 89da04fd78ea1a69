"""Images flow by digest from stage to stage, through gates that fail closed (issue 10)."""

from __future__ import annotations

import pytest

from service.errors import Conflict, InvalidFields
from service.model.pipeline import APPROVAL, Gate, PromotionState, StepState
from tests.integration.engine.databases import on_both_databases
from tests.support.promoting import Flow
from tests.support.world import World

TWO = Gate(APPROVAL, count=2)


@on_both_databases
def test_the_approved_digest_arrives_though_the_tag_has_moved(world: World) -> None:
    flow = Flow(world, TWO)
    first = flow.push()
    promotion = flow.ask()
    assert promotion.digest == first
    store = flow.services.promotions
    flow.step()
    assert flow.get(promotion).state is PromotionState.WAITING

    store.approve(promotion.id, 0, "anna", first)
    store.approve(promotion.id, 0, "anna", first)
    flow.step()
    assert flow.get(promotion).state is PromotionState.WAITING, "one person counted twice"
    second = flow.push(mark="moved")
    assert second != first
    store.approve(promotion.id, 0, "ben", first)
    placed = flow.until(promotion, PromotionState.PLACED)

    assert flow.live() == first
    assert placed.found == "", "nothing stood there before"
    assert flow.events(promotion) == [
        "asked",
        "approved",
        "approved",
        "gate.passed",
        "copying",
        "placed",
    ]
    assert [one.actor for one in store.approvals(promotion.id)] == ["anna", "ben"]
    later = flow.ask()
    assert (later.id != promotion.id, later.digest) == (True, second)
    actions = [one.change.action for one in flow.services.audit.list(kind="promotions")]
    assert actions == ["place", "copy"], "what no request has done stands in the audit log"


@on_both_databases
def test_an_approval_counts_for_its_digest_its_gate_and_other_people_only(world: World) -> None:
    flow = Flow(world, Gate(APPROVAL))
    digest = flow.push()
    other = flow.push("shop/other:v1")
    promotion = flow.ask()
    store = flow.services.promotions

    with pytest.raises(Conflict, match="is of"):
        store.approve(promotion.id, 0, "anna", other)
    with pytest.raises(Conflict, match="dev has asked"):
        store.approve(promotion.id, 0, "dev", digest)
    with pytest.raises(Conflict, match="does not wait for gate 1"):
        store.approve(promotion.id, 1, "anna", digest)
    flow.step()
    assert (flow.get(promotion).state, flow.live()) == (PromotionState.WAITING, None)

    again = flow.services.promotion_asker.ask("shop", "shop/web:v1", "prod", "eve")
    assert (again[0].id, again[1]) == (promotion.id, False), "asked twice, and promoted twice"
    store.reject(promotion.id, "anna", digest, "not on a friday")
    flow.step()
    rejected = flow.get(promotion)
    assert (rejected.state, rejected.reason) == (PromotionState.REJECTED, "not on a friday")
    assert flow.gate(promotion).state is StepState.REFUSED
    with pytest.raises(Conflict, match="is rejected"):
        store.approve(promotion.id, 0, "ben", digest)
    flow.step()
    assert flow.live() is None


def test_silence_expires(world: World) -> None:
    """A gate of people that nobody answers: nothing is promoted, and an approval afterwards is late."""
    flow = Flow(world, Gate(APPROVAL, timeout_seconds=0.2))
    digest = flow.push()
    promotion = flow.ask()

    ended = flow.until(promotion, PromotionState.EXPIRED)

    assert "gate 0 (approval) has not agreed in time" in ended.reason
    with pytest.raises(Conflict, match="is expired"):
        flow.services.promotions.approve(promotion.id, 0, "anna", digest)
    flow.step()
    assert flow.live() is None


def test_what_is_not_there_or_does_not_enter_is_refused(world: World) -> None:
    flow = Flow(world)
    flow.push("other/web:v1")
    flow.push("shop/web:latest")

    with pytest.raises(Conflict, match="east has no shop/web:v9"):
        flow.ask("shop/web:v9")
    for name in ("other/web:v1", "shop/web:latest"):
        with pytest.raises(InvalidFields, match="does not enter pipeline shop"):
            flow.ask(name)
    with pytest.raises(InvalidFields, match="is the first stage"):
        flow.ask(stage="dev")
    with pytest.raises(InvalidFields, match="no stage 'prd'"):
        flow.ask(stage="prd")
    digest = f"sha256:{'0' * 64}"
    with pytest.raises(InvalidFields, match="has no tag"):
        flow.ask(f"shop/web@{digest}")
    promotion = flow.ask(f"shop/web:v1@{digest}")
    failed = flow.until(promotion, PromotionState.FAILED)
    assert "transship executions failures" in failed.reason
