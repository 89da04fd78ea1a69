"""Images flow by digest from stage to stage, through gates that fail closed (issue 10)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, insert, select, update

from api.samples.auth import BearerAuth, TokenService
from api.samples.faults import FaultRule
from api.samples.manifests import OCI_IMAGE
from api.samples.registry import SampleRegistry
from service.bootstrap import Services
from service.errors import Conflict, InvalidFields
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.events.values import Action, Delivery, RegistryEvent
from service.model.pipeline import (
    APPROVAL,
    WEBHOOK,
    Gate,
    Name,
    Pipeline,
    PromotionState,
    Stage,
    StepState,
)
from service.model.subscription import Subscription
from service.replication.executions import retry
from service.store.keyring import write_new_key
from service.store.tables import registries
from service.store.tables_pipelines import pipeline_pushes
from service.store.tables_releases import release_tags
from tests.integration.engine.databases import on_both_databases
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.promoting import SECRET, VARIABLE, Flow, GateReceiver
from tests.support.world import World, a_rule

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
    with pytest.raises(Conflict, match="does not wait for gate 1 now"):
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


def test_who_listens_is_told_that_people_have_to_agree_and_what_it_came_to(world: World) -> None:
    flow = Flow(world, Gate(APPROVAL, role="admin", count=2))
    hooks = flow.services.webhooks
    for name, more in (("all", {}), ("failures", {"only_failures": True})):
        wanted = Subscription(name, "https://ops.example/x", ("promotion.*",), **more)
        hooks.put(wanted, document={"name": name})
    digest = flow.push()
    flow.services.promotions.reject(flow.ask().id, "anna", digest, "no")
    flow.services.promotions.cancel(flow.ask().id, "anna")

    def events(name: str) -> list[str]:
        return sorted(one.event for one in hooks.deliveries(name))

    waiting = ["promotion.waiting"] * 2
    assert events("all") == ["promotion.cancelled", "promotion.rejected", *waiting]
    assert events("failures") == ["promotion.rejected"]
    told = [json.loads(one.body)["data"] for one in hooks.take(9, 60, each=9)]
    assert {(one["digest"], one["pipeline"], one["stage"]) for one in told} == {
        (digest, "shop", "prod")
    }
    assert {one.get("count") for one in told} == {2, None}


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
    with pytest.raises(Conflict, match="is a promotion's"):
        retry(flow.services.executions, failed.execution)


def three(flow: Flow, *gates: Gate, **last: Any) -> None:
    """A stage between: west's test/, which what is pushed comes to by itself."""
    dev, _ = flow.pipeline.stages
    middle = Stage("test", "west", "test/{name}", "{tag}", auto=True)
    live = Stage("prod", "west", "live/{name}", "{tag}-{digest}", gates, **last)
    flow.save(replace(flow.pipeline, stages=(dev, middle, live)))


def test_what_is_missing_at_a_stage_between_is_promoted_there_and_not_pushed(world: World) -> None:
    flow = Flow(world)
    three(flow)

    with pytest.raises(Conflict, match="east has no") as first:
        flow.ask("shop/web:v9", stage="test")
    with pytest.raises(Conflict, match="west has no") as between:
        flow.ask("shop/web:v9")

    assert first.value.hint == "push it to stage dev first: east/shop/web:v9"
    assert "promote it to stage test first" in between.value.hint
    assert "test/web:v9" in between.value.hint


def told(flow: Flow, name: str, digest: str) -> None:
    """The registry of the first stage tells of a push."""
    repository, _, tag = name.partition(":")
    event = RegistryEvent(Action.PUSHED, repository, tag, digest)
    flow.services.events.accept("east", (), Delivery((event,)))
    wait_until(
        lambda: flow.services.events.consume(lambda *_: None) > 0, 10, "the hint to be consumed"
    )


