"""Lists for people and programs: a table on a terminal, aligned columns in a pipe, JSON with --json.

A pipe gets the headings, too, unless the list is empty; programs read --json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from api.cli import exits

Column = tuple[str, Callable[[dict[str, Any]], Any]]


def show(items: Iterable[dict[str, Any]], as_json: bool, columns: Sequence[Column]) -> None:
    """Print a list."""
    if as_json:
        exits.print_json({"items": list(items), "next": None})
        return
    rows = [[_cell(read(item)) for _, read in columns] for item in items]
    if sys.stdout.isatty():
        _draw([title for title, _ in columns], rows)
    else:
        _align([[title for title, _ in columns], *rows] if rows else [])


def _cell(value: Any) -> str:
    """Return a value on one line; names and reasons of strangers may hold anything."""
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def _align(rows: Sequence[Sequence[str]]) -> None:
    widths = (
        [max((len(row[i]) for row in rows), default=0) for i in range(len(rows[0]))] if rows else []
    )
    for row in rows:
        click.echo(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _draw(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in titles:  # what is typed into the next command is never cut
        table.add_column(title, no_wrap=title in _WHOLE, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table if rows else "nothing")


_WHOLE = frozenset({"ID", "NAME"})
_STYLES = {
    **dict.fromkeys(("succeeded", "delivered", "copied", "whole"), "green"),
    **dict.fromkeys(("failed", "superseded", "revoked", "expired"), "red"),
    **dict.fromkeys(("partial", "stopped", "pending", "running", "paused"), "yellow"),
}
