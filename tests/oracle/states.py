"""O5: what the product says of its executions holds: all ended, counted right, no false success.

Judges documents as the HTTP API gives them; whether the destination is right comes from the closure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.oracle.counts import COUNTS

ENDED = frozenset({"succeeded", "partial", "failed", "stopped"})
ENDED_COPIES = frozenset({"copied", "unchanged", "skipped", "superseded", "failed", "stopped"})
TOLD = {"copied": ("copied",), "failed": ("failed", "superseded")}
"""What an execution counts, and the states of the copies that are in it."""

FALSE_SUCCESS = "FALSE SUCCESS"

Document = Mapping[str, Any]


def judge_executions(
    executions: Sequence[Document],
    copies: Mapping[str, Sequence[Document]],
    *,
    holes: Iterable[str] = (),
    at_least: int = 1,
) -> list[str]:
    """Judge executions with their copies (execution id -> copies); one sentence a fault.

    `holes`: destinations "registry/repository:tag" that the closure found wrong. A copy that says
    copied and whose place has a hole is a false success, the gravest fault. `at_least`: so many
    executions the scenario made; fewer means that the oracle looked at nothing.
    """
    found = []
    if len(executions) < at_least:
        found.append(f"{len(executions)} executions, at least {at_least} were made")
    wrong = set(holes)
    for execution in executions:
        name, state = execution["id"], execution["state"]
        if state not in ENDED:
            found.append(f"execution {name} is {state}: it has not ended")
        found += _copies(name, state, copies.get(name, ()), wrong)
        found += _counts(execution, copies.get(name, ()))
        COUNTS["copies judged"] += len(copies.get(name, ()))
    COUNTS["false successes"] += sum(FALSE_SUCCESS in fault for fault in found)
    return found


def _copies(name: str, state: str, copies: Sequence[Document], wrong: set[str]) -> list[str]:
    found = []
    for copy in copies:
        place = copy["destination"]
        if copy["state"] not in ENDED_COPIES:
            found.append(f"execution {name}: the copy to {place} is {copy['state']}")
        if copy["state"] == "copied" and place in wrong:
            found.append(f"{FALSE_SUCCESS}: execution {name} says copied of {place}")
        if copy["state"] == "failed":
            if not copy.get("class"):
                found.append(f"execution {name}: {place} failed without a class")
            if not copy.get("reason"):
                found.append(f"execution {name}: {place} failed without a reason")
            if state == "succeeded":
                found.append(f"{FALSE_SUCCESS}: execution {name} succeeded, and {place} failed")
        if copy["state"] == "stopped" and state == "succeeded":
            found.append(f"{FALSE_SUCCESS}: execution {name} succeeded, and {place} was stopped")
    return found


def _counts(execution: Document, copies: Sequence[Document]) -> list[str]:
    """The execution's own numbers are those of its copies."""
    told = execution.get("copies") or {}
    counted = Counter(copy["state"] for copy in copies)
    return [
        f"execution {execution['id']} tells of {told[name]} copies {name}, it has {number}"
        for name, states in TOLD.items()
        if (number := sum(counted[state] for state in states)) != told.get(name, number)
    ]
