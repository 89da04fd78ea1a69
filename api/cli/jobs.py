"""Commands that do one job on this machine: copy, sync, validate."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from api.cli import exits
from api.cli.carrying import carrying, check_layouts, since_options
from api.cli.importing import NAMES, peer_options, tell
from api.cli.importing import read as read_others
from api.cli.notes import counted, retried
from api.cli.options import FILES, MAYBE_FILES, SECONDS
from api.cli.progress import Shown, show
from api.cli.summary import print_summary
from service.errors import InvalidConfiguration

if TYPE_CHECKING:
    from api.config_file import Config
    from api.engine.oneshot import Watch
    from api.engine.purposes import Purpose
    from service.store.executions import ExecutionRecord, Totals
    from service.store.standing import Retry

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory that keeps state between runs; without it a temporary one is used.",
)
DATA_OR_UP = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory that keeps state between runs; without it a temporary one is used. Without -f: "
    "the data folder of a running `transship up`.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
LOCAL = click.option("--local", is_flag=True, help="Ignore TRANSSHIP_URL: work on this machine.")
WORKERS = click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes."
)
TIMEOUT = click.option(
    "--timeout",
    type=SECONDS,
    help="How long to wait for a server: 30s, 5m, 1h; then exit 3, and the work goes on there.",
)


@click.command()
@click.argument("source")
@click.argument("destination")
@DATA
@WORKERS
@JSON
@LOCAL
@click.option("--no-referrers", is_flag=True, help="Leave signatures and SBOMs behind.")
@since_options
def copy(
    source: str,
    destination: str,
    data: Path | None,
    workers: int,
    as_json: bool,
    local: bool,
    no_referrers: bool,
    since: tuple[Path, ...],
    since_key: Path | None,
    since_unverified: bool,
) -> None:
    """Copy one image, index or artifact: SOURCE and DESTINATION are registry/repository:tag.

    Or oci:PATH:TAG of an OCI image layout on disk, oci:PATH//REPOSITORY:TAG of one of many repositories.
    """
    from api.engine.purposes import syncing
    from api.engine.single_copy import single_copy

    job = single_copy(source, destination, referrers=not no_referrers)
    refuse_server("copy", job, local=local)
    check_layouts(source, destination, job)
    with carrying(job, since, since_key, unverified=since_unverified):
        run_job(job, syncing("copy"), data=data, workers=workers, as_json=as_json, local=local)


@click.command()
@MAYBE_FILES
@click.option(
    "--from", "form", type=click.Choice(NAMES), help="FILEs are another tool's, of this format."
)
@click.argument(
    "others", metavar="[FILE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False)
)
@peer_options
@click.option("--rule", "only", multiple=True, help="Carry out this rule only; may be repeated.")
@click.option(
    "--plan",
    help="Carry out exactly this plan, which `plan --data DIR`, or a server, made; refused if it is "
    "old.",
)
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signed receipt of what was committed here; its signature lies beside it, with .sig.",
)
@since_options
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what it came to as a page: one HTML file, to be mailed and printed.",
)
@DATA_OR_UP
@WORKERS
@TIMEOUT
@JSON
@LOCAL
def sync(
    files: tuple[str, ...],
    form: str | None,
    others: tuple[str, ...],
    only: tuple[str, ...],
    plan: str | None,
    receipt: Path | None,
    since: tuple[Path, ...],
    since_key: Path | None,
    since_unverified: bool,
    report: Path | None,
    data: Path | None,
    workers: int,
    timeout: float | None,
    as_json: bool,
    local: bool,
    **peer: Any,
) -> None:
    """Carry out the enabled rules of files once; or a plan of a server: `sync --plan ID`.

    With --from FORMAT the FILEs are those of another tool, as `transship import` reads them.
    """
    if since and not files:
        raise click.UsageError("--since is with -f: a layout is written on this machine")
    if form is not None or others:
        if form is None or not others or files or plan is not None or timeout is not None:
            raise click.UsageError(
                "files of another tool: --from FORMAT FILE..., without -f, --plan or --timeout"
            )
        _sync_others(
            form,
            others,
            peer,
            only,
            receipt=receipt,
            report=report,
            data=data,
            workers=workers,
            as_json=as_json,
            local=local,
        )
        return
    if not files and plan is None:
        raise click.UsageError(
            "give -f FILE, or --plan ID of a server's plan; `transship rules run NAME --wait` runs a "
            "server's rule"
        )
    if asks_server(files, only, timeout, needs_rule=False):
        if receipt is not None or report is not None:
            raise click.UsageError(
                "--receipt and --report are with -f; of a server: `transship receipts make`, `transship report`"
            )
        from api.cli.asking import carry_out

        sys.exit(carry_out(str(plan), data, timeout, as_json=as_json))
    from api.engine.purposes import carrying_out, syncing

    job = job_of(files, only)
    if plan is not None:
        _check_plan(plan, data, job)
    purpose = syncing("sync") if plan is None else carrying_out(plan)
    purpose = _documented(purpose, receipt, report, data)
    refuse_server("sync", job, local=local)
    with carrying(job, since, since_key, unverified=since_unverified):
        run_job(job, purpose, data=data, workers=workers, as_json=as_json, local=local)


def _sync_others(
    form: str,
    others: tuple[str, ...],
    peer: dict[str, Any],
    only: tuple[str, ...],
    *,
    receipt: Path | None,
    report: Path | None,
    data: Path | None,
    workers: int,
    as_json: bool,
    local: bool,
) -> None:
    """Carry out files of another tool; what of them is not carried over makes the exit code 1 at best."""
    from api.config_file import load_text
    from api.engine.purposes import syncing
    from api.importers.build import environment

    imported = read_others(form, others, peer)
    tell(imported)
    environment(imported)
    job = job_of_config(load_text(imported.text(), source=f"what {form} says"), only)
    run_job(
        job,
        _documented(syncing("sync"), receipt, report, data),
        data=data,
        workers=workers,
        as_json=as_json,
        local=local,
        code=lambda report: exits.of_report(report) or int(not imported.whole),
    )


def _documented(
    purpose: Purpose, receipt: Path | None, report: Path | None, data: Path | None
) -> Purpose:
    """Have receipt and report written at the end; a receipt is refused at once where its key would not last."""
    if receipt is None and report is None:
        return purpose
    from api.cli.receipts import lasting_key, lasts
    from api.engine.purposes import receipted, reported

    if receipt is not None:
        lasting_key(data)
        purpose = receipted(purpose, receipt)
    if report is not None:
        purpose = reported(purpose, report, lasting_key=lasts(data))
    return purpose


@click.command()
@FILES
@JSON
def validate(files: tuple[str, ...], as_json: bool) -> None:
    """Check files without asking any registry."""
    from api.config_file import load_files, unset_variables
    from service.model.loops import circles
    from service.model.selection import members_of_groups

    config = load_files(files)
    counts = {
        "regions": len(config.regions),
        "links": len(config.links),
        "projects": len(config.projects),
        "registries": len(config.registries),
        "rules": len(config.rules),
        "pipelines": len(config.pipelines),
        "gateways": config.gateways,
    }
    warnings = [
        f"{one.file}:{one.line}: {one}" if one.line else str(one) for one in unset_variables(config)
    ]
    members = members_of_groups(config.registries)
    warnings += circles(config.rules, members)
    if as_json:
        exits.print_json({"schema": 1, "valid": True, **counts, "warnings": warnings})
        return
    told = [counted(counts["registries"], "registry"), counted(counts["rules"], "rule")]
    more = {"pipeline": counts["pipelines"], "gateway": counts["gateways"]}
    told += [counted(many, kind) for kind, many in more.items() if many]
    click.echo(f"valid: {', '.join(told)}")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def asks_server(
    files: Sequence[str], only: Sequence[str], timeout: float | None, *, needs_rule: bool = True
) -> bool:
    """Whether a command has no file and so asks a server.

    Raises click.UsageError for options of the other kind.
    """
    if files:
        if timeout is not None:
            raise click.UsageError("--timeout is for what a server does; with -f it is done here")
        return False
    context = click.get_current_context()
    for name in ("local", "workers", *([] if needs_rule else ["only"])):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = {"only": "rule"}.get(name, name)
            raise click.UsageError(f"--{option} needs -f FILE: without a file a server is asked")
    if needs_rule and not only:
        raise click.UsageError("give -f FILE, or --rule NAME for a rule of a server")
    return True


def job_of(files: Sequence[str], only: Sequence[str]) -> Any:
    """Return the job of a file's enabled rules, or of those named; raises for what cannot run."""
    from api.config_file import load_files

    return job_of_config(load_files(files), only)


