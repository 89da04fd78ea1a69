"""transship import: files of other tools as transship.yaml."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from api.cli import exits
from api.cli.notes import counted
from api.cli.options import DATA, JSON, part

if TYPE_CHECKING:
    from api.importers.build import Imported
    from api.importers.formats import Options

NAMES = ("image-transfer", "image-syncer", "regsync", "skopeo", "harbor", "ocync", "list")
"""Here and not only in api.importers, so that the command line starts without them."""

_WORDS = {"lost": "not carried over", "changed": "means something else", "look": "look"}
_Command = TypeVar("_Command", bound=Callable[..., Any])


def peer_options(command: _Command) -> _Command:
    """Add what other tools take on their command lines."""
    for option in (
        click.option("--to", default="", help="HOST or HOST/PREFIX: skopeo's DESTINATION, image-transfer's --registry; "
                     "of a list, where lines with a source alone go."),
        click.option("--here", default="", help="Host of the Harbor that the policies are of."),
        click.option("--scoped", is_flag=True, help="skopeo's --scoped: names with their registry in front."),
        click.option("--append-suffix", "suffix", default="", help="skopeo's --append-suffix."),
        click.option("--plain-http", metavar="HOST", multiple=True, help="This registry speaks http; may be repeated."),
        click.option("--all-platforms", is_flag=True, help="skopeo's --all was given: whole indexes were meant."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("import")
@click.argument("words", metavar="[FORMAT] FILE...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here."
)
@click.option(
    "--store-secrets",
    "stored",
    is_flag=True,
    help="Keep passwords, encrypted, at the server that is asked.",
)
@DATA
@peer_options
@JSON
def import_(
    words: tuple[str, ...],
    output: Path | None,
    data: Path | None,
    as_json: bool,
    **peer: Any,
) -> None:
    """Turn FILEs of another tool into transship.yaml on stdout; stderr tells what is otherwise, line by line.

    FORMAT is image-transfer, image-syncer, regsync, skopeo, harbor, ocync or list; without it the files tell it by their shape. Files may come in any order. Passwords become references to variables, or to secrets of a server. Exit 1: some lines are not carried over.
    """
    form, files = _parted(words)
    imported = read(form, files, peer)
    if imported.hosts:
        _store(imported, data)
    if output is not None:
        output.write_text(imported.text())
    if as_json:
        exits.print_json(
            {
                "schema": 1,
                "whole": imported.whole,
                "rules": len(imported.document["rules"]),
                "registries": len(imported.document["registries"]),
                "document": imported.document,
                "notes": [
                    {"file": n.place.file, "line": n.place.line, "key": n.key, "what": n.weight, "text": n.text}
                    for n in imported.notes
                ],
            }
        )  # fmt: skip
    elif output is None:
        click.echo(imported.text(), nl=False)
    tell(imported)
    sys.exit(exits.AS_THE_RULE_SAYS if imported.whole else exits.NOT_AS_THE_RULE_SAYS)


def _parted(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return format and files; without a format the files tell it."""
    named = words[0] in NAMES
    files = words[1:] if named else words
    if not files:
        raise click.UsageError(f"give FILEs of {words[0]}; a file of that name is ./{words[0]}")
    for name in files:
        if not Path(name).exists() or Path(name).is_dir():
            kinds = f"no file, and no format: {', '.join(NAMES)}" if name == words[0] else "no file"
            raise click.UsageError(f"{name!r} is {kinds}")
    if named:
        return words[0], files
    from api.importers.recognise import recognise

    form = recognise(files)
    click.echo(f"transship: read as files of {form}", err=True)
    return form, files


def _store(imported: Imported, data: Path | None) -> None:
    """Have a server keep the passwords, each for its host alone."""
    from api.cli.connection import connect

    with connect(data) as server:
        for name, host in imported.hosts.items():
            value = {"value": imported.secrets[name], "hosts": [host]}
            server.ask("PUT", f"/secrets/{part(name)}", value)


def read(form: str, files: tuple[str, ...], peer: dict[str, Any]) -> Imported:
    """Return what files of another tool say; raises InvalidConfiguration."""
    from api.importers.formats import Options, import_files

    options: Options = Options(**peer)
    return import_files(form, files, options)


def tell(imported: Imported) -> None:
    """Print the report on stderr."""
    for note in imported.notes:
        click.echo(f"{note.place}: {note.key}: {_WORDS[note.weight]}: {note.text}", err=True)
    document = imported.document
    entries = sum(len(rule["select"]) for rule in document["rules"])
    lost = sum(note.weight == "lost" for note in imported.notes)
    click.echo(
        f"{counted(len(document['registries']), 'registry')}, {counted(len(document['rules']), 'rule')} with "
        f"{counted(entries, 'entry')}; not carried over: {lost}",
        err=True,
    )
