"""Start, stop and end executions."""

from __future__ import annotations

from collections.abc import Collection

from service.errors import Conflict
from service.model.pipeline import TRIGGER as PROMOTION
from service.model.ports import Publisher
from service.model.states import ExecutionState
from service.replication.select import ALL_TAGS
from service.store.creation import RETRY
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.rules import RuleStore

MAX_RETRIED = 10_000
"""So many failures are retried one by one; with more, the rule looks at everything again."""


def start(
    rules: RuleStore,
    executions: ExecutionStore,
    rule: str,
    *,
    trigger: str = "api",
    idempotency_key: str | None = None,
) -> ExecutionRecord:
    """Save a pending execution of a rule; the scheduler sends it, whatever happens to the caller.

    Raises NotFoundInStore for an unknown rule. While an execution of the rule is open, that one is
    returned.
    """
    stored = rules.get(rule)
    return executions.create(stored.rule, trigger=trigger, idempotency_key=idempotency_key)


def retry(
    executions: ExecutionStore,
    identity: str,
    *,
    classes: Collection[str] = (),
    idempotency_key: str | None = None,
) -> ExecutionRecord:
    """Save an execution of what failed or was stopped in an ended one, by the same rule as then.

    `classes`: only what failed with these classes; none are all. A reference goes to all destinations of the
    rule again, whichever of them it failed at. Where the listing itself failed, or MAX_RETRIED and more did, the
    whole rule runs again. Raises NotFoundInStore, and Conflict for an execution that has not ended, or that left
    nothing (of these classes) to retry.
    """
    record = executions.get(identity)
    if not record.state.ended:
        raise Conflict(f"execution {identity} has not ended", hint="stop it first, or wait for it")
    if record.kind not in ("full", "tags"):
        what = {"verify": "a verification", "plan": "a plan"}.get(record.kind, "of a plan")
        raise Conflict(
            f"execution {identity} is {what}: there is nothing that it could try again",
            hint="verify with repair, or make another plan",
        )
    if record.trigger == PROMOTION:
        raise Conflict(
            f"execution {identity} is a promotion's: its gates have agreed to that one copy",
            hint="ask for the promotion again: transship promote",
        )
    rule = executions.spec(identity)
    references = executions.unfinished_references(identity, MAX_RETRIED, classes)
    whole = record.failure_class
    if record.state is ExecutionState.STOPPED and not record.planned:
        whole = whole or "stopped"
    if whole and (not classes or whole in classes):
        return executions.create(rule, trigger=RETRY, idempotency_key=idempotency_key)
    if not references and classes:
        there = dict.fromkeys(filter(None, [whole, *executions.unfinished_classes(identity)]))
        raise Conflict(
            f"nothing in execution {identity} failed as {' or '.join(classes)}",
            hint=f"what failed there: {', '.join(there)}" if there else "run the rule instead",
        )
    if not references:
        raise Conflict(f"nothing failed in execution {identity}", hint="run the rule instead")
    if len(references) >= MAX_RETRIED or any(name == ALL_TAGS for name, _ in references):
        return executions.create(rule, trigger=RETRY, idempotency_key=idempotency_key)
    return executions.create_tags(rule, references, trigger=RETRY, idempotency_key=idempotency_key)


def stop(executions: ExecutionStore, identity: str) -> ExecutionRecord:
    """Begin to stop an execution; an ended one is returned as it is. Raises NotFoundInStore."""
    executions.get(identity)
    return executions.request_stop(identity)


def send_now(publisher: Publisher, execution: ExecutionRecord) -> None:
    """Spare a new execution the scheduler's next look; losing this message costs only that look."""
    publisher.plan(execution.id)
