"""Commands that ask a server for projects, secrets, webhooks and the audit log."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part
from service.errors import InvalidConfiguration

MAX_SECRET = 65536


@click.group()
def projects() -> None:
    """See to what the rules of each team may read and write; `apply` writes projects."""


@projects.command("ls")
@DATA
@JSON
def list_projects(data: Path | None, as_json: bool) -> None:
    """List projects by name; `default` is there when somebody has written it down."""
    with connect(data) as server:
        tables.show(
            server.items("/projects"),
            as_json,
            (
                ("NAME", lambda p: p["name"]),
                ("READS", lambda p: list(p["effective"].get("read", {}))),
                ("WRITES", lambda p: list(p["effective"].get("write", {}))),
            ),
        )


@projects.command("show")
@click.argument("name")
@DATA
def show_project(name: str, data: Path | None) -> None:
    """Print one project as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/projects/{part(name)}"))


@projects.command("delete")
@click.argument("name")
@DATA
def delete_project(name: str, data: Path | None) -> None:
    """Forget a project that has no rules, tokens and webhooks."""
    with connect(data) as server:
        server.ask("DELETE", f"/projects/{part(name)}")
    click.echo(f"project {name} is forgotten", err=True)


@click.group()
def secrets() -> None:
    """See to secrets that registries name as credentials.secret; none comes out again."""


@secrets.command("ls")
@DATA
@JSON
def list_secrets(data: Path | None, as_json: bool) -> None:
    """List secrets by name, with the hosts that may receive them."""
    with connect(data) as server:
        tables.show(
            server.items("/secrets"),
            as_json,
            (
                ("NAME", lambda s: s["name"]),
                ("HOSTS", lambda s: s["hosts"]),
                ("VERSION", lambda s: s["version"]),
                ("UPDATED", lambda s: s["updated_at"]),
            ),
        )


@secrets.command("set")
@click.argument("name")
@click.option(
    "--host", "hosts", multiple=True, required=True, help="HOST[:PORT] that may receive it."
)
@DATA
@JSON
def set_secret(name: str, hosts: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Store a secret that is read from standard input; on a terminal it is asked for."""
    if sys.stdin.isatty():
        value = click.prompt("secret", hide_input=True, err=True)
    else:
        value = sys.stdin.read(MAX_SECRET + 2).removesuffix("\n").removesuffix("\r")
    if not value:
        raise InvalidConfiguration("standard input is empty", hint="pipe the secret in")
    with connect(data) as server:
        stored = server.ask("PUT", f"/secrets/{part(name)}", {"value": value, "hosts": list(hosts)})
    if as_json:
        exits.print_json(stored)
    else:
        click.echo(f"{name} is at version {stored['version']}", err=True)


@secrets.command("delete")
@click.argument("name")
@DATA
def delete_secret(name: str, data: Path | None) -> None:
    """Forget a secret that no registry uses."""
    with connect(data) as server:
        server.ask("DELETE", f"/secrets/{part(name)}")
    click.echo(f"secret {name} is forgotten", err=True)


@click.group()
def webhooks() -> None:
    """See to who is told of outcomes, and whether the telling came through."""


@webhooks.command("ls")
@DATA
@JSON
def list_webhooks(data: Path | None, as_json: bool) -> None:
    """List webhooks by name."""
    with connect(data) as server:
        tables.show(
            server.items("/webhooks"),
            as_json,
            (
                ("NAME", lambda w: w["name"]),
                ("URL", lambda w: w["effective"]["url"]),
                ("EVENTS", lambda w: w["effective"]["events"]),
                ("ONLY", lambda w: w["effective"].get("only")),
                ("PROJECT", lambda w: w["effective"].get("project")),
                ("STANDING", lambda w: "" if w["effective"]["enabled"] else "disabled"),
            ),
        )


@webhooks.command("show")
@click.argument("name")
@DATA
def show_webhook(name: str, data: Path | None) -> None:
    """Print one webhook as JSON, without its secret."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/webhooks/{part(name)}"))


