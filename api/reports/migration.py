"""What a report says of a migration beside its executions: its waves, its looks at the fleet, its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.bootstrap import Services
from service.errors import NotFoundInStore
from service.replication.full_report import Section
from service.store.executions import ExecutionRecord

LOOKS = ("inventory", "freeze", "proof")
MOST_FINDINGS = 200
_BARE = {"done": "succeeded", "failed": "failed"}


def waves(services: Services, shown: Mapping[str, Any]) -> tuple[list[Section], list[str]]:
    """Return a section for each wave of a migration as the API shows it, and what is not known any more."""
    found, lost = [], []
    for wave in shown["waves"]:
        kept = [one for one in wave["executions"] if _record(services, one) is not None]
        if gone := len(wave["executions"]) - len(kept):
            lost.append(
                f"wave {wave['name']}: {gone} of its older executions are not kept any more; what they did is not in "
                "this report"
            )
        bare = _BARE.get(wave["state"], "pending")
        found.append(Section(wave["name"], tuple(kept), bare, wave["fleet"] or None))
    return found, lost


def told(services: Services, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a migration stands: what its looks came to, and what the newest of them found wrong."""
    surveys = services.migration_surveys.latest(shown["name"])
    newest = max(surveys.values(), key=lambda one: one.id, default=None)
    findings: Sequence[Any] = ()
    if newest is not None:
        findings = services.migration_surveys.findings(newest.id, limit=MOST_FINDINGS)
    return {
        **{key: shown[key] for key in ("name", "source", "destination", "state", "proved")},
        **{kind: shown[kind] for kind in LOOKS},
        "findings": [
            {
                "kind": one.kind,
                "repository": one.repository,
                "tag": one.tag or None,
                "destination": one.destination or None,
                "wanted": one.wanted or None,
                "found": one.found or None,
                "reason": one.reason,
            }
            for one in findings
        ],
    }


def _record(services: Services, identity: str) -> ExecutionRecord | None:
    try:
        return services.executions.get(identity)
    except NotFoundInStore:
        return None
