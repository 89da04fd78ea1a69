"""Commands that ask a server: tokens, registries, rules, executions, apply."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.hooks import hook
from api.cli.progress import size

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder of a `transship up` on this machine; else TRANSSHIP_URL and TRANSSHIP_TOKEN.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
ENDED = {"succeeded", "partial", "failed", "stopped"}


def _list(items: Iterable[dict[str, Any]], as_json: bool, line: Callable[[Any], str]) -> None:
    if as_json:
        exits.print_json({"items": list(items), "next": None})
        return
    for item in items:
        click.echo(line(item))


@click.group()
def tokens() -> None:
    """See to who may speak to the server."""


@tokens.command("ls")
@DATA
@JSON
def list_tokens(data: Path | None, as_json: bool) -> None:
    """List tokens, revoked ones too."""
    with connect(data) as server:
        _list(
            server.items("/tokens"),
            as_json,
            lambda t: (
                f"{t['name']:24} {t['role']:10} {'revoked' if t['revoked_at'] else ''}".rstrip()
            ),
        )


@tokens.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), required=True)
@DATA
@JSON
def create_token(name: str, role: str, data: Path | None, as_json: bool) -> None:
    """Make a token and print it, this once."""
    with connect(data) as server:
        made = server.ask("POST", "/tokens", {"name": name, "role": role})
    if as_json:
        exits.print_json(made)
    else:
        click.echo(made["token"])


@tokens.command("revoke")
@click.argument("name")
@DATA
def revoke_token(name: str, data: Path | None) -> None:
    """End a token's life, at once."""
    with connect(data) as server:
        server.ask("DELETE", f"/tokens/{quote(name, safe='')}")


@click.group()
def registries() -> None:
    """See to where images come from and go to."""


registries.add_command(hook)


@registries.command("ls")
@DATA
@JSON
def list_registries(data: Path | None, as_json: bool) -> None:
    """List registries by name."""
    with connect(data) as server:
        _list(
            server.items("/registries"),
            as_json,
            lambda r: f"{r['name']:24} {r['effective']['region']:12} {r['effective']['url']}",
        )


@registries.command("show")
@click.argument("name")
@DATA
def show_registry(name: str, data: Path | None) -> None:
    """Print one registry as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/registries/{quote(name, safe='')}"))


@registries.command("delete")
@click.argument("name")
@DATA
def delete_registry(name: str, data: Path | None) -> None:
    """Forget a registry that no rule uses, itself or by a group."""
    with connect(data) as server:
        server.ask("DELETE", f"/registries/{quote(name, safe='')}")


@click.group()
def rules() -> None:
    """Say what is to be where, and run it."""


@rules.command("ls")
@DATA
@JSON
def list_rules(data: Path | None, as_json: bool) -> None:
    """List rules by name."""
    with connect(data) as server:
        _list(server.items("/rules"), as_json, _rule_line)


def _rule_line(rule: dict[str, Any]) -> str:
    effective = rule["effective"]
    to = ", ".join(
        one.get("registry") or f"group {one['group']}" for one in effective["destinations"]
    )
    every = effective["trigger"].get("every", "by hand")
    off = "" if effective["enabled"] else "  disabled"
    return f"{rule['name']:24} {effective['source']} -> {to}  {every}{off}"


@rules.command("show")
@click.argument("name")
@DATA
def show_rule(name: str, data: Path | None) -> None:
    """Print one rule as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/rules/{quote(name, safe='')}"))


@rules.command("delete")
@click.argument("name")
@DATA
def delete_rule(name: str, data: Path | None) -> None:
    """Forget a rule; its executions stay."""
    with connect(data) as server:
        server.ask("DELETE", f"/rules/{quote(name, safe='')}")


