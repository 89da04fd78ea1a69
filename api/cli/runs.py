"""transship executions: look at runs of rules, stop them, try again what failed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from api import documents
from api.cli import exits, tables
from api.cli.alike import Alike, alike
from api.cli.connection import Connection, connect
from api.cli.follow import carried_out, code, conclude, follow, line
from api.cli.notes import held, notes
from api.cli.options import DATA, JSON, SECONDS, part, write
from api.cli.progress import size
from service.errors import InvalidConfiguration
from service.model.failure_classes import CLASSES
from service.model.pipeline import TRIGGER as PROMOTION


@click.group()
def executions() -> None:
    """Look at runs of rules, stop them, try again what failed."""


@executions.command("ls")
@click.option("--rule", help="Only runs of this rule.")
@click.option("--state", help="Only runs in this state.")
@click.option("--project", help="Only runs of rules of this project.")
@click.option("--since", help="Only runs since this time: 2026-01-31T12:00:00Z.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@DATA
@JSON
def list_executions(
    rule: str | None,
    state: str | None,
    project: str | None,
    since: str | None,
    limit: int,
    data: Path | None,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    given = (("rule", rule), ("state", state), ("project", project), ("since", since))
    query = {name: value for name, value in given if value}
    with connect(data) as server:
        tables.show(
            _first(server.items("/executions", **query), limit),
            as_json,
            (
                ("ID", lambda e: e["id"]),
                ("CREATED", lambda e: e["created_at"]),
                ("STATE", lambda e: e["state"]),
                ("SECONDS", lambda e: f"{e['seconds'] or 0:.1f}"),
                ("RULE", lambda e: e["rule"]),
                ("WHAT", _what),
                ("REASON", lambda e: "; ".join([*filter(None, [e["reason"]]), *held(e)])),
            ),
        )


def _what(execution: dict[str, Any]) -> str:
    """Return what an execution does, and what began it: plans and verifications are no copies."""
    kind = execution["kind"]
    return f"{_KINDS.get(kind, kind)} by {execution['trigger']}"


_KINDS = {"full": "copy", "tags": "single tags"}


def _first(items: Iterator[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    for _, item in zip(range(limit), items, strict=False):
        yield item


@executions.command("show")
@click.argument("identity")
@DATA
@JSON
def show_execution(identity: str, data: Path | None, as_json: bool) -> None:
    """Print one run with its totals as JSON, with --json or without."""
    del as_json
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/executions/{part(identity)}"))


@executions.command("watch")
@click.argument("identity")
@click.option("--timeout", type=SECONDS, help="How long to watch: 30s, 5m; then exit 3.")
@DATA
@JSON
def watch_execution(identity: str, timeout: float | None, data: Path | None, as_json: bool) -> None:
    """Show a run live until it ends; --json prints one line at every change."""
    with connect(data) as server:
        execution = server.ask("GET", f"/executions/{part(identity)}")
        if not as_json:
            sys.exit(carried_out(server, execution, timeout, as_json=False))
        last = follow(server, execution, timeout, each=lambda seen: click.echo(line(seen)))
        report = server.ask("GET", f"/executions/{part(last['id'])}/report")
    sys.exit(code(report))


@executions.command("stop")
@click.argument("identity")
@DATA
@JSON
def stop_execution(identity: str, data: Path | None, as_json: bool) -> None:
    """Stop a run; what is committed stays."""
    with connect(data) as server:
        execution = server.ask("POST", f"/executions/{part(identity)}/stop")
    if as_json:
        exits.print_json(execution)
    else:
        click.echo(execution["state"])


@executions.command("retry")
@click.argument("identity")
@click.option(
    "--class",
    "classes",
    multiple=True,
    type=click.Choice(list(CLASSES)),
    metavar="CLASS",
    help="Only what failed with this class, as `failures` prints it; may be repeated.",
)
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is the run's.")
@click.option(
    "--timeout", type=SECONDS, help="How long to wait: 30s, 5m; then exit 3, and the work goes on."
)
@DATA
@JSON
def retry_execution(
    identity: str,
    classes: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Run again what failed or was stopped in an ended run, and only that."""
    body = {"class": list(classes)} if classes else None
    with connect(data) as server:
        execution = server.ask("POST", f"/executions/{part(identity)}/retry", body)
        if wait:
            sys.exit(carried_out(server, execution, timeout, as_json=as_json))
    if as_json:
        exits.print_json(execution)
    else:
        click.echo(execution["id"])
        for note in notes(execution):
            click.echo(note, err=True)


@executions.command("report")
@click.argument("identity")
@DATA
@JSON
def report_execution(identity: str, data: Path | None, as_json: bool) -> None:
    """Print what a run came to, as `sync` does; the exit code is the run's."""
    with connect(data) as server:
        sys.exit(conclude(server, {"id": identity}, as_json=as_json))


