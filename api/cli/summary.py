"""The report of a finished job for people: one line a rule, then what failed and what to do."""

from __future__ import annotations

from typing import Any

import click

from api.cli.progress import size

SHOWN_FAILURES = 10


def print_summary(report: dict[str, Any]) -> None:
    """Print a report on stdout."""
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
    for failure in report["failures"][:SHOWN_FAILURES]:
        what = failure["destination"] or failure["rule"]
        click.echo(f"failed: {what}: [{failure['class']}] {failure['reason']}", err=True)
        if failure["hint"] and failure["hint"] not in failure["reason"]:
            click.echo(f"  {failure['hint']}", err=True)
    hidden = report["failures_total"] - SHOWN_FAILURES
    if hidden > 0:
        click.echo(f"and {hidden} more failures: --json shows them", err=True)