@on_both_databases
def test_what_is_pushed_goes_to_the_next_stage_by_itself_and_waits_at_its_gates(
    world: World,
) -> None:
    flow = Flow(world)
    three(flow, Gate(APPROVAL), auto=True)
    digest = flow.push()
    flow.push("shop/web:latest")
    flow.push("other/web:v1")
    for name in ("shop/web:v1", "shop/web:latest", "other/web:v1", "shop/gone:v1"):
        told(flow, name, digest)

    flow.step()
    (first,) = flow.services.promotions.list(stage="test")
    assert (first.trigger, first.asked_by, first.digest) == ("auto", "pipeline shop", digest)
    flow.until(first, PromotionState.PLACED)
    assert flow.live("test/web:v1") == digest
    (second,) = flow.services.promotions.list(stage="prod")
    flow.step()
    assert (second.trigger, flow.get(second).state) == ("auto", PromotionState.WAITING)
    assert second.source == Name("west", "test/web", "v1")
    flow.services.promotions.approve(second.id, 0, "anna", digest)
    flow.until(second, PromotionState.PLACED)
    assert flow.live(f"live/web:v1-{digest[7:]}") == digest
    assert len(flow.services.promotions.list()) == 2


def test_who_asks_for_a_stage_has_asked_for_what_goes_on_from_it_by_itself(world: World) -> None:
    """Nobody gets round a second pair of eyes by asking for the stage before."""
    flow = Flow(world)
    three(flow, Gate(APPROVAL), auto=True)
    digest = flow.push()
    first = flow.ask(stage="test", by="anna")
    flow.until(first, PromotionState.PLACED)
    (second,) = flow.services.promotions.list(stage="prod")
    assert (second.trigger, second.asked_by) == ("auto", "anna")
    flow.step()

    with pytest.raises(Conflict, match="may not approve"):
        flow.services.promotions.approve(second.id, 0, "anna", digest)
    flow.services.promotions.approve(second.id, 0, "ben", digest)
    flow.until(second, PromotionState.PLACED)


def test_what_a_pipeline_has_put_there_itself_does_not_go_round(world: World) -> None:
    """One registry has all stages, and tells of everything that is written to it, ours and others'."""
    flow = Flow(world)
    stages = (Stage("in", "east", "**"), Stage("out", "east", "out/{name}", "{tag}", auto=True))
    flow.save(replace(flow.pipeline, stages=stages))
    digest = flow.push("web:v1")
    told(flow, "web:v1", digest)
    flow.step()
    (first,) = flow.services.promotions.list()
    flow.until(first, PromotionState.PLACED)
    assert (world.east.storage.tags("out/web") or {}) == {"v1": digest}

    told(flow, "out/web:v1", digest)
    for _ in range(2):
        flow.step()

    assert len(flow.services.promotions.list()) == 1
    assert "out/out/web" not in world.east.storage.repositories()


def test_a_push_whose_registry_is_away_is_promoted_when_it_is_back(world: World) -> None:
    flow = Flow(world, auto=True)
    digest = flow.push()
    told(flow, "shop/web:v1", digest)
    world.east.faults.add(FaultRule(status=500, times=4))

    wait_until(lambda: flow.step() or flow.live() == digest, 20, "the push to arrive")


def test_a_registry_that_cannot_be_signed_in_to_keeps_no_other_pipeline_waiting(
    world: World, tmp_path: Path
) -> None:
    """Its password was sealed by a key that is gone: nothing of it can be promoted, and all else can."""
    write_new_key(tmp_path / "keys")
    settings = replace(world.services.settings, secret_key_file=str(tmp_path / "keys"))
    services = Services(settings)
    flow = Flow(world, services=services)
    digest = flow.push()
    with SampleRegistry(auth=BearerAuth(TokenService({"u": "p"}))) as locked:
        credentials = CredentialSpec(username="u", stored=True)
        services.registries.put(
            RegistryEndpoint("locked", locked.url, credentials=credentials), document={}
        )
        stages = (Stage("in", "locked", "**"), Stage("out", "west", "out/{name}", auto=True))
        services.pipelines.put(Pipeline("broken", stages), document={}, private=True)
        push = {"pipeline": "broken", "repository": "a", "tag": "v1", "received_at": 1.0}

        def lose(connection: Connection) -> None:
            connection.execute(
                update(registries).where(registries.c.name == "locked").values(secret=b"lost")
            )
            connection.execute(insert(pipeline_pushes).values(**push))

        services.database.write(lose)
        promotion = flow.ask()

        flow.until(promotion, PromotionState.PLACED)

    assert flow.live() == digest
    with services.database.read() as connection:
        tried = connection.execute(select(pipeline_pushes.c.attempts)).scalar_one()
    services.close()
    assert tried > 0, "it was looked at, and is looked at again"