@executions.command("log")
@click.argument("identity")
@click.option("--state", "states", multiple=True, help="Only copies in this state.")
@DATA
@JSON
def log_execution(identity: str, states: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Print every copy of a run: number, state, class, reason, attempts, bytes, time; --json: a line each."""
    with connect(data) as server:
        for copy in _copies(server, identity, list(states)):
            click.echo(line(copy) if as_json else _told(copy))


def _told(copy: dict[str, Any]) -> str:
    why = f" [{copy['class']}] {copy['reason']}" if copy["class"] or copy["reason"] else ""
    return (
        f"{copy['updated_at']}  {copy['id']}  {copy['state']:10}  {copy['source']} -> {copy['destination']}  "
        f"{size(copy['bytes'])}, {copy['attempts']} attempts{why}"
    )


def _copies(server: Connection, identity: str, states: list[str]) -> Iterator[dict[str, Any]]:
    query = {"state": states} if states else {}
    return server.items(f"/executions/{part(identity)}/copies", **query)


@executions.command("copy")
@click.argument("identity")
@click.argument("number", type=click.IntRange(1))
@DATA
@JSON
def show_copy(identity: str, number: int, data: Path | None, as_json: bool) -> None:
    """Show one copy of a run: its way, why it failed, and its attempts. NUMBER is what `log` and `failures` print of it."""
    with connect(data) as server:
        copy = server.ask("GET", f"/executions/{part(identity)}/copies/{number}")
    if as_json:
        exits.print_json(copy)
        return
    click.echo(_told(copy))
    click.echo(f"  by {' -> '.join(copy['route'])}, in region {copy['region']}")
    for hint in filter(None, (copy["meaning"], copy["hint"], copy["fix"])):
        click.echo(f"  {hint}")
    for one in copy["attempts_log"]:
        click.echo(f"  {_attempt(one)}")


def _attempt(one: dict[str, Any]) -> str:
    first = one["number"] - one["times"] + 1
    numbers = f"{first} to {one['number']}" if one["times"] > 1 else str(one["number"])
    why = f" [{one['class']}] {one['reason']}" if one["class"] or one["reason"] else ""
    return f"{one['ended_at']}  attempt {numbers}: {one['outcome']}, by {one['worker']}{why}"


@executions.command("failures")
@click.argument("identity")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a rule file that carries out exactly what failed.",
)
@click.option("--all", "each", is_flag=True, help="A line for each, also where the reason is one.")
@DATA
@JSON
def list_failures(
    identity: str, file: Path | None, each: bool, data: Path | None, as_json: bool
) -> None:
    """List what failed, why, and what to do; the same reason once. --json and --all: each copy."""
    with connect(data) as server:
        failed = list(_copies(server, identity, ["failed", "superseded"]))
        if file is not None:
            _export(server, identity, file)
        execution = server.ask("GET", f"/executions/{part(identity)}")
    if as_json:
        exits.print_json({"items": failed, "next": None})
        return
    for group in [Alike(copy, count=1) for copy in failed] if each else alike(failed):
        copy = group.first
        click.echo(f"{group.what()}: [{copy['class']}] {copy['reason']}{group.example()}")
        if copy["hint"]:
            click.echo(f"  {copy['hint']}")
        click.echo(f"  more of it: transship executions copy {identity} {copy['id']}")
    if execution["reason"]:
        click.echo(f"{execution['rule']}: {execution['state']}: {execution['reason']}")
    elif not failed:
        click.echo("nothing failed")
    _mend(failed, execution)


def _mend(failed: list[dict[str, Any]], execution: dict[str, Any]) -> None:
    """Say for each class what mends it, and how that alone is run again."""
    classes = Counter(copy["class"] for copy in failed if copy["class"])
    fixes = {copy["class"]: copy["fix"] for copy in failed}
    may_retry = execution["finished_at"] and execution["kind"] in _KINDS
    for name, count in classes.most_common():
        click.echo(f"{count} of class {name}: {fixes[name]}")
        if may_retry and execution["trigger"] != PROMOTION:
            click.echo(f"  then: transship executions retry {execution['id']} --class {name}")


def _export(server: Connection, identity: str, file: Path) -> None:
    found = server.ask_patiently(f"/reports?execution={part(identity)}&receipt=false")
    if found["rule_file"] is None:
        raise InvalidConfiguration(
            f"there is nothing to export of {identity}: {found['rule_file_note']}",
            hint="run the rule again",
        )
    write(file, documents.dump(found["rule_file"]), "--export")
    click.echo(
        f"{found['failures_total']} failures: transship apply -f {file}, or sync -f {file}",
        err=True,
    )