@webhooks.command("set")
@click.argument("name")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    default=("execution.*",),
    show_default=True,
    help="Such as execution.failed, copy.* or *; may be repeated.",
)
@click.option("--failures", is_flag=True, help="Only what went wrong.")
@click.option("--rule", "rules", multiple=True, help="Only of this rule; may be repeated.")
@click.option("--only-project", "of", multiple=True, help="Only of rules of this project.")
@click.option("--project", help="The project that it belongs to; without one, the platform's.")
@click.option("--secret-stdin", is_flag=True, help="Read the signing secret from standard input.")
@DATA
@JSON
def set_webhook(
    name: str,
    url: str,
    events: tuple[str, ...],
    failures: bool,
    rules: tuple[str, ...],
    of: tuple[str, ...],
    project: str | None,
    secret_stdin: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Have events posted to URL as CloudEvents; a stored secret stays while the URL does."""
    body: dict[str, Any] = {"url": url, "events": list(events)}
    body |= {"only": "failures"} if failures else {}
    body |= {"rules": list(rules)} if rules else {}
    body |= {"projects": list(of)} if of else {}
    body |= {"project": project} if project else {}
    if secret_stdin:
        body["secret"] = sys.stdin.read(MAX_SECRET + 2).removesuffix("\n").removesuffix("\r")
    with connect(data) as server:
        stored = server.ask("PUT", f"/webhooks/{part(name)}", body)
    if as_json:
        exits.print_json(stored)
        return
    click.echo(f"webhook {name} is told of {', '.join(events)} at {url}", err=True)
    if not stored["secret"]["set"]:
        click.echo("without a secret the events are not signed: --secret-stdin gives one", err=True)


@webhooks.command("delete")
@click.argument("name")
@DATA
def delete_webhook(name: str, data: Path | None) -> None:
    """Forget a webhook, and what is still to be sent to it."""
    with connect(data) as server:
        server.ask("DELETE", f"/webhooks/{part(name)}")
    click.echo(f"webhook {name} is forgotten, with what was still to be sent to it", err=True)


@webhooks.command("deliveries")
@click.argument("name")
@click.option("--state", help="Only pending, delivered or failed ones.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@DATA
@JSON
def list_deliveries(
    name: str, state: str | None, limit: int, data: Path | None, as_json: bool
) -> None:
    """List what was, or is to be, sent to a webhook, the newest first."""
    query = {"state": state} if state else {}
    with connect(data) as server:
        found = server.items(f"/webhooks/{part(name)}/deliveries", **query)
        tables.show(
            itertools.islice(found, limit),
            as_json,
            (
                ("ID", lambda d: d["id"]),
                ("CREATED", lambda d: d["created_at"]),
                ("EVENT", lambda d: d["event"]),
                ("STATE", lambda d: d["state"]),
                ("ATTEMPTS", lambda d: d["attempts"]),
                ("HTTP STATUS", lambda d: d["status"]),
                ("REASON", lambda d: d["reason"]),
            ),
        )


@click.group()
def audit() -> None:
    """See who changed what, and whether the log is whole."""


@audit.command("ls")
@click.option("--kind", help="Only of objects of this kind: rules, registries, ...")
@click.option("--name", help="Only of objects of this name.")
@click.option("--actor", help="Only by the token of this name.")
@click.option("--action", help="Only what was done so: put, delete, cross, hold, reseal, ...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@DATA
@JSON
def list_audit(
    kind: str | None,
    name: str | None,
    actor: str | None,
    action: str | None,
    limit: int,
    data: Path | None,
    as_json: bool,
) -> None:
    """List changes, the newest first."""
    given = (("kind", kind), ("name", name), ("actor", actor), ("action", action))
    query = {key: value for key, value in given if value}
    with connect(data) as server:
        tables.show(
            itertools.islice(server.items("/audit", **query), limit),
            as_json,
            (
                ("SEQ", lambda a: a["seq"]),
                ("AT", lambda a: a["at"]),
                ("ACTOR", lambda a: a["actor"]),
                ("ACTION", lambda a: a["action"]),
                ("OBJECT", lambda a: f"{a['kind']}/{a['name']}"),
                ("PROJECT", lambda a: a["project"]),
            ),
        )


@audit.command("verify")
@DATA
@JSON
def verify_audit(data: Path | None, as_json: bool) -> None:
    """Check that no row was altered or deleted; exit 1 and name the row when one was."""
    with connect(data) as server:
        found = server.ask("GET", "/audit/verification")
    if as_json:
        exits.print_json({"schema": 1, **found})
    elif found["whole"]:
        click.echo(f"whole: {found['rows']} rows, the last one's hash is {found['head']}")
    else:
        click.echo(f"broken: row {found['broken']}: {found['reason']}")
    sys.exit(0 if found["whole"] else exits.NOT_AS_THE_RULE_SAYS)
