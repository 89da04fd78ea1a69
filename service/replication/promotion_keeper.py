"""Bring promotions forward: pushes, gates, the copy, the next stage (issue 10).

All of it stands in SQL, and each step is written once: a process that dies in the middle leaves it to the next one.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from service.crashpoints import crashpoint
from service.errors import (
    Conflict,
    InvalidInput,
    NotFoundInStore,
    StoreUnavailable,
    TransshipError,
    Unsigned,
    WrongRegion,
)
from service.model.digest import Digest
from service.model.pipeline import SIGNATURE, PromotionState, rule_of
from service.model.states import ExecutionState
from service.replication.borders import BorderGuard
from service.replication.clients import Clients
from service.replication.compare import told
from service.replication.promotion_asks import PromotionAsker
from service.replication.promotion_calls import PromotionCalls
from service.replication.signatures import check_signed
from service.settings import Settings
from service.store.executions import ExecutionStore
from service.store.image_promotions import PromotionStore
from service.store.pipelines import PipelineStore
from service.store.promotion_values import Promotion, Step
from service.store.promotion_work import PromotionWork, Push
from service.telemetry import get_logger

MAX_LOOK_SECONDS = 30.0
"""How long a gate that looks for a signature waits between two looks."""

PUSH_ATTEMPTS = 100
MAX_PUSH_SECONDS = 60.0
"""A push whose registry does not answer is looked at so often, and so long apart at most: for an hour and a half."""

log = get_logger("promotion")


class PromotionKeeper:
    """Any process may have one, under a lease one acts."""

    def __init__(
        self,
        settings: Settings,
        work: PromotionWork,
        store: PromotionStore,
        pipelines: PipelineStore,
        executions: ExecutionStore,
        asker: PromotionAsker,
        calls: PromotionCalls,
        clients: Clients,
        guard: BorderGuard,
    ) -> None:
        self._settings = settings
        self._work = work
        self._store = store
        self._pipelines = pipelines
        self._executions = executions
        self._asker = asker
        self._calls = calls
        self._clients = clients
        self._guard = guard
        self._announce: Callable[[str], object] = _nobody

    def share(self, announce: Callable[[str], object]) -> None:
        """Have `announce` tell the queue of an execution that has been saved: it spares the scheduler's next look."""
        self._announce = announce

    def step(self) -> None:
        """Do what is due; one promotion's trouble does not keep the others back."""
        for push in self._work.pushes():
            self._push(push)
        for identity in self._work.late():
            try:
                self._work.expire(self._store.get(identity))
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("promotion_broke", promotion=identity)
        for promotion in self._work.due():
            try:
                self._forward(promotion)
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("promotion_broke", promotion=promotion.id)
        self._calls.step()

    def _forward(self, promotion: Promotion) -> None:
        if promotion.state is PromotionState.COPYING:
            self._copied(promotion)
        elif promotion.gate >= promotion.gates:
            self._copy(promotion)
        else:
            step = self._work.step(promotion)
            if step is not None and step.gate.kind == SIGNATURE:
                self._look_for_signature(promotion, step)

    # ---- gates -----------------------------------------------------------------------------------

    def _look_for_signature(self, promotion: Promotion, step: Step) -> None:
        """Open the gate when the key has signed the digest; until then it waits, since who pushes signs afterwards."""
        source = promotion.source
        try:
            self._guard.check_place([source.registry])
            check_signed(
                self._clients.get(source.registry),
                source.repository,
                Digest.parse(promotion.digest),
                step.gate.key,
            )
        except WrongRegion as error:  # a process of another jurisdiction looks
            if not step.reason:
                self._work.note(step, error.message)
        except (Unsigned, TransshipError) as error:
            pause = min(
                self._settings.retry_seconds * 2.0 ** min(step.attempts, 10), MAX_LOOK_SECONDS
            )
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            self._work.note(step, told(error, source.registry), jitter * pause)
        else:
            self._work.passed(promotion, "the key has signed the digest")

    # ---- the copy --------------------------------------------------------------------------------

    def _copy(self, promotion: Promotion) -> None:
        keys = [
            step.gate.key for step in self._store.steps(promotion.id) if step.gate.kind == SIGNATURE
        ]
        rule = rule_of(
            f"pipeline-{promotion.pipeline}-{promotion.stage}"[:63],
            promotion.project,
            promotion.source,
            promotion.digest,
            promotion.destination,
            keys[0] if keys else None,
        )
        execution = self._work.begin_copy(promotion, rule)
        if not execution:
            return
        log.info("promotion_copying", promotion=promotion.id, execution=execution)
        try:
            self._announce(execution)
        except Exception as error:  # noqa: BLE001 - Redis may be away: the row is what counts
            log.warning("announcement_lost", execution=execution, error=type(error).__name__)

    def _copied(self, promotion: Promotion) -> None:
        """See what the copy has come to: its execution proves what it says, or says why not."""
        try:
            record = self._executions.get(promotion.execution)
        except NotFoundInStore:
            self._work.end(
                promotion,
                PromotionState.FAILED,
                f"its execution {promotion.execution} is not kept any more; ask for it again",
            )
            return
        if not record.state.ended:
            return
        if record.state is ExecutionState.SUCCEEDED:
            self._placed(promotion)
            return
        why = f": {record.reason}" if record.reason else ""
        if record.state is ExecutionState.STOPPED:
            ended = PromotionState.CANCELLED
            reason = record.reason or f"execution {record.id} was stopped"
        else:
            ended = PromotionState.FAILED
            reason = (
                f"execution {record.id} ended {record.state}{why} "
                f"(transship executions failures {record.id}; then ask for it again)"
            )
        self._work.end(promotion, ended, reason)
        log.info("promotion_ended", promotion=promotion.id, state=str(ended))

    def _placed(self, promotion: Promotion) -> None:
        """Note that the name is the digest now; an execution may succeed and leave a name to a release that holds it."""
        copied = self._work.copied(promotion)
        if not copied.there:
            self._work.end(promotion, PromotionState.FAILED, copied.reason)
            return
        following = None
        try:
            following = self._asker.following(promotion)
        except (InvalidInput, NotFoundInStore) as error:
            log.warning("promotion_goes_no_further", promotion=promotion.id, reason=error.message)
        crashpoint("promotion.before_place")
        if self._work.place(promotion, copied.found, following):
            log.info("promotion_placed", promotion=promotion.id, stage=promotion.stage)

    # ---- pushes ----------------------------------------------------------------------------------

    def _push(self, push: Push) -> None:
        try:
            pipeline = self._pipelines.get(push.pipeline).pipeline
            asked = self._asker.of_push(pipeline, push.repository, push.tag)
        except WrongRegion:
            return  # a process of another jurisdiction looks
        except (NotFoundInStore, InvalidInput) as error:
            log.warning("push_not_promoted", pipeline=push.pipeline, reason=error.message)
            asked = None
        except Conflict as error:
            if self._postponed(push):
                return
            log.warning("push_not_promoted", pipeline=push.pipeline, reason=error.message)
            asked = None
        except (
            Exception
        ):  # such as a password that no key here opens: that is not the others' trouble
            log.exception("push_broke", pipeline=push.pipeline)
            if self._postponed(push):
                return
            asked = None
        self._work.promote(push, asked)

    def _postponed(self, push: Push) -> bool:
        """Have a push looked at again later; not for ever. Raises StoreUnavailable when the database is away."""
        if push.attempts + 1 >= PUSH_ATTEMPTS:
            return False
        pause = self._settings.retry_seconds * 2.0 ** min(push.attempts, 10)
        self._work.postpone(push, min(pause, MAX_PUSH_SECONDS))
        return True


def _nobody(execution: str) -> None:
    """Tell nobody: whoever looks next finds it."""
    del execution