@rules.command("run")
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is the run's.")
@click.option("--timeout", type=float, help="Seconds to wait; then exit 3, and the work goes on.")
@click.option("--idempotency-key", help="Repeating it gives the run that it made first.")
@DATA
@JSON
def run_rule(
    name: str,
    wait: bool,
    timeout: float | None,
    idempotency_key: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Run a rule now; an open run of it is taken up."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    with connect(data) as server:
        path = f"/rules/{quote(name, safe='')}/executions"
        execution = server.ask("POST", path, **headers)
        if wait:
            execution = _follow(server, execution, timeout, as_json=as_json, lines=False)
        if as_json:
            exits.print_json(execution)
        else:
            click.echo(_describe(execution) if wait else execution["id"])
        code = _code(execution, _classes(server, execution)) if wait else 0
    sys.exit(code)


@click.group()
def executions() -> None:
    """Look at runs of rules, and stop them."""


@executions.command("ls")
@click.option("--rule", help="Only runs of this rule.")
@click.option("--state", help="Only runs in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@DATA
@JSON
def list_executions(
    rule: str | None, state: str | None, limit: int, data: Path | None, as_json: bool
) -> None:
    """List runs, the newest first."""
    query = {name: value for name, value in (("rule", rule), ("state", state)) if value}
    with connect(data) as server:
        found = server.items("/executions", **query)
        _list(
            _first(found, limit),
            as_json,
            lambda e: (
                f"{e['id']}  {e['created_at']}  {e['state']:10} {e['seconds'] or 0:9.1f} s  {e['rule']}"
            ),
        )


def _first(items: Iterator[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    for _, item in zip(range(limit), items, strict=False):
        yield item


@executions.command("show")
@click.argument("identity")
@DATA
def show_execution(identity: str, data: Path | None) -> None:
    """Print one run with its totals as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/executions/{quote(identity, safe='')}"))


@executions.command("watch")
@click.argument("identity")
@click.option("--timeout", type=float, help="Seconds to watch; then exit 3.")
@DATA
@JSON
def watch_execution(identity: str, timeout: float | None, data: Path | None, as_json: bool) -> None:
    """Show a run's totals until it ends; --json prints one line at every change."""
    with connect(data) as server:
        execution = server.ask("GET", f"/executions/{quote(identity, safe='')}")
        execution = _follow(server, execution, timeout, as_json=as_json, lines=True)
        code = _code(execution, _classes(server, execution))
    if not as_json:
        click.echo(_describe(execution))
    sys.exit(code)


@executions.command("stop")
@click.argument("identity")
@DATA
@JSON
def stop_execution(identity: str, data: Path | None, as_json: bool) -> None:
    """Stop a run; what is committed stays."""
    with connect(data) as server:
        execution = server.ask("POST", f"/executions/{quote(identity, safe='')}/stop")
    if as_json:
        exits.print_json(execution)
    else:
        click.echo(execution["state"])


@executions.command("failures")
@click.argument("identity")
@DATA
@JSON
def list_failures(identity: str, data: Path | None, as_json: bool) -> None:
    """List what failed, why, and what to do."""
    with connect(data) as server:
        path = f"/executions/{quote(identity, safe='')}/copies"
        _list(
            server.items(path, state=["failed", "superseded"]),
            as_json,
            lambda c: (
                f"{c['destination']}: [{c['class']}] {c['reason']}"
                + (f"\n  {c['hint']}" if c["hint"] else "")
            ),
        )


@click.command()
@click.option(
    "-f", "--file", "files", required=True, multiple=True, type=click.Path(), help="transship.yaml"
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@DATA
@JSON
def apply(files: tuple[str, ...], dry_run: bool, data: Path | None, as_json: bool) -> None:
    """Create or replace a file's registries and rules on a server."""
    from api.config_file import load_file

    configs = [load_file(file) for file in files]
    done: list[dict[str, str]] = []
    with connect(data) as server:
        for kind in ("registries", "rules"):
            present = {item["name"] for item in server.items(f"/{kind}")}
            for config in configs:
                for (its_kind, name), document in config.documents.items():
                    if its_kind != kind:
                        continue
                    if not dry_run:
                        server.ask("PUT", f"/{kind}/{name}", document)
                    action = "replaced" if name in present else "created"
                    done.append({"kind": kind, "name": name, "action": action})
    if as_json:
        exits.print_json({"schema": 1, "dry_run": dry_run, "changes": done})
    else:
        would = "would be " if dry_run else ""
        for change in done:
            click.echo(f"{change['kind']}/{change['name']} {would}{change['action']}")


def _follow(
    server: Connection,
    execution: dict[str, Any],
    timeout: float | None,
    *,
    as_json: bool,
    lines: bool,
) -> dict[str, Any]:
    """Watch until the end, or until the time is up; returns the last totals."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for name, seen in server.events(execution["id"]):
        if name == "problem":
            break
        execution = seen
        if as_json and lines:
            click.echo(_line(seen))
        elif not as_json:
            click.echo(_describe(seen), err=True)
        if deadline is not None and time.monotonic() >= deadline:
            break
    if execution["state"] not in ENDED:
        click.echo(f"transship: no end in time; {execution['id']} goes on", err=True)
    return execution


def _line(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value, separators=(",", ":"))


def _describe(execution: dict[str, Any]) -> str:
    copies, moved = execution["copies"], execution["bytes"]
    if execution["reason"]:
        return f"{execution['rule']}: {execution['state']}: {execution['reason']}"
    return (
        f"{execution['rule']}: {execution['state']}: {copies['copied']} copied, "
        f"{copies['unchanged']} unchanged, {copies['skipped']} skipped, {copies['failed']} failed, "
        f"{copies['pending']} pending; {size(moved['copied'])} moved, "
        f"{size(moved['saved'])} saved by sharing"
    )


def _classes(server: Connection, execution: dict[str, Any]) -> set[str]:
    """Return the classes of an execution's failures: they decide between exit codes 1, 2 and 3."""
    if execution["state"] != "failed":
        return set()
    path = f"/executions/{quote(execution['id'], safe='')}/copies"
    failed = itertools.islice(server.items(path, state="failed"), 1000)
    return {copy["class"] for copy in failed} | ({execution["class"]} - {""})


def _code(execution: dict[str, Any], failed_as: Iterable[str] = ()) -> int:
    if execution["state"] not in ENDED:
        return exits.UNKNOWN
    classes = [{"class": name} for name in failed_as]
    return exits.of_report({**execution, "failures": classes})
