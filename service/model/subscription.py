"""Webhooks out: which events a receiver wants, and the CloudEvents that tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

EXECUTION_EVENTS = (
    "execution.succeeded",
    "execution.partial",
    "execution.failed",
    "execution.stopped",
)
COPY_EVENTS = (
    "copy.copied",
    "copy.unchanged",
    "copy.skipped",
    "copy.superseded",
    "copy.failed",
    "copy.stopped",
)
RULE_EVENTS = (
    "rule.late",
    "rule.fresh",
    "rule.idle",
    "rule.running",
    "rule.empty",
    "rule.matching",
)
RELEASE_EVENTS = (
    "release.staged",
    "release.flipped",
    "release.set_back",
    "release.rolled_back",
    "release.mixed",
    "release.failed",
)
REPLICA_EVENTS = ("replica.drift", "replica.in_step", "replica.promoted", "replica.following")
PROMOTION_EVENTS = (
    "promotion.waiting",  # for people: somebody has to approve
    "promotion.placed",
    "promotion.rejected",
    "promotion.expired",
    "promotion.failed",
    "promotion.cancelled",
)
EVENT_TYPES = (
    *EXECUTION_EVENTS,
    *COPY_EVENTS,
    *RULE_EVENTS,
    *RELEASE_EVENTS,
    *REPLICA_EVENTS,
    *PROMOTION_EVENTS,
)
FAILURES = frozenset(
    {
        "execution.partial",
        "execution.failed",
        "copy.failed",
        "copy.superseded",
        "rule.late",
        "rule.idle",
        "rule.empty",
        "release.set_back",
        "release.mixed",
        "release.failed",
        "replica.drift",
        "promotion.rejected",
        "promotion.expired",
        "promotion.failed",
    }
)
TYPE_PREFIX = "transship."


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one webhook wants to hear; empty `rules` and `projects` mean all that it may hear of."""

    name: str
    url: str
    events: tuple[str, ...]
    only_failures: bool = False
    rules: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    project: str | None = None  # whose webhook it is; none: the platform's
    enabled: bool = True

    @property
    def wants_copies(self) -> bool:
        """Whether it wants to hear of single copies."""
        return self.enabled and any(
            event == "*" or event.startswith("copy.") for event in self.events
        )

    def wants(self, event: str, *, rule: str, project: str) -> bool:
        """Whether an event of a rule in a project is one of those that it is to be told."""
        if not self.enabled or (self.only_failures and event not in FAILURES):
            return False
        if self.project is not None and self.project != project:
            return False
        if (self.rules and rule not in self.rules) or (
            self.projects and project not in self.projects
        ):
            return False
        kind = event.partition(".")[0]
        return any(wanted in {"*", event, f"{kind}.*"} for wanted in self.events)


def cloud_event(
    identity: str, event: str, *, source: str, subject: str, at: float, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a CloudEvents 1.0 document (structured mode, JSON)."""
    return {
        "specversion": "1.0",
        "id": identity,
        "source": source,
        "type": f"{TYPE_PREFIX}{event}",
        "subject": subject,
        "time": datetime.fromtimestamp(at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": dict(data),
    }
