"""Following an execution on a server to its end: a bar on a terminal, lines elsewhere, a report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click

from api.cli import exits
from api.cli.connection import Connection
from api.cli.notes import notes
from api.cli.options import part
from api.cli.progress import show
from api.cli.summary import print_summary
from service.model.states import ENDED_EXECUTIONS, ExecutionState
from service.store.executions import ExecutionRecord, Totals

Seen = dict[str, Any]


def carried_out(
    server: Connection, execution: Seen, timeout: float | None, *, as_json: bool
) -> int:
    """Wait for the end, print what it came to, as `sync` does, and return the exit code."""
    last = follow(server, execution, timeout)
    return conclude(server, last, as_json=as_json)


def conclude(server: Connection, execution: Seen, *, as_json: bool) -> int:
    """Print the report of an execution and return its exit code."""
    report: Seen = server.ask("GET", f"/executions/{part(execution['id'])}/report")
    if as_json:
        exits.print_json(report)
    else:
        print_summary(report, all_by=f"transship executions failures {execution['id']} --all")
    return code(report)


def code(report: Seen) -> int:
    """Return the exit code of a report; one of an execution that goes on is 3."""
    if ExecutionState(report["state"]) not in ENDED_EXECUTIONS:
        return exits.UNKNOWN
    return exits.of_report(report)


def follow(
    server: Connection,
    execution: Seen,
    timeout: float | None,
    each: Callable[[Seen], None] | None = None,
) -> Seen:
    """Watch until the end, or until the time is up; returns the last totals.

    `each` is told of every change; without it, progress is shown on stderr.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with show(quiet=each is not None) as bar:
            for name, seen in server.events(execution["id"], deadline):
                if name == "problem":
                    break
                execution = seen
                if each is not None:
                    each(seen)
                else:
                    bar([_record(seen)], _totals(seen), notes(seen))
                if deadline is not None and time.monotonic() >= deadline:
                    break
    except KeyboardInterrupt:
        click.echo(
            f"transship: {execution['id']} goes on; `transship executions stop {execution['id']}` "
            "stops it",
            err=True,
        )
        raise
    if ExecutionState(execution["state"]) not in ENDED_EXECUTIONS:
        click.echo(f"transship: no end in time; {execution['id']} goes on", err=True)
        for note in notes(execution):
            click.echo(f"  {note}", err=True)
    return execution


def line(value: Any) -> str:
    """Return one line of JSON."""
    return json.dumps(value, separators=(",", ":"))


def _record(seen: Seen) -> ExecutionRecord:
    return ExecutionRecord(
        id=seen["id"],
        rule=seen["rule"],
        trigger=seen["trigger"],
        kind=seen["kind"],
        state=ExecutionState(seen["state"]),
        reason=seen["reason"],
        failure_class=seen["class"],
        warnings=tuple(seen["warnings"]),
        planned=seen["planned"],
        created_at=0.0,
        started_at=None,
        finished_at=None,
    )


def _totals(seen: Seen) -> Totals:
    return Totals(
        **seen["copies"],
        blobs_copied=seen["blobs"]["copied"],
        blobs_mounted=seen["blobs"]["mounted"],
        blobs_present=seen["blobs"]["present"],
        bytes_copied=seen["bytes"]["copied"],
        bytes_saved=seen["bytes"]["saved"],
    )