def test_an_address_of_before_is_not_trusted_for_who_writes_the_pipeline_now(world: World) -> None:
    """A project's pipeline asks a private address in vain; that an administrator replaces it opens nothing."""
    flow = Flow(world)
    stages = flow.pipeline.stages
    old, new = "http://127.0.0.1:9/old", "http://127.0.0.1:9/new"
    store = flow.services.pipelines
    for url, private in ((old, False), (new, True)):
        gate = Gate(WEBHOOK, url=url)
        changed = replace(flow.pipeline, stages=(stages[0], replace(stages[1], gates=(gate,))))
        store.put(changed, document={"url": url}, private=private)

    assert store.is_private("shop", new)
    assert not store.is_private("shop", old)


def test_a_stage_takes_only_what_the_pipeline_has_put_at_the_one_before(world: World) -> None:
    """Whoever pushes into a stage behind the first has passed none of its gates."""
    flow = Flow(world)
    three(flow)
    digest = flow.push()
    push_image(world.west.storage, "test/web", "v1", mark="shop/web:v1")

    with pytest.raises(Conflict, match="has not put test/web@"):
        flow.ask("test/web:v1", "prod")

    flow.until(flow.ask("shop/web:v1", "test"), PromotionState.PLACED)
    moved = push_image(world.west.storage, "test/web", "v1", mark="smuggled")
    with pytest.raises(Conflict, match="has not put test/web@"):
        flow.ask("test/web:v1", "prod")
    promotion = flow.ask(f"test/web:v1@{digest}", "prod")
    flow.until(promotion, PromotionState.PLACED)
    assert flow.live(f"live/web:v1-{digest[7:]}") == digest != moved


