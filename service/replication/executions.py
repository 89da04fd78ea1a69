"""Start, stop and end executions."""

from __future__ import annotations

from service.model.ports import Publisher
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.rules import RuleStore


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


def stop(executions: ExecutionStore, identity: str) -> ExecutionRecord:
    """Begin to stop an execution; an ended one is returned as it is. Raises NotFoundInStore."""
    executions.get(identity)
    return executions.request_stop(identity)


def send_now(publisher: Publisher, execution: ExecutionRecord) -> None:
    """Spare a new execution the scheduler's next look; losing this message costs only that look."""
    publisher.plan(execution.id)
