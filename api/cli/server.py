"""Commands that ask a server for tokens, registries and rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.follow import carried_out
from api.cli.hooks import hook
from api.cli.notes import notes
from api.cli.options import DATA, JSON, SECONDS, part
from api.cli.webhook import webhook


@click.group()
def tokens() -> None:
    """See to who may speak to the server."""


@tokens.command("ls")
@DATA
@JSON
def list_tokens(data: Path | None, as_json: bool) -> None:
    """List tokens, revoked ones too."""
    with connect(data) as server:
        tables.show(
            server.items("/tokens"),
            as_json,
            (
                ("NAME", lambda t: t["name"]),
                ("ID", lambda t: t["id"]),
                ("ROLE", lambda t: t["role"]),
                ("PROJECT", lambda t: t["project"] or ("" if t.get("region") else "all")),
                ("REGION", lambda t: t.get("region") or ""),
                ("EXPIRES", lambda t: t["expires_at"] or "never"),
                ("STANDING", lambda t: "revoked" if t["revoked_at"] else ""),
            ),
        )


@tokens.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin", "agent"]), required=True)
@click.option("--project", help="See and touch this project only; without it the whole platform.")
@click.option(
    "--region", help="Of role agent: the region whose copies it fetches, and nothing else."
)
@click.option("--expires-in", help='How long it lives, such as "30d"; without it for ever.')
@DATA
@JSON
def create_token(
    name: str,
    role: str,
    project: str | None,
    region: str | None,
    expires_in: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print it, this once."""
    body: dict[str, Any] = {"name": name, "role": role}
    body |= {"project": project} if project else {}
    body |= {"region": region} if region else {}
    body |= {"expires_in": expires_in} if expires_in else {}
    with connect(data) as server:
        made = server.ask("POST", "/tokens", body)
    if as_json:
        exits.print_json(made)
    else:
        click.echo(made["token"])


@tokens.command("revoke")
@click.argument("name")
@DATA
@JSON
def revoke_token(name: str, data: Path | None, as_json: bool) -> None:
    """End a token's life, at once."""
    path = f"/tokens/{part(name)}"
    with connect(data) as server:
        server.ask("DELETE", path)
        if as_json:
            exits.print_json(server.ask("GET", path))
    click.echo(f"token {name} is revoked: whoever bears it is refused from now on", err=True)


@click.group()
def registries() -> None:
    """See to where images come from and go to."""


registries.add_command(hook)
registries.add_command(webhook)


@registries.command("ls")
@DATA
@JSON
def list_registries(data: Path | None, as_json: bool) -> None:
    """List registries by name."""
    with connect(data) as server:
        tables.show(
            server.items("/registries"),
            as_json,
            (
                ("NAME", lambda r: r["name"]),
                ("REGION", lambda r: r["effective"]["region"]),
                ("URL", lambda r: r["effective"]["url"]),
                ("PROVIDER", lambda r: r["effective"]["provider"]),
                ("GROUPS", lambda r: r["effective"]["groups"]),
                ("HEALTH", lambda r: (r.get("health") or {}).get("state", "")),
                ("STANDING", _held),
            ),
        )


def _held(registry: dict[str, Any]) -> str:
    health = registry.get("health") or {}
    if health.get("holds"):
        return f"held back: {health['reason']}"
    return "paused" if registry["paused_at"] else ""


