"""transship migrate: move all that a registry has to another one, from the plan to the report, in one command."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from api.cli.jobs import LOCAL, WORKERS, job_of_config, run_job
from api.cli.options import JSON, MAYBE_FILES, write
from api.cli.reporting import code, tell
from service.errors import InvalidConfiguration

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


@click.group(invoke_without_command=True)
@click.option("--from", "source", help="The registry to leave, by its name.")
@click.option("--to", "destination", help="The registry to move to, by its name.")
@click.option(
    "--newest",
    type=click.IntRange(1, 10_000),
    help="Of each repository only so many tags: those that were pushed last where the provider tells, else those "
    "whose images were created last. Without it all of them.",
)
@click.option(
    "--name", help="Of the migration that a server keeps; FROM-to-TO when it is left out."
)
@click.option("--timeout", type=float, help="Seconds to wait for a server; then exit 3.")
@MAYBE_FILES
@common
def migrate(
    source: str | None,
    destination: str | None,
    newest: int | None,
    name: str | None,
    timeout: float | None,
    files: tuple[str, ...],
    **more: Any,
) -> None:
    """Move all that a registry has to another one, and report on it; again moves what has changed since.

    With -f FILE this machine moves it, between two registries of the file. Without it a server does, as a
    migration of one wave, which `transship migrations` shows, freezes and proves afterwards.
    """
    if click.get_current_context().invoked_subcommand is not None:
        if source or destination or files:
            raise click.UsageError("--from, --to and -f do not go with ccr-to-tcr")
        return
    if not source or not destination:
        raise click.UsageError("give --from REGISTRY and --to REGISTRY, or call ccr-to-tcr")
    wanted = Wanted(newest=newest, **more)
    if not files:
        from api.cli.moving_there import move_there

        move_there(wanted, source, destination, name, timeout)
    if name is not None or timeout is not None:
        raise click.UsageError(
            "--name and --timeout are for a server; with -f this machine moves it"
        )
    from api.config_file import load_files

    config = load_files(files)
    documents: dict[str, list[dict[str, Any]]] = {}
    for (kind, _), document in config.documents.items():
        if kind != "rules":
            documents.setdefault(kind, []).append(dict(document))
    move(wanted, documents, source, destination)


@migrate.command("ccr-to-tcr")
@click.option("--ccr-region", default="ap-guangzhou", show_default=True, help="Where CCR is.")
@click.option("--ccr-url", help="CCR's address, instead of the region's.")
@click.option("--ccr-user", help="The account's number: CCR's user name.")
@click.option("--ccr-password-env", help="The variable with CCR's password.")
@click.option("--ccr-password-file", type=PATH, help="The file with CCR's password.")
@click.option("--tcr-name", help="The name of the TCR instance.")
@click.option("--tcr-url", help="TCR's address, such as a private one, instead of the name's.")
@click.option(
    "--secret-id-env",
    help="The variable with the SecretId; TENCENTCLOUD_SECRET_ID when neither is given.",
)
@click.option("--secret-id-file", type=PATH, help="The file with the SecretId.")
@click.option(
    "--secret-key-env",
    help="The variable with the SecretKey; TENCENTCLOUD_SECRET_KEY when neither is given.",
)
@click.option("--secret-key-file", type=PATH, help="The file with the SecretKey.")
@click.option("--tcr-secret-id-env", help="Likewise of TCR's account, where it is another one.")
@click.option("--tcr-secret-id-file", type=PATH)
@click.option("--tcr-secret-key-env")
@click.option("--tcr-secret-key-file", type=PATH)
@click.option(
    "--secret-file",
    type=PATH,
    help="image-transfer's secret file, with both API keys, instead of the options for them.",
)
@click.option(
    "--security-file",
    type=PATH,
    help="image-transfer's security file, with CCR's user and password, instead of the options for them.",
)
@click.option("--ccr-api-url", hidden=True)
@click.option("--tcr-api-url", hidden=True)
@click.option(
    "--newest",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="Of each repository so many tags, those that were pushed last.",
)
@click.option("--all-tags", is_flag=True, help="All tags, however many.")
@common
def ccr_to_tcr(
    ccr_region: str,
    ccr_url: str | None,
    ccr_user: str | None,
    secret_file: Path | None,
    security_file: Path | None,
    tcr_name: str | None,
    tcr_url: str | None,
    ccr_api_url: str | None,
    tcr_api_url: str | None,
    newest: int,
    all_tags: bool,
    **more: Any,
) -> None:
    """Move a whole Tencent CCR account to a TCR instance: namespaces and repositories are made where they miss.

    Secrets come by the environment or from files, never as arguments: the API key lists CCR and makes what TCR
    lacks, CCR's user and password pull.
    """
    from api.engine import tencent

    if (tcr_name is None) == (tcr_url is None):
        raise click.UsageError("give --tcr-name NAME, or --tcr-url URL")
    if newest == 0 and not all_tags:
        raise click.UsageError("--newest 0 would move nothing: --all-tags moves all of them")
    url = ccr_url or tencent.ccr_url(ccr_region)
    own, other = _keys(more, secret_file)
    user, password = _login(more, ccr_user, security_file, url)
    ends = tencent.Tencent(
        user,
        password,
        own,
        other,
        url,
        tcr_url or f"https://{tcr_name}.tencentcloudcr.com",
        ccr_api_url,
        tcr_api_url,
    )
    wanted = Wanted(newest=None if all_tags else newest, **more)
    move(wanted, {"registries": tencent.registries(ends)}, "ccr", "tcr")


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


def _keys(more: dict[str, Any], file: Path | None) -> tuple[Any, Any]:
    """Return the API keys of CCR and TCR, out of options or of image-transfer's file."""
    usual = None if file is not None else ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY")
    own, other = _key(more, "", usual), _key(more, "tcr_", None)
    if file is not None:
        if own is not None or other is not None:
            raise click.UsageError("--secret-file, or the options for each part, not both")
        from api.importers.quick_mode import keys

        return keys(str(file))
    if own is None:
        raise InvalidConfiguration(
            "the SecretId and SecretKey are not given",
            field="--secret-id-env",
            hint="name a variable (...-env) or a file (...-file) that holds each, or --secret-file",
        )
    return own, other or own


