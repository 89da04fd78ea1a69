"""transship deletions: see what is to be deleted, approve it, or undo it in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part


@click.group()
def deletions() -> None:
    """See what goes at destinations because it went at the source; approve it, or undo it in time."""


@deletions.command("ls")
@click.option("--rule", help="Only those of this rule.")
@click.option("--state", help="Only those in this state: waiting, pending, done, ...")
@DATA
@JSON
def list_deletions(rule: str | None, state: str | None, data: Path | None, as_json: bool) -> None:
    """List deletions, the newest first."""
    query = {name: value for name, value in (("rule", rule), ("state", state)) if value}
    with connect(data) as server:
        tables.show(
            server.items("/deletions", **query),
            as_json,
            (
                ("ID", lambda d: d["id"]),
                ("STATE", lambda d: d["state"]),
                ("TAGS", _tags),
                ("RULE", lambda d: d["rule"]),
                ("REGISTRY", lambda d: d["registry"]),
                ("DUE", lambda d: d["due_at"] if d["state"] == "pending" else None),
                ("REASON", lambda d: d["reason"]),
            ),
        )


def _tags(found: dict[str, Any]) -> str:
    """Return how many tags go, of how many; the latter is not counted before they are checked."""
    known = found["state"] != "checking"
    return f"{found['tags']} of {found['of_tags']}" if known else str(found["tags"])


@deletions.command("show")
@click.argument("identity")
@DATA
@JSON
def show_deletion(identity: str, data: Path | None, as_json: bool) -> None:
    """Print a deletion with its tags, and what became of each."""
    with connect(data) as server:
        found = server.ask("GET", f"/deletions/{part(identity)}")
        tags = list(server.items(f"/deletions/{part(identity)}/tags"))
    if as_json:
        exits.print_json({**found, "items": tags})
        return
    click.echo(
        f"{found['id']}  {found['state']}  {_tags(found)} tags of "
        f"{found['rule']} at {found['registry']}  {found['reason']}".rstrip(),
        err=True,
    )
    tables.show(
        tags,
        as_json=False,
        columns=(
            ("TAG", lambda t: t["tag"]),
            ("STATE", lambda t: t["state"]),
            ("SOURCE", lambda t: t["source"]),
            ("REASON", lambda t: t["reason"]),
            ("HINT", lambda t: t["hint"]),
        ),
    )


@deletions.command("approve")
@click.argument("identity")
@DATA
@JSON
def approve_deletion(identity: str, data: Path | None, as_json: bool) -> None:
    """Let a deletion that waits go on: its grace period begins."""
    _decide("approve", identity, data, as_json=as_json)


@deletions.command("cancel")
@click.argument("identity")
@DATA
@JSON
def cancel_deletion(identity: str, data: Path | None, as_json: bool) -> None:
    """Keep what is not deleted yet, now and later: Transship lets go of these tags."""
    _decide("cancel", identity, data, as_json=as_json)


def _decide(verb: str, identity: str, data: Path | None, *, as_json: bool) -> None:
    with connect(data) as server:
        found = server.ask("POST", f"/deletions/{part(identity)}/{verb}")
    if as_json:
        exits.print_json(found)
    else:
        click.echo(f"{found['id']} is {found['state']}{_what_follows(found)}", err=True)


def _what_follows(found: dict[str, Any]) -> str:
    if found["state"] == "pending":
        return (
            f": its {found['tags']} tags go at {found['due_at'][:19]}Z; until then `transship "
            f"deletions cancel {found['id']}` keeps them"
        )
    if found["state"] == "cancelled":
        return ": what is not deleted yet stays, and no later run deletes it"
    return ""