@registries.command("show")
@click.argument("name")
@DATA
def show_registry(name: str, data: Path | None) -> None:
    """Print one registry as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/registries/{part(name)}"))


@registries.command("delete")
@click.argument("name")
@DATA
def delete_registry(name: str, data: Path | None) -> None:
    """Forget a registry that no rule uses, itself or by a group."""
    with connect(data) as server:
        server.ask("DELETE", f"/registries/{part(name)}")
    click.echo(f"registry {name} is forgotten", err=True)


@registries.command("pause")
@click.argument("name")
@DATA
def pause_registry(name: str, data: Path | None) -> None:
    """Send a registry no more requests; what waits for it is kept."""
    with connect(data) as server:
        server.ask("POST", f"/registries/{part(name)}/pause")
    click.echo(
        f"registry {name} is paused: it gets no more requests, and its work is kept until "
        f"`transship registries resume {name}`",
        err=True,
    )


@registries.command("resume")
@click.argument("name")
@DATA
def resume_registry(name: str, data: Path | None) -> None:
    """Speak to a registry again."""
    with connect(data) as server:
        server.ask("POST", f"/registries/{part(name)}/resume")
    click.echo(f"registry {name} goes on", err=True)


@click.group()
def rules() -> None:
    """Say what is to be where, and run it."""


@rules.command("ls")
@DATA
@JSON
def list_rules(data: Path | None, as_json: bool) -> None:
    """List rules by name."""
    with connect(data) as server:
        tables.show(
            server.items("/rules"),
            as_json,
            (
                ("NAME", lambda r: r["name"]),
                ("PROJECT", lambda r: r["effective"]["project"]),
                ("WAY", _way),
                ("TRIGGER", _trigger),
                ("NEXT RUN", lambda r: r["next_run_at"]),
                ("STANDING", _standing),
            ),
        )


def _way(rule: dict[str, Any]) -> str:
    to = ", ".join(
        one.get("registry") or f"group {one['group']}" for one in rule["effective"]["destinations"]
    )
    return f"{rule['effective']['source']} -> {to}"


def _trigger(rule: dict[str, Any]) -> str:
    trigger = rule["effective"]["trigger"]
    written = rule.get("trigger", {}).get("every")  # effective is in seconds
    told = [f"every {written or trigger['every']}"] if trigger.get("every") else []
    if trigger.get("schedule"):
        told.append(f"{trigger['schedule']} {trigger.get('timezone', 'UTC')}")
    told += ["events"] if trigger.get("event") else []
    return " + ".join(told) or "by hand"


def _standing(rule: dict[str, Any]) -> str:
    if rule["paused_at"]:
        return "paused"
    if not rule["effective"]["enabled"]:
        return "disabled"
    told = []
    for alert in rule.get("alerts", ()):  # a server of an earlier version tells none
        where = f" in {alert['region']}" if alert["region"] else ""
        told.append(f"{_ALERTS.get(alert['kind'], alert['kind'])}{where}")
    return ", ".join(told)


_ALERTS = {"late": "late", "idle": "did not run", "empty": "matches nothing"}


@rules.command("show")
@click.argument("name")
@DATA
def show_rule(name: str, data: Path | None) -> None:
    """Print one rule as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/rules/{part(name)}"))


@rules.command("lag")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@DATA
def lag_of_rule(name: str, as_json: bool, data: Path | None) -> None:
    """Show how long the oldest change at the source has not been at each destination."""
    with connect(data) as server:
        found = server.ask("GET", f"/rules/{part(name)}/lag")
    if as_json:
        exits.print_json(found)
        return
    for one in found["destinations"]:
        took = (
            "" if one["last_seconds"] is None else f", the last copy took {one['last_seconds']:g} s"
        )
        behind = f"{one['seconds']:g} s behind" if one["seconds"] else "all is there"
        click.echo(f"{one['registry']} ({one['region']}): {behind}{took}")
    if found["objective_seconds"] is None:
        return
    unseen = found["unseen_seconds"]
    looked = "" if unseen is None else f"; the last good look was {unseen:.0f} s ago"
    kept = "kept" if found["kept"] else "missed"
    click.echo(f"objective: {found['objective_seconds']:g} s, {kept} now{looked}")
    budget = found["budget"]
    days = budget["window_seconds"] / 86400
    for region, one in budget["regions"].items():
        click.echo(
            f"{region}: within it {one['within']:.3%} of the last {days:g} days or since the rule is "
            f"there, {budget['target']:g} is the target; {one['left']:.1%} of the error budget is left"
        )


@rules.command("delete")
@click.argument("name")
@DATA
def delete_rule(name: str, data: Path | None) -> None:
    """Forget a rule; its executions stay."""
    with connect(data) as server:
        server.ask("DELETE", f"/rules/{part(name)}")
    click.echo(f"rule {name} is forgotten; its executions stay", err=True)


@rules.command("pause")
@click.argument("name")
@DATA
def pause_rule(name: str, data: Path | None) -> None:
    """Begin nothing more for a rule; what is under way goes on when it is resumed."""
    with connect(data) as server:
        server.ask("POST", f"/rules/{part(name)}/pause")
    click.echo(
        f"rule {name} is paused: its work is kept until `transship rules resume {name}`", err=True
    )


@rules.command("resume")
@click.argument("name")
@DATA
def resume_rule(name: str, data: Path | None) -> None:
    """Go on with a rule where it stood."""
    with connect(data) as server:
        server.ask("POST", f"/rules/{part(name)}/resume")
    click.echo(f"rule {name} goes on", err=True)


@rules.command("run")
@click.argument("name")
@click.option(
    "--only", multiple=True, help="Look at this source reference only: repository:tag or @digest."
)
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is the run's.")
@click.option(
    "--timeout", type=SECONDS, help="How long to wait: 30s, 5m; then exit 3, and the work goes on."
)
@click.option("--idempotency-key", help="Repeating it gives the run that it made first.")
@DATA
@JSON
def run_rule(
    name: str,
    only: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    idempotency_key: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Run a rule now; an open run of it is taken up."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    with connect(data) as server:
        body = {"only": list(only)} if only else None
        execution = server.ask("POST", f"/rules/{part(name)}/executions", body, **headers)
        if wait:
            sys.exit(carried_out(server, execution, timeout, as_json=as_json))
    if as_json:
        exits.print_json(execution)
    else:
        click.echo(execution["id"])
        for note in notes(execution):
            click.echo(note, err=True)