def _login(more: dict[str, Any], user: str | None, file: Path | None, url: str) -> tuple[str, str]:
    """Return CCR's user and password, out of options or of image-transfer's file."""
    password = _secret(
        "--ccr-password", more.pop("ccr_password_env"), more.pop("ccr_password_file")
    )
    if file is not None:
        if user is not None or password is not None:
            raise click.UsageError("--security-file, or --ccr-user and its password, not both")
        from api.importers.quick_mode import login

        return login(str(file), url.partition("://")[2])
    if user is None or password is None:
        raise InvalidConfiguration(
            "CCR's user and password are not given: pulling takes them",
            field="--ccr-user" if user is None else "--ccr-password-env",
            hint="give --ccr-user NUMBER, and --ccr-password-env or --ccr-password-file; or --security-file",
        )
    return user, password


def _key(more: dict[str, Any], prefix: str, usual: tuple[str, str] | None) -> Any:
    """Return an API key of the options that begin with a prefix; None where neither part is given."""
    from api.engine.tencent import ApiKey

    parts = []
    for number, part in enumerate(("secret_id", "secret_key")):
        name = f"{prefix}{part}"
        env, file = more.pop(f"{name}_env"), more.pop(f"{name}_file")
        if env is None and file is None and usual is not None and usual[number] in os.environ:
            env = usual[number]
        parts.append(_secret(f"--{name.replace('_', '-')}", env, file))
    identity, secret = parts
    if identity is None and secret is None:
        return None
    if identity is None or secret is None:
        missing = "id" if identity is None else "key"
        name = f"--{prefix}secret-{missing}".replace("_", "-")
        raise InvalidConfiguration(
            f"{name}-env or {name}-file is missing: both parts of an API key are needed",
            field=name,
            hint="name a variable or a file that holds it",
        )
    return ApiKey(identity, secret)


def _secret(option: str, env: str | None, file: Path | None) -> str | None:
    """Return a secret out of a variable or a file; None where neither is named. Raises InvalidConfiguration."""
    if env is not None and file is not None:
        raise click.UsageError(f"{option}-env or {option}-file, not both")
    if env is None and file is None:
        return None
    try:
        text = os.environ.get(env or "", "") if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidConfiguration(
            f"{file} cannot be read: {reason}", field=f"{option}-file", hint="name a readable file"
        ) from None
    if not text.strip():
        raise InvalidConfiguration(
            f"{file or 'the variable'} holds nothing",
            field=f"{option}-{'env' if file is None else 'file'}",
            hint="give the name of the variable or file, not the secret itself",
        )
    return text.strip()


def exit_with(found: dict[str, Any], wanted: Wanted) -> int:
    """Print a report and write its files; returns the exit code."""
    if wanted.as_json:
        exits.print_json(found)
    else:
        tell(found)
    return _written(wanted, found)
