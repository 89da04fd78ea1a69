"""What the commands of pipelines and promotions print."""

from __future__ import annotations

from typing import Any

import click

from api.cli import exits, tables


def words(found: dict[str, Any]) -> str:
    """Say in a line where a promotion stands."""
    start = f"promotion {found['id']} of {found['digest']} to {found['to']}: {found['state']}"
    if found["gate"] is None:
        return start + (f", execution {found['execution']}" if found["execution"] else "")
    step = found["steps"][found["gate"]]
    return f"{start} at gate {found['gate']} ({step_words(step)})"


def step_words(step: dict[str, Any]) -> str:
    """Say what a gate wants, and has."""
    if step["kind"] == "approval":
        wants = step["wants"]["approval"]
        told = f"{len(step['approvals'])} of {wants['count']} approvals by {wants['role']}s"
    elif step["kind"] == "scan":
        told = f"scan, nothing worse than {step['wants']['scan']['worst']}"
    else:
        told = step["kind"]
    return f"{told}; {step['reason']}" if step["reason"] else told


def tell(found: dict[str, Any], *, as_json: bool, told: str = "") -> None:
    """Print a promotion with its gates and its history; `told` is the line that stands there already."""
    if as_json:
        exits.print_json(found)
        return
    if words(found) != told:
        click.echo(words(found), err=True)
    if found["reason"]:
        click.echo(f"  {found['reason']}", err=True)
    click.echo(found["id"])
    tables.show(
        [{**step, "words": step_words(step)} for step in found["steps"]],
        as_json=False,
        columns=(
            ("GATE", lambda s: s["gate"]),
            ("KIND", lambda s: s["kind"]),
            ("STATE", lambda s: s["state"]),
            ("BY", lambda s: [one["actor"] for one in s["approvals"]]),
            ("DUE", lambda s: s["deadline_at"] if s["state"] == "waiting" else ""),
            ("REASON", lambda s: s["words"]),
        ),
    )
    tables.show(
        found["history"],
        as_json=False,
        columns=(
            ("AT", lambda h: h["at"]),
            ("WHO", lambda h: h["actor"]),
            ("WHAT", lambda h: h["event"]),
            ("GATE", lambda h: h["gate"]),
            ("REASON", lambda h: h["reason"]),
        ),
    )


def tell_pipeline(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a pipeline's stages."""
    if as_json:
        exits.print_json(found)
        return
    tables.show(
        found["effective"]["stages"],
        as_json=False,
        columns=(
            ("STAGE", lambda s: s["name"]),
            ("REGISTRY", lambda s: s["registry"]),
            ("NAME THERE", lambda s: f"{s['repository']}:{s['tag']}"),
            ("GATES", lambda s: [next(iter(gate)) for gate in s.get("gates", ())]),
            ("AUTO", lambda s: "yes" if s.get("auto") else ""),
            ("AFTER", lambda s: s.get("after", {}).get("webhook", "")),
        ),
    )
