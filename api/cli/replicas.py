"""transship replicas: registries that keep the whole instance of a primary."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, part

RULE = click.option("--rule", required=True, help="The rule that it follows.")


@click.group()
def replicas() -> None:
    """See what follows a primary and what somebody else changed there; promote, reverse, repair."""


@replicas.command("ls")
@click.option("--rule", help="Only those of this rule.")
@DATA
@JSON
def list_replicas(rule: str | None, data: Path | None, as_json: bool) -> None:
    """List replicas: where each is in its life, how far behind, and how much drift there is."""
    with connect(data) as server:
        tables.show(
            server.items("/replicas", **({"rule": rule} if rule else {})),
            as_json,
            (
                ("RULE", lambda r: r["rule"]),
                ("REGISTRY", lambda r: r["registry"]),
                ("PRIMARY", lambda r: r["primary"]),
                ("STATE", lambda r: r["state"]),
                ("WAITING", lambda r: r["lag"]["waiting"]),
                ("LAG", lambda r: f"{r['lag']['seconds']:.0f}s"),
                ("DRIFT", lambda r: sum(r["drift"].values())),
                ("NOTE", lambda r: r["note"]),
            ),
        )


replicas.add_command(list_replicas, "list")


@replicas.command("show")
@click.argument("registry")
@RULE
@DATA
def show_replica(registry: str, rule: str, data: Path | None) -> None:
    """Print one replica as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", _path(rule, registry)))


@replicas.command("drift")
@click.argument("registry")
@RULE
@click.option("--repaired", is_flag=True, help="What was put right within the last week.")
@DATA
@JSON
def list_drift(registry: str, rule: str, repaired: bool, data: Path | None, as_json: bool) -> None:
    """List what somebody else changed at a replica; the exit code is 1 where something is open."""
    with connect(data) as server:
        query = {"state": "repaired"} if repaired else {}
        found = list(server.items(f"{_path(rule, registry)}/drift", **query))
    tables.show(
        found,
        as_json,
        (
            ("NAME", _name),
            ("KIND", lambda d: d["kind"]),
            ("FOUND", lambda d: d["found"]),
            ("WANTED", lambda d: d["wanted"]),
            ("SINCE", lambda d: d["first_at"]),
        ),
    )
    if found and not repaired:
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)


@replicas.command("promotion")
@click.argument("registry")
@RULE
@DATA
@JSON
def show_promotion(registry: str, rule: str, data: Path | None, as_json: bool) -> None:
    """List what would be lost if a replica took over; the exit code is 1 where something would."""
    with connect(data) as server:
        found = server.ask("GET", f"{_path(rule, registry)}/promotion")
    _tell_missing(found, as_json=as_json)
    if found["missing"]:
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)


@replicas.command("promote")
@click.argument("registry")
@RULE
@click.option("--accept-missing", is_flag=True, help="Go on though something may be lost.")
@DATA
@JSON
def promote_replica(
    registry: str, rule: str, accept_missing: bool, data: Path | None, as_json: bool
) -> None:
    """Make a replica the primary: it is read from now on, and the other replicas follow it.

    What it may lack is listed first, and refused unless --accept-missing says that it may be lost. The
    old primary is fenced: neither read nor written until `reverse` has it follow.
    """
    with connect(data) as server:
        before = _promotion(server, rule, registry)
        if before["missing"] and not accept_missing:
            _tell_missing(before, as_json=as_json)
            click.echo(
                f"{registry} is not promoted: repeat with --accept-missing to lose this", err=True
            )
            sys.exit(exits.REFUSED)
        body = {"accept_missing": accept_missing}
        found = server.ask("POST", f"{_path(rule, registry)}/promote", body)
    _tell_missing(found, as_json=as_json)
    click.echo(f"{registry} is the primary of rule {rule}", err=True)


@replicas.command("reverse")
@click.argument("registry")
@RULE
@DATA
def reverse_replica(registry: str, rule: str, data: Path | None) -> None:
    """Have a former primary that is back follow the new one.

    What it has and the new primary has not is listed as drift by the comparison that follows; nothing
    there is overwritten before `repair`.
    """
    with connect(data) as server:
        found = server.ask("POST", f"{_path(rule, registry)}/reverse")
    click.echo(f"{registry} follows {found['primary']} by rule {rule}", err=True)


@replicas.command("repair")
@click.argument("registry")
@RULE
@DATA
def repair_replica(registry: str, rule: str, data: Path | None) -> None:
    """Put right once what somebody else moved at a replica, whatever the rule says of drift."""
    with connect(data) as server:
        server.ask("POST", f"{_path(rule, registry)}/repair")
    click.echo(f"the next full execution of rule {rule} repairs {registry}", err=True)


def _promotion(server: Connection, rule: str, registry: str) -> dict[str, Any]:
    """Return what a promotion would lose; nothing where the registry is the primary already."""
    stored = server.ask("GET", f"/rules/{part(rule)}")
    if stored["source"] == registry:
        return {"missing": []}
    found: dict[str, Any] = server.ask("GET", f"{_path(rule, registry)}/promotion")
    return found


def _tell_missing(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        exits.print_json(found)
        return
    tables.show(
        found["missing"],
        as_json=False,
        columns=(
            ("MISSING", _name),
            ("WHY", lambda m: m["why"]),
            ("HELD BY", lambda m: m["held_by"]),
        ),
    )


def _name(found: dict[str, Any]) -> str:
    return f"{found['repository']}:{found['tag']}" if found["tag"] else str(found["repository"])


def _path(rule: str, registry: str) -> str:
    return f"/replicas/{part(rule)}/{part(registry)}"