def job_of_config(config: Config, only: Sequence[str]) -> Any:
    """Return the job of a configuration's enabled rules, or of those named; raises for what cannot run."""
    from api.engine.oneshot import Job

    rules = _chosen(config.rules, only)
    _refuse_missing_secrets(config, rules)
    return Job(
        config.registries,
        rules,
        dict(config.documents),
        projects=config.projects,
        regions=config.regions,
        links=config.links,
        of_a_file=True,
    )


def _check_plan(plan: str, data: Path | None, job: Any) -> None:
    if data is None:
        raise InvalidConfiguration(
            "--plan needs --data, the directory that the plan was made in",
            field="--data",
            hint="make it with `transship plan -f FILE --data DIR`",
        )
    if len(job.rules) != 1:
        raise InvalidConfiguration(
            f"--plan {plan} is of one rule, and the file has {len(job.rules)}",
            field="--rule",
            hint="name the rule with --rule",
        )


def _refuse_missing_secrets(config: Any, rules: Sequence[Any]) -> None:
    """Refuse, before anything starts, what would fail for the want of a secret."""
    from api.config_file import unset_variables
    from service.errors import FieldProblem, InvalidFields

    named = {rule.source for rule in rules}
    named |= {d.registry for rule in rules for d in rule.destinations if d.registry}
    groups = {d.group for rule in rules for d in rule.destinations if d.group}
    used = [e for e in config.registries if e.name in named or groups.intersection(e.groups)]
    problems = unset_variables(replace(config, registries=tuple(used)))
    for endpoint in used:
        if not any(one.secret is not None or one.stored for one in endpoint.every_credential):
            continue
        file, line = config.places.get(("registries", endpoint.name), ("", None))
        problems.append(
            FieldProblem(
                f"registries {endpoint.name}: credentials",
                "the secret is kept by a server, and this runs on this machine",
                "use password_env or password_file, or `transship apply` and `rules run`",
                line,
                file,
            )
        )
    if problems:
        raise InvalidFields(tuple(problems))


