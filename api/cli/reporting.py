"""transship report: what runs came to in the end, as a page to be mailed and printed, or as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, write
from api.cli.progress import size
from service.errors import InvalidConfiguration
from service.model.states import ENDED_EXECUTIONS


@click.command()
@click.argument("executions", metavar="[EXECUTION]...", nargs=-1)
@click.option("--migration", help="On all runs of this migration, wave by wave, instead.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page: one HTML file without scripts and without anything to load.",
)
@click.option(
    "--rules",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a rule file that carries out what failed, and only that.",
)
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signed receipt, too; its signature lies beside it, with .sig at its end.",
)
@DATA
@JSON
def report(
    executions: tuple[str, ...],
    migration: str | None,
    output: Path | None,
    rules: Path | None,
    receipt: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Report on runs or a migration: totals, time by rule, failures by class with what mends them, a rule file of what failed.

    The exit code is that of the runs: 1 where something failed in the end, 3 where one goes on.
    """
    if bool(executions) == (migration is not None):
        raise click.UsageError(
            "name executions, which `transship executions ls` lists, or --migration NAME"
        )
    query = [("execution", one) for one in executions] or [("migration", str(migration))]
    with connect(data) as server:
        found = server.ask_patiently(f"/reports?{urlencode(query)}")
        _write_parts(server, found, output, rules, receipt)
    if as_json:
        exits.print_json(found)
    else:
        tell(found)
        for path in filter(None, (output, rules, receipt)):
            click.echo(f"written: {path}", err=True)
    sys.exit(code(found))


def code(found: dict[str, Any]) -> int:
    """Return the exit code of a report."""
    if found["state"] not in ENDED_EXECUTIONS:
        return exits.UNKNOWN
    return exits.AS_THE_RULE_SAYS if found["state"] == "succeeded" else exits.NOT_AS_THE_RULE_SAYS


def _write_parts(
    server: Connection,
    found: dict[str, Any],
    output: Path | None,
    rules: Path | None,
    receipt: Path | None,
) -> None:
    if output is not None:
        from api.reports.page import page

        write(output, page(found), "--output")
    if rules is not None:
        if found["rule_file"] is None:
            raise InvalidConfiguration(
                f"there is no rule file to write: {found['rule_file_note']}",
                field="--rules",
                hint="leave --rules out",
            )
        from api.documents import dump

        write(rules, dump(found["rule_file"]), "--rules")
    if receipt is not None:
        from api.cli.receipts import fetch

        runs = [one["execution"] for each in found["sections"] for one in each["executions"]]
        fetch(server, [("execution", one) for one in runs], receipt)


def tell(found: dict[str, Any]) -> None:
    """Print the report for people: a line for each section, then the classes of failures."""
    from api.reports.page import duration

    for one in found["sections"]:
        click.echo(
            f"{one['label']}: {one['state']} in {duration(one['seconds'])}: "
            f"{one['copies']['copied']} copied, {one['copies']['unchanged']} unchanged, "
            f"{one['copies']['failed']} failed; {size(one['bytes']['copied'])} moved, "
            f"{size(one['bytes']['saved'])} saved by sharing"
        )
    for one in found["failure_classes"]:
        click.echo(f"failed: {one['copies']} {one['class']}: {one['meaning']}", err=True)
        click.echo(f"  {one['fix']}", err=True)
    if found["receipt"] is not None:
        click.echo(
            f"receipt: {found['receipt']['entries']} names, signed by {found['receipt']['instance']}"
        )
