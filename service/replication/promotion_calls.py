"""Post to the webhooks of gates, and tell what is told when an image is placed; see service/model/gate_answers.py.

A gate's receiver answers at once, signed, or says 202 and answers later. Everything else is no answer: it is asked
again for as long as its gate has time, and what has no answer is not promoted.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from service.crashpoints import crashpoint
from service.errors import InvalidConfiguration, NotFoundInStore, RegistryError, StoreUnavailable
from service.model.gate_answers import (
    HEADER,
    WAIT,
    Decision,
    NoAnswer,
    read_answer,
    signature,
)
from service.model.pipeline import AFTER
from service.model.subscription import cloud_event
from service.registry.post import SECONDS, Reply, ask
from service.settings import Settings
from service.store.image_promotions import PromotionStore
from service.store.outbox import SOURCE
from service.store.pipelines import PipelineStore
from service.store.promotion_posts import Call, PromotionPosts
from service.store.promotion_values import Promotion
from service.store.registries import RegistryStore
from service.telemetry import get_logger

THREADS = 8
LEASE_SECONDS = 6 * SECONDS
MAX_PAUSE_SECONDS = 600.0
LATER = 202
"""The status of a receiver that will answer by itself."""

log = get_logger("promotion")


class PromotionCalls:
    """Posts what is due, many at once; a receiver that hangs keeps no other one waiting for long."""

    def __init__(
        self,
        settings: Settings,
        posts: PromotionPosts,
        store: PromotionStore,
        pipelines: PipelineStore,
        registries: RegistryStore,
        *,
        send: Callable[..., Reply] = ask,
    ) -> None:
        self._settings = settings
        self._posts = posts
        self._store = store
        self._pipelines = pipelines
        self._registries = registries
        self._send = send
        self._pool = ThreadPoolExecutor(THREADS, "promotion")
        self._lock = threading.Lock()
        self._under_way = 0

    def step(self) -> int:
        """Post what is due, without waiting for it; returns how many."""
        with self._lock:
            free = THREADS - self._under_way
        if free <= 0:
            return 0
        calls = self._posts.take_calls(free, LEASE_SECONDS)
        with self._lock:
            self._under_way += len(calls)
        for call in calls:
            self._pool.submit(self._guarded, call)
        return len(calls)

    def _guarded(self, call: Call) -> None:
        try:
            self.make(call)
        except Exception:
            log.exception("promotion_call_broke", promotion=call.promotion.id)
        finally:
            with self._lock:
                self._under_way -= 1

    def make(self, call: Call) -> None:
        """Make one post, and write down what came of it."""
        promotion, gate = call.promotion, call.step.gate
        try:
            secrets = self._pipelines.secrets(promotion.pipeline, gate)
        except InvalidConfiguration as error:  # the gate's own: gone, or bound to other hosts
            self._failed(call, None, f"{error.message}; {error.hint}")
            return
        if not secrets:
            self._failed(call, None, self._unsigned(promotion.pipeline))
            return
        body = json.dumps(self._event(call), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/cloudevents+json; charset=UTF-8",
            "Transship-Event": f"{promotion.id}-{call.step.position}",
            "Transship-Attempt": str(call.step.attempts + 1),
            "Transship-Signature": signature(secrets[0], int(time.time()), body),
        }
        try:
            reply = self._send(
                gate.url,
                headers,
                body,
                private=self._pipelines.is_private(promotion.pipeline, gate.url),
            )
        except (RegistryError, InvalidConfiguration, StoreUnavailable) as error:
            self._failed(call, None, error.message)
            return
        crashpoint("promotion.before_answer")
        if gate.kind == AFTER:
            self._after(call, reply)
        else:
            self._judge(call, reply, secrets)

    def _unsigned(self, name: str) -> str:
        """Say why nothing can be signed, and what to do; a variable that is not set by its name."""
        try:
            variable = self._pipelines.get(name).pipeline.secret_env
        except NotFoundInStore:
            return f"pipeline {name} is not there any more, nor its secret to sign with"
        if variable:
            return (
                f"{variable}, which pipeline {name} signs with, is not set in the environment of the "
                "scheduler; set it and start it again"
            )
        return (
            f"pipeline {name} has no secret to sign with; store one: "
            f"transship pipelines put {name} -f FILE --secret-file FILE"
        )

    def _after(self, call: Call, reply: Reply) -> None:
        if 200 <= reply.status < 300:
            self._posts.told(call, reply.status)
        else:
            self._failed(call, reply.status, _refusal(reply.status))

    def _judge(self, call: Call, reply: Reply, secrets: tuple[str, ...]) -> None:
        promotion, step = call.promotion, call.step
        if reply.status == LATER:
            self._store.answer(promotion.id, step.position, Decision(WAIT))
            return
        if reply.status != 200:
            self._failed(call, reply.status, _refusal(reply.status))
            return
        try:
            decision = read_answer(
                reply.headers.get(HEADER, ""),
                reply.body,
                secrets,
                time.time(),
                promotion=promotion.id,
                position=step.position,
                digest=promotion.digest,
                gate=step.gate,
            )
        except NoAnswer as error:
            self._failed(call, reply.status, error.message)
            return
        self._store.answer(promotion.id, step.position, decision)

    def _failed(self, call: Call, status: int | None, reason: str) -> None:
        """Have a post made again after a pause; what is told afterwards has its chances, a gate its time."""
        attempts = call.step.attempts + 1
        log.warning("promotion_not_answered", promotion=call.promotion.id, gate=call.step.position)
        if call.step.gate.kind == AFTER and attempts >= self._settings.webhook_attempts:
            self._posts.told(call, status, reason)
            return
        pause = min(
            self._settings.webhook_retry_seconds * 2.0 ** min(attempts - 1, 20), MAX_PAUSE_SECONDS
        )
        jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
        self._posts.not_answered(call, status, reason, jitter * pause)

    def _event(self, call: Call) -> dict[str, Any]:
        promotion, step = call.promotion, call.step
        event = "promotion.placed" if step.gate.kind == AFTER else f"promotion.{step.gate.kind}"
        begun = step.begun_at or promotion.created_at
        return cloud_event(
            f"{promotion.id}-{step.position}",
            event,
            source=SOURCE,
            subject=f"promotions/{promotion.id}",
            at=begun,
            data=self._data(promotion) | self._question(call),
        )

    def _question(self, call: Call) -> dict[str, Any]:
        if call.step.gate.kind == AFTER:
            return {
                "approved_by": sorted(
                    {one.actor for one in self._store.approvals(call.promotion.id)}
                )
            }
        return {
            "gate": call.step.position,
            "kind": call.step.gate.kind,
            "answer": f"/hooks/gates/{call.promotion.id}/{call.step.position}",
        }

    def _data(self, promotion: Promotion) -> dict[str, Any]:
        there, here = promotion.destination, promotion.source
        return {
            "promotion": promotion.id,
            "pipeline": promotion.pipeline,
            "project": promotion.project,
            "trigger": promotion.trigger,
            "from": promotion.from_stage,
            "stage": promotion.stage,
            "digest": promotion.digest,
            "source": f"{self._host(here.registry)}/{here.repository}@{promotion.digest}",
            "image": f"{self._host(there.registry)}/{there.repository}@{promotion.digest}",
            "registry": there.registry,
            "repository": there.repository,
            "tag": there.tag,
            "before": promotion.found or None,
            "asked_by": promotion.asked_by,
        }

    def _host(self, registry: str) -> str:
        try:
            return self._registries.get(registry).endpoint.host
        except NotFoundInStore:
            return registry


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"the receiver answered {status}: redirects are not followed"
    return f"the receiver answered {status}"
