"""Promotions over a world, step by step, and a receiver that answers gates as a test wants it."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

from sqlalchemy import update

from service.bootstrap import Services
from service.model.pipeline import Gate, Pipeline, PromotionState, Stage
from service.registry.post import ask
from service.replication.promotion_calls import PromotionCalls
from service.replication.promotion_keeper import PromotionKeeper
from service.store.promotion_values import Promotion, Step
from service.store.tables_pipelines import promotion_steps
from tests.support.content import push_image
from tests.support.planning import finish
from tests.support.processes import wait_until
from tests.support.receiver import Receiver
from tests.support.world import World

SECRET = "a secret of forty random characters or so"
VARIABLE = "TRANSSHIP_SECRET_PIPELINE"


def signed(body: bytes, secret: str = SECRET, *, at: float | None = None) -> str:
    """Sign as a receiver does that has read the how-to."""
    stamp = int(time.time() if at is None else at)
    told = f"{stamp}.".encode() + body
    return f"t={stamp},v1={hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()}"


def reply(asked: dict[str, Any], **more: Any) -> bytes:
    """The body of an answer to just this question."""
    return json.dumps({key: asked[key] for key in ("promotion", "gate", "digest")} | more).encode()


def yes(asked: dict[str, Any]) -> tuple[int, bytes, str]:
    """Agree, signed."""
    body = reply(asked, decision="approve")
    return 200, body, signed(body)


@dataclass
class GateReceiver(Receiver):
    """Answers what is asked with `say`: from the event's data to status, body and signature.

    In every other mode than ok it is as bad as Receiver.
    """

    say: Callable[[dict[str, Any]], tuple[int, bytes, str]] = yes

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode != "ok":
            super().answer(handler)
            return
        status, body, header = self.say(self.received[-1].event["data"])
        handler.send_response(status)
        if header:
            handler.send_header("Transship-Signature", header)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


class Flow:
    """A pipeline from east (dev) to west (prod), and what scheduler and worker do about it."""

    repository = "web"

    def __init__(self, world: World, *gates: Gate, services: Services | None = None, **stage: Any):
        self.world = world
        self.services = services or world.services
        self.pipeline = Pipeline(
            "shop",
            (
                Stage("dev", "east", "shop/*", "v*"),
                Stage("prod", "west", "live/{name}", "{tag}", gates, **stage),
            ),
            secret_env=VARIABLE,
        )
        self.save(self.pipeline)
        self.keeper = self.keeper_of(0.3)

    def save(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.services.pipelines.put(pipeline, document={}, private=True)

    def push(self, name: str = "shop/web:v1", mark: str = "") -> str:
        """Push an image into the first stage; returns its digest."""
        repository, _, tag = name.partition(":")
        return push_image(self.world.east.storage, repository, tag, mark=mark or name)

    def ask(
        self, reference: str = "shop/web:v1", stage: str = "prod", by: str = "dev"
    ) -> Promotion:
        return self.services.promotion_asker.ask("shop", reference, stage, by)[0]

    def get(self, promotion: Promotion) -> Promotion:
        return self.services.promotions.get(promotion.id)

    def gate(self, promotion: Promotion, position: int = 0) -> Step:
        return self.services.promotions.steps(promotion.id)[position]

    def keeper_of(self, patience: float) -> PromotionKeeper:
        """A keeper that waits for receivers so many seconds, and not 10."""
        one = self.services
        calls = PromotionCalls(
            one.settings,
            one.promotion_posts,
            one.promotions,
            one.pipelines,
            one.registries,
            send=partial(ask, seconds=patience),
        )
        return PromotionKeeper(
            one.settings,
            one.promotion_work,
            one.promotions,
            one.pipelines,
            one.executions,
            one.promotion_asker,
            calls,
            one.clients,
            one.guard,
        )

    def step(self) -> None:
        """What the scheduler does in a second, and then the worker."""
        self.keeper.step()
        for one in self.services.promotions.list(state=PromotionState.COPYING):
            if not self.services.executions.get(one.execution).state.ended:
                self.services.planner.plan(one.execution, self.services.boot)
                finish(self.world, one.execution)

    def until(self, promotion: Promotion, state: PromotionState, timeout: float = 20) -> Promotion:
        """Go on until a promotion has come to a state."""

        def there() -> bool:
            self.step()
            return self.get(promotion).state is state

        wait_until(there, timeout, f"the promotion to be {state}")
        return self.get(promotion)

    def events(self, promotion: Promotion) -> list[str]:
        return [one.event for one in self.services.promotions.history(promotion.id)]

    def live(self, name: str = "live/web:v1") -> str | None:
        """The digest under a name at the last stage."""
        repository, _, tag = name.partition(":")
        found = self.world.west.storage.manifest(repository, tag)
        return None if found is None else found.digest

    def time_is_over(self, promotion: Promotion) -> Promotion:
        """Have the time of a promotion's gate be over, and see what the keeper makes of it."""
        table = promotion_steps
        self.services.database.write(
            lambda connection: connection.execute(
                update(table).where(table.c.promotion == promotion.id).values(deadline_at=1.0)
            )
        )
        return self.until(promotion, PromotionState.EXPIRED)
