"""transship plan and verify: look and write nothing, but for a repair; here, or on a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from api.cli.alike import alike
from api.cli.jobs import DATA_OR_UP, LOCAL, TIMEOUT, WORKERS, asks_server, job_of, run_job
from api.cli.notes import counted
from api.cli.options import JSON, MAYBE_FILES
from api.cli.progress import size


@click.command()
@MAYBE_FILES
@click.option("--rule", "only", multiple=True, help="Plan this rule only; may be repeated.")
@DATA_OR_UP
@WORKERS
@TIMEOUT
@JSON
@LOCAL
def plan(
    files: tuple[str, ...],
    only: tuple[str, ...],
    data: Path | None,
    workers: int,
    timeout: float | None,
    as_json: bool,
    local: bool,
) -> None:
    """Say what `sync` would copy, the bytes and requests that takes, and what cannot be done.

    Nothing is written to any registry. `-f FILE` plans on this machine: with --data the plan is kept,
    and `sync --plan ID --data DIR -f FILE` carries out exactly that, or refuses when source or
    destination have changed. Without a file, `--rule NAME` plans a rule of a server, which keeps the
    plan; `sync --plan ID` carries it out there.
    """
    if asks_server(files, only, timeout):
        from api.cli import asking

        report = asking.plans(only, data, timeout)
        _tell(report, as_json, lambda: show_plans(report, carry_out=asking.carry_out_words(data)))
        sys.exit(code_of_plans(report))
    from api.engine.purposes import planning

    kept = "" if data is None else f"transship sync --plan {{plan}} --data {data} -f FILE"
    run_job(
        job_of(files, only),
        planning(),
        data=data,
        workers=workers,
        as_json=as_json,
        local=local,
        show_report=lambda report: show_plans(report, carry_out=kept),
        code=code_of_plans,
    )


def _tell(report: dict[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        exits.print_json(report)
    else:
        show()


def show_plans(report: dict[str, Any], *, carry_out: str) -> None:
    """Print plans; `carry_out` is the command that carries one out, with {plan} in the place of its id."""
    for one in report["plans"]:
        if one["state"] not in _FIGURED:
            click.echo(f"{one['rule']}: {_UNKNOWN.get(one['state'], 'not done yet')}")
            continue
        took = one["seconds_needed"]
        click.echo(
            f"{one['rule']}: {counted(one['copies'], 'tag')} to copy, {size(one['bytes']['unique'])} to move, "
            f"{size(one['bytes']['saved'])} mounted or found there"
            + ("" if took is None else f", at least {took:g} s by the limits")
        )
        for name, there in sorted(one["destinations"].items()):
            click.echo(
                f"  to {name}: {counted(there['copies'], 'tag')}, {counted(there['blobs'], 'blob')}, "
                f"{size(there['unique'])}{_ways_to(name, one['links'])}"
            )
        if one["cost"] is not None:
            click.echo(f"  cost: {one['cost']:g}, by the links' prices")
        for name, count in sorted(one["requests"].items()):
            click.echo(f"  about {count} requests to {name}")
        if carry_out:
            click.echo(f"  carry it out: {carry_out.format(plan=one['plan'])}")
    for group in alike(report["problems"]):
        what = group.first["source"] or "" if group.count == 1 else group.what()
        click.echo(f"problem: {what}: {group.first['reason']}{group.example()}", err=True)


def _ways_to(name: str, links: list[dict[str, Any]]) -> str:
    """Say where a destination's bytes come from."""
    senders = [way["from"] for way in links if way["to"] == name]
    return f" from {' and '.join(senders)}" if senders else ""


_FIGURED = frozenset({"succeeded", "partial"})
"""States of a plan whose figures say anything."""
_UNKNOWN = {
    "stopped": "interrupted: nothing is known of what it would copy",
    "failed": "failed: nothing is known of what it would copy",
}


def code_of_plans(report: dict[str, Any]) -> int:
    """Return the exit code of plans."""
    if any(one["state"] not in {*_FIGURED, *_UNKNOWN} for one in report["plans"]):
        return exits.UNKNOWN
    whole = all(one["state"] in _FIGURED for one in report["plans"])
    return exits.AS_THE_RULE_SAYS if whole and not report["problems"] else 1


@click.command()
@MAYBE_FILES
@click.option("--rule", "only", multiple=True, help="Verify this rule only; may be repeated.")
@click.option("--repair", is_flag=True, help="Copy again what is missing, stale or holed.")
@DATA_OR_UP
@WORKERS
@TIMEOUT
@JSON
@LOCAL
def verify(
    files: tuple[str, ...],
    only: tuple[str, ...],
    repair: bool,
    data: Path | None,
    workers: int,
    timeout: float | None,
    as_json: bool,
    local: bool,
) -> None:
    """Read a byte of every blob behind every selected tag at its destinations.

    Finds tags that are missing or stale, and holes behind equal digests, which no comparison of tags
    can see. The figures count signatures and what else refers to an image, too. Exit code 1 while
    something is not whole. `-f FILE` looks from this machine; without a file, `--rule NAME` has a
    server verify a rule of its own.
    """
    if asks_server(files, only, timeout):
        from api.cli import asking

        report = asking.verifications(only, data, timeout, repair=repair)
        _tell(report, as_json, lambda: _show_findings(report))
        sys.exit(_code_of_findings(report))
    from api.engine.purposes import verifying

    run_job(
        job_of(files, only),
        verifying(repair=repair),
        data=data,
        workers=workers,
        as_json=as_json,
        local=local,
        show_report=_show_findings,
        code=_code_of_findings,
    )


def _show_findings(report: dict[str, Any]) -> None:
    click.echo(
        f"{report['checked']} checked, {report['whole']} whole, {report['holes']} not whole, "
        f"{report['repaired']} repaired, {report['unreachable']} unreachable"
    )
    if report["state"] == "stopped":
        click.echo("interrupted: nothing is known of what was not checked", err=True)
    for group in alike(report["failures"]):
        failure = group.first
        click.echo(
            f"{failure['class']}: {group.what()}: {failure['reason']}{group.example()}", err=True
        )


def _code_of_findings(report: dict[str, Any]) -> int:
    if report["holes"] > report["repaired"]:
        return exits.NOT_AS_THE_RULE_SAYS
    if report["state"] in {"stopped", "running"}:
        return exits.UNKNOWN
    unlisted = any(failure["source"] is None for failure in report["failures"])
    unknown = report["unreachable"] or unlisted
    return exits.UNKNOWN if unknown else exits.AS_THE_RULE_SAYS
