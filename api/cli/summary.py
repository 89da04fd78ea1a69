"""The report of a finished job for people: one line a rule, then what failed and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from api.cli.alike import alike
from api.cli.progress import size

SHOWN_FAILURES = 10


def print_summary(report: dict[str, Any], *, all_by: str = "--json") -> None:
    """Print a report on stdout; `all_by` is what shows every failure by itself."""
    for entry in report["executions"]:
        copies, moved = entry["copies"], entry["bytes"]
        click.echo(
            f"{entry['rule']}: {entry['state']} in {entry['seconds']:.1f} s: "
            f"{copies['copied']} copied, {copies['unchanged']} unchanged, "
            f"{copies['skipped']} skipped, {copies['failed']} failed; "
            f"{size(moved['copied'])} moved, {size(moved['saved'])} saved by sharing"
        )
    for warning in report["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    print_failures(report["failures"], report["failures_total"], all_by=all_by)


def print_failures(failures: Sequence[dict[str, Any]], total: int, *, all_by: str) -> None:
    """Print failures on stderr, those with the same reason as one, with what to do."""
    groups = alike(failures)
    shown = groups[:SHOWN_FAILURES]
    for group in shown:
        failure = group.first
        click.echo(
            f"failed: {group.what()}: [{failure['class']}] {failure['reason']}{group.example()}",
            err=True,
        )
        if failure["hint"] and failure["hint"] not in failure["reason"]:
            click.echo(f"  {failure['hint']}", err=True)
    hidden = total - sum(group.count for group in shown)
    if hidden > 0:
        click.echo(f"and {hidden} more failures: {all_by} shows them", err=True)
    elif len(shown) < total:
        click.echo(f"{all_by} shows each of the {total} by itself", err=True)
