"""What every move has in common: its options, how this machine carries it out, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from api.cli.jobs import LOCAL, WORKERS, job_of_config, run_job
from api.cli.options import JSON, write
from api.cli.reporting import code, tell

PATH = click.Path(path_type=Path, dir_okay=False)
RULE = "migrate"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a move does not depend on where it leads."""

    repositories: tuple[str, ...]
    template: str
    newest: int | None
    on_conflict: str
    dry_run: bool
    output: Path | None
    rules: Path | None
    receipt: Path | None
    data: Path | None
    workers: int
    as_json: bool
    local: bool


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every move has."""
    for option in reversed(
        (
            click.option(
                "--repositories",
                multiple=True,
                metavar="GLOB",
                help="Only these repositories of the source; may be repeated.",
            ),
            click.option(
                "--repository",
                "template",
                default="{repository}",
                show_default=True,
                help="The name of a repository at the destination, as a rule's template.",
            ),
            click.option(
                "--on-conflict",
                type=click.Choice(["overwrite", "keep", "fail"]),
                default="overwrite",
                show_default=True,
                help="Where the destination has another image under a tag.",
            ),
            click.option("--dry-run", is_flag=True, help="Say what would move, and move nothing."),
            click.option("-o", "--output", type=PATH, help="Write the report as a page."),
            click.option(
                "--rules", type=PATH, help="Write a rule file of what failed, if any did."
            ),
            click.option(
                "--receipt",
                type=PATH,
                help="Write the signed receipt; its signature lies beside it, with .sig.",
            ),
            click.option(
                "--data",
                type=click.Path(path_type=Path, file_okay=False),
                help="Directory that keeps state between runs. Without -f: the data folder of a running "
                "`transship up`.",
            ),
            WORKERS,
            JSON,
            LOCAL,
        )
    ):
        command = option(command)
    return command


def move(
    wanted: Wanted, documents: dict[str, list[dict[str, Any]]], source: str, destination: str
) -> None:
    """Move by this machine, between registries of documents; ends the process with the exit code."""
    from api.config_file import load_text
    from api.documents import dump
    from api.engine.moving import moving, plan_of_move

    whole = {"version": 1, **documents, "rules": [_rule(wanted, source, destination)]}
    job = job_of_config(load_text(dump(whole), source="the files and options"), [])
    if wanted.dry_run:
        from api.cli.looking import code_of_plans, show_plans

        run_job(
            job,
            plan_of_move(wanted.newest),
            data=wanted.data,
            workers=wanted.workers,
            as_json=wanted.as_json,
            local=wanted.local,
            show_report=lambda report: show_plans(report, carry_out=""),
            code=code_of_plans,
        )
    from api.cli.receipts import lasting_key, lasts

    purpose = moving(wanted.newest, lasting_key=lasts(wanted.data))
    if wanted.receipt is not None:
        from api.engine.purposes import receipted

        lasting_key(wanted.data)
        purpose = receipted(purpose, wanted.receipt)
    run_job(
        job,
        purpose,
        data=wanted.data,
        workers=wanted.workers,
        as_json=wanted.as_json,
        local=wanted.local,
        show_report=tell,
        code=lambda report: _written(wanted, report),
    )


def _written(wanted: Wanted, report: dict[str, Any]) -> int:
    """Write the files that were asked for; returns the exit code."""
    if wanted.output is not None:
        from api.reports.page import page

        write(wanted.output, page(report), "--output")
    if wanted.rules is not None and report["rule_file"] is not None:
        from api.documents import dump

        write(wanted.rules, dump(report["rule_file"]), "--rules")
    return code(report)


def _rule(wanted: Wanted, source: str, destination: str) -> dict[str, Any]:
    tags: dict[str, Any] = {"include": ["**"]}
    if wanted.newest is not None:
        tags["newest"] = {"count": wanted.newest, "by": "created"}
    return {
        "name": RULE,
        "source": source,
        "select": [{"repositories": list(wanted.repositories) or ["**"], "tags": tags}],
        "destinations": [{"registry": destination, "repository": wanted.template}],
        "on_conflict": wanted.on_conflict,
    }


def exit_with(found: dict[str, Any], wanted: Wanted) -> int:
    """Print a report and write its files; returns the exit code."""
    if wanted.as_json:
        exits.print_json(found)
    else:
        tell(found)
    return _written(wanted, found)
