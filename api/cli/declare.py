"""transship apply, diff, export: files against a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from api import documents
from api.cli import declared, exits
from api.cli.connection import connect
from api.cli.options import DATA, FILES, JSON

_SET = click.option("--set", "owner", metavar="NAME", help="The set that owns what the files have.")


@click.command()
@FILES
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@_SET
@click.option(
    "--prune", is_flag=True, help="Delete what belongs to the set and is not in the files any more."
)
@DATA
@JSON
def apply(
    files: tuple[str, ...],
    dry_run: bool,
    owner: str | None,
    prune: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Create or replace on a server what the files declare: registries, rules, regions and more.

    What is there already as the file says is left alone. Everything is checked before anything is
    written.
    """
    from api.config_file import load_files

    if prune and owner is None:
        raise click.UsageError("--prune needs --set: it deletes only what its own set owns")
    with connect(data) as server:
        state = declared.read_state(server)
        config = load_files(files, state.outside())
        changes = declared.compare(config, state, owner=owner, prune=prune)
        if not dry_run:
            declared.carry_out(server, changes, owner)
    told = [{"kind": c.kind, "name": c.name, "action": c.action} for c in changes]
    if as_json:
        exits.print_json({"schema": 1, "dry_run": dry_run, "changes": told})
        return
    for change in changes:
        would = "would be " if dry_run and change.differs else ""
        click.echo(f"{change.kind}/{change.name} {would}{change.action}")
    if not changes:
        click.echo("the files have nothing to apply", err=True)


@click.command()
@FILES
@_SET
@click.option("--prune", is_flag=True, help="Also show what `apply --prune` would delete.")
@DATA
@JSON
def diff(
    files: tuple[str, ...], owner: str | None, prune: bool, data: Path | None, as_json: bool
) -> None:
    """Show how a server differs from files; exit 1 when it does."""
    from api.config_file import load_files

    if prune and owner is None:
        raise click.UsageError("--prune needs --set: it deletes only what its own set owns")
    with connect(data) as server:
        state = declared.read_state(server)
        config = load_files(files, state.outside())
        changes = [
            change
            for change in declared.compare(config, state, owner=owner, prune=prune)
            if change.differs
        ]
    if as_json:
        told = [
            {"kind": c.kind, "name": c.name, "action": c.action, "fields": declared.fields(c)}
            for c in changes
        ]
        exits.print_json({"schema": 1, "different": bool(changes), "changes": told})
    else:
        for change in changes:
            click.echo(declared.unified(change), nl=False)
    sys.exit(exits.NOT_AS_THE_RULE_SAYS if changes else 0)


@click.command()
@click.option("--region", "regions", multiple=True, help="Only this region; may be repeated.")
@click.option("--link", "links", multiple=True, help="Only this link, FROM:TO.")
@click.option("--project", "projects", multiple=True, help="Only this project.")
@click.option("--registry", "registries", multiple=True, help="Only this registry.")
@click.option("--rule", "rules", multiple=True, help="Only this rule.")
@click.option("--pipeline", "pipelines", multiple=True, help="Only this pipeline.")
@DATA
def export(
    regions: tuple[str, ...],
    links: tuple[str, ...],
    projects: tuple[str, ...],
    registries: tuple[str, ...],
    rules: tuple[str, ...],
    pipelines: tuple[str, ...],
    data: Path | None,
) -> None:
    """Print what a server has as a file that `apply`, `diff` and `sync` read.

    Secrets stay where they are: a stored password is written as {set: true}, which keeps it.
    """
    wanted = {
        "regions": regions,
        "links": links,
        "projects": projects,
        "registries": registries,
        "rules": rules,
        "pipelines": pipelines,
    }
    everything = not any(wanted.values())
    document: dict[str, object] = {"version": 1}
    with connect(data) as server:
        for kind, names in wanted.items():
            if everything:
                items = list(declared.stored(server, kind))
            else:
                items = [server.ask("GET", f"/{kind}/{name}") for name in dict.fromkeys(names)]
            if items:
                document[kind] = [_exported(kind, item) for item in items]
    click.echo(documents.dump(document), nl=False)


def _exported(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody wrote, and of a pipeline the sign that its secret is stored, and stays."""
    found = documents.written(kind, item)
    if kind == "pipelines" and item["secret"]["set"]:
        found["secret"] = dict(item["secret"])
    return found
