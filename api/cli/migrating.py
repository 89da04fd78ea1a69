"""transship migrate: move all that a registry has to another one, from the plan to the report, in one command."""

from __future__ import annotations

from typing import Any

import click

from api.cli.move_tencent import ccr_to_tcr
from api.cli.moves import Wanted, common, move
from api.cli.options import MAYBE_FILES, SECONDS


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
@click.option(
    "--timeout", type=SECONDS, help="How long to wait for a server (30s, 5m); then exit 3."
)
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


migrate.add_command(ccr_to_tcr)