@on_both_databases
def test_the_deploy_webhook_comes_when_the_image_is_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its receiver pulls the image by digest while it is told, and refuses twice: it is told until it takes it."""
    monkeypatch.setenv(VARIABLE, SECRET)
    whole: list[bool] = []

    def pull(data: dict[str, Any]) -> tuple[int, bytes, str]:
        base = f"http://{data['image'].partition('/')[0]}/v2/{data['repository']}"
        accept = {"Accept": OCI_IMAGE}
        manifest = httpx.get(f"{base}/manifests/{data['digest']}", headers=accept, timeout=5)
        found = hashlib.sha256(manifest.content).hexdigest() == data["digest"][7:]
        blobs = [manifest.json()["config"], *manifest.json()["layers"]]
        for blob in blobs:
            content = httpx.get(f"{base}/blobs/{blob['digest']}", timeout=5).content
            found = found and f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]
        whole.append(found)
        return (200 if len(whole) > 2 else 503), b"", ""

    with GateReceiver(say=pull) as receiver:
        services = world.open(replace(world.settings, webhook_retry_seconds=0.01))
        flow = Flow(world, Gate(APPROVAL), services=services, after_url=receiver.url)
        flow.keeper = flow.keeper_of(10)
        digest = flow.push()
        promotion = flow.ask()
        flow.step()
        assert receiver.received == [], "told before it was there"
        flow.services.promotions.approve(promotion.id, 0, "anna", digest)
        flow.until(promotion, PromotionState.PLACED)
        wait_until(
            lambda: flow.step() or flow.gate(promotion, 1).state is StepState.PASSED, 20, "the news"
        )

    assert whole == [True, True, True]
    event = receiver.received[-1]
    assert event.is_signed_with(SECRET)
    assert event.event["type"] == "transship.promotion.placed"
    assert event.event["data"]["approved_by"] == ["anna"]
    assert len({one.event["id"] for one in receiver.received}) == 1, "one event, told again"
    history = [one.event for one in flow.services.promotions.history(promotion.id)]
    assert history[-2:] == ["after.not_taken", "after.delivered"]


def test_a_deployer_that_never_takes_it_is_given_up_and_that_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    services = world.open(replace(world.settings, webhook_attempts=2, webhook_retry_seconds=0.01))
    with GateReceiver(mode="refuse") as receiver:
        flow = Flow(world, services=services, after_url=receiver.url)
        flow.push()
        promotion = flow.until(flow.ask(), PromotionState.PLACED)
        wait_until(
            lambda: flow.step() or flow.gate(promotion).state is StepState.FAILED, 20, "the end"
        )

    assert len(receiver.received) == 2
    assert flow.gate(promotion).reason == "the receiver answered 500"
    assert flow.events(promotion)[-1] == "after.failed"
    assert flow.get(promotion).state is PromotionState.PLACED


@on_both_databases
def test_any_earlier_digest_comes_back_through_the_gates(world: World) -> None:
    flow = Flow(world)
    before = push_image(world.west.storage, "live/web", "v1", mark="before the pipeline")
    digests, placed = [], []
    for mark in ("one", "two", "three"):
        digests.append(flow.push(mark=mark))
        placed.append(flow.until(flow.ask(), PromotionState.PLACED))
    assert [one.found for one in placed] == [before, *digests[:2]]
    asker, store = flow.services.promotion_asker, flow.services.promotions
    dev, live = flow.pipeline.stages
    flow.save(replace(flow.pipeline, stages=(dev, replace(live, gates=(Gate(APPROVAL),)))))
    world.east.storage.delete_manifest("shop/web", digests[0])

    back, _ = asker.roll_back(placed[2].id, "", "ops")
    flow.step()
    assert (back.digest, back.trigger, back.takes_back) == (digests[1], "rollback", placed[2].id)
    assert flow.live() == digests[2], "a rollback that no gate has let through"
    store.approve(back.id, 0, "anna", digests[1])
    assert flow.until(back, PromotionState.PLACED).found == digests[2]
    assert flow.live() == digests[1]

    for wanted in (digests[0], before):
        further, _ = asker.roll_back(placed[2].id, wanted, "ops")
        store.approve(further.id, 0, "anna", wanted)
        flow.until(further, PromotionState.PLACED)
        assert flow.live() == wanted
    with pytest.raises(Conflict, match="has not stood there"):
        asker.roll_back(placed[2].id, f"sha256:{'0' * 64}", "ops")
    waiting = flow.ask()
    with pytest.raises(Conflict, match="is waiting"):
        asker.roll_back(waiting.id, "", "ops")


def test_two_promotions_to_one_name_are_copied_one_after_the_other(world: World) -> None:
    flow = Flow(world)
    digests = [flow.push(mark="one")]
    first = flow.ask()
    digests.append(flow.push(mark="two"))
    second = flow.ask()

    flow.services.promotion_keeper.step()
    assert flow.get(first).state is PromotionState.COPYING
    assert flow.get(second).state is PromotionState.WAITING
    flow.until(second, PromotionState.PLACED)
    assert flow.get(second).found == digests[0]
    assert flow.live() == digests[1]


def test_a_promotion_is_cancelled_while_it_waits_and_while_it_is_copied(world: World) -> None:
    flow = Flow(world, Gate(APPROVAL))
    digest = flow.push()
    store = flow.services.promotions
    waiting = flow.ask()
    store.cancel(waiting.id, "anna")
    assert flow.get(waiting).state is PromotionState.CANCELLED
    assert flow.gate(waiting).state is StepState.PENDING, "somebody is still asked"
    copying = flow.ask()
    store.approve(copying.id, 0, "anna", digest)
    flow.services.promotion_keeper.step()
    assert flow.get(copying).state is PromotionState.COPYING
    store.cancel(copying.id, "anna")

    ended = flow.until(copying, PromotionState.CANCELLED)

    assert "was cancelled" in ended.reason
    assert flow.live() is None
    with pytest.raises(Conflict, match="is cancelled"):
        store.cancel(copying.id, "anna")


def test_a_name_that_a_release_holds_is_not_said_to_be_placed(world: World) -> None:
    """The copy is skipped, and its execution succeeds: the promotion has not."""
    flow = Flow(world)
    held = push_image(world.west.storage, "live/web", "v1", mark="of the release")
    rule = a_rule("live/**", name="released")
    world.services.releases.create("spring", rule, (), region="local")
    name = {"registry": "west", "repository": "live/web", "tag": "v1"}
    world.services.database.write(
        lambda connection: connection.execute(
            insert(release_tags).values(
                release="spring",
                source_repository="web",
                region="local",
                digest=held,
                state="flipped",
                **name,
            )
        )
    )
    flow.push()

    failed = flow.until(flow.ask(), PromotionState.FAILED)

    assert "release spring moves this tag" in failed.reason
    assert flow.live() == held


def test_what_is_there_already_is_placed_and_told(world: World) -> None:
    flow = Flow(world)
    digest = flow.push()
    first = flow.until(flow.ask(), PromotionState.PLACED)

    again = flow.until(flow.ask(), PromotionState.PLACED)

    assert again.id != first.id
    assert (again.digest, again.found, flow.live()) == (digest, None, digest)