def _chosen(rules: Sequence[Any], only: Sequence[str]) -> list[Any]:
    names = {rule.name for rule in rules}
    for name in only:
        if name not in names:
            raise InvalidConfiguration(
                f"there is no rule named {name} in the file",
                field="--rule",
                hint=f"it has: {', '.join(sorted(names)) or 'none'}",
            )
    chosen = [r for r in rules if (r.name in only if only else r.enabled)]
    if not chosen:
        raise InvalidConfiguration("the file has no enabled rule", field="rules")
    return chosen


def run_job(
    job: Any,
    purpose: Any,
    *,
    data: Path | None,
    workers: int,
    as_json: bool,
    local: bool,
    show_report: Callable[[dict[str, Any]], None] = print_summary,
    code: Callable[[dict[str, Any]], int] = exits.of_report,
) -> None:
    """Carry a job out on this machine, print what it came to, and end with its exit code."""
    from api.engine import oneshot

    refuse_server(purpose.command, job, local=local)
    where = str(data) if data else "a temporary directory"
    click.echo(f"transship: engine on this machine, state in {where}", err=True)
    interrupted = _on_interrupt()
    with show() as progress:
        report = oneshot.run(
            job,
            purpose,
            data=data,
            workers=workers,
            watch=_watching(progress),
            interrupted=interrupted,
        )
    if as_json:
        exits.print_json(report)
    else:
        show_report(report)
    sys.exit(exits.INTERRUPTED if interrupted.is_set() else code(report))


def refuse_server(command: str, job: Any, *, local: bool) -> None:
    """Raise InvalidConfiguration where a server is asked: it takes no such job."""
    if os.environ.get("TRANSSHIP_URL") and not local:
        raise InvalidConfiguration(
            f"TRANSSHIP_URL is set, and a server does not take `{command}` with a file",
            hint=f"add --local to work on this machine, or {_there(command, job)}",
        )


def _watching(progress: Shown) -> Watch:
    """Return what shows how far a job is, and why copies of it are tried again."""

    def watch(records: Sequence[ExecutionRecord], totals: Totals, retries: Sequence[Retry]) -> None:
        if not retries:
            progress(records, totals)
            return
        from api import render

        progress(records, totals, retried({"retrying": [render.retry(one) for one in retries]}))

    return watch


def _there(command: str, job: Any) -> str:
    """Return how a server does what a command was asked for."""
    if command == "migrate":
        return "declare both registries there and call `transship migrate --from NAME --to NAME` without -f"
    rule = job.rules[0].name if len(job.rules) == 1 else "NAME"
    if command == "copy":
        return "write it as a rule, `transship apply` that and `transship rules run NAME --wait`"
    if command == "sync":
        return f"`transship apply` the file and `transship rules run {rule} --wait`"
    return f"`transship apply` the file and `transship {command} --rule {rule}`, without -f"


def _on_interrupt() -> threading.Event:
    """Return an event that the first Ctrl-C sets; the second one ends the process at once."""
    event = threading.Event()

    def handler(_number: int, _frame: object) -> None:
        if event.is_set():
            os._exit(exits.INTERRUPTED)
        event.set()
        sys.stderr.write("\ntransship: stopping; press Ctrl-C again to leave at once\n")

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return event
