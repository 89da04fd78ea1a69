"""Plans and verifications that a server makes of its own rules, in the shapes of those made here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from api.cli.connection import Connection, connect
from api.cli.follow import carried_out, follow
from api.cli.options import part
from service.model.states import ExecutionState
from service.replication.findings import COUNTED, plans_together, verifications_together

LOOK_SECONDS = 0.3
_OF_A_PLAN = (
    "rule",
    "schema",
    "plan",
    "state",
    "copies",
    "bytes",
    "requests",
    "destinations",
    "links",
    "cost",
    "seconds_needed",
    "problems",
)


def plans(rules: Sequence[str], data: Path | None, timeout: float | None) -> dict[str, Any]:
    """Have a server plan rules of its own; returns what `plan -f` would, when it is done or time is up."""
    begun = time.monotonic()
    with connect(data) as server:
        made = _begin(server, "/plans", [{"rule": name} for name in dict.fromkeys(rules)])
        for one in made:
            follow(server, one, _left(begun, timeout))
        each = [server.ask("GET", f"/plans/{part(one['id'])}") for one in made]
    return plans_together(
        [{key: one[key] for key in _OF_A_PLAN} for one in each], time.monotonic() - begun
    )


def carry_out_words(data: Path | None) -> str:
    """Return the command that carries a server's plan out, with {plan} in the place of its id."""
    return "transship sync --plan {plan}" + ("" if data is None else f" --data {data}")


def carry_out(plan: str, data: Path | None, timeout: float | None, *, as_json: bool) -> int:
    """Have a server carry a plan of its own out, print what that came to, return the exit code."""
    with connect(data) as server:
        click.echo(f"transship: {server.url} carries it out", err=True)
        execution = server.ask("POST", f"/plans/{part(plan)}/executions")
        return carried_out(server, execution, timeout, as_json=as_json)


def verifications(
    rules: Sequence[str], data: Path | None, timeout: float | None, *, repair: bool
) -> dict[str, Any]:
    """Have a server verify rules of its own; returns what `verify -f` would."""
    begun = time.monotonic()
    with connect(data) as server:
        bodies = [{"rule": name, "repair": repair} for name in dict.fromkeys(rules)]
        made = _begin(server, "/verifications", bodies)
        for one in made:
            last = follow(server, one, _left(begun, timeout))
            if repair and ExecutionState(last["state"]).ended:
                _follow_repair(server, last, begun, timeout)
        found = [server.ask("GET", f"/verifications/{part(one['id'])}") for one in made]
        reports = [server.ask("GET", f"/executions/{part(one['id'])}/report") for one in made]
    together = verifications_together(
        [one["id"] for one in found],
        [ExecutionState(one["state"]) for one in found],
        [{name: one[name] for name in COUNTED} for one in found],
        [failure for one in reports for failure in one["failures"]],
        time.monotonic() - begun,
    )
    return {**together, "failures_total": sum(one["failures_total"] for one in reports)}


def _begin(server: Connection, path: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Begin all, so that none waits for the others; nothing is begun when a rule is not there."""
    click.echo(f"transship: engine of {server.url}", err=True)
    for body in bodies:
        server.ask("GET", f"/rules/{part(body['rule'])}")
    return [server.ask("POST", path, body) for body in bodies]


def _follow_repair(
    server: Connection, ended: dict[str, Any], begun: float, timeout: float | None
) -> None:
    """Follow the repair of an ended verification to its end; there is one when something is not whole."""
    if ended["state"] == ExecutionState.STOPPED:
        return
    while True:
        found = server.ask("GET", f"/verifications/{part(ended['id'])}")
        left = _left(begun, timeout)
        if found["repair"]:
            follow(server, {"id": found["repair"], "state": "pending"}, left)
            return
        if not found["holes"] or left == 0:
            return
        time.sleep(LOOK_SECONDS)


def _left(begun: float, timeout: float | None) -> float | None:
    return None if timeout is None else max(0.0, begun + timeout - time.monotonic())
