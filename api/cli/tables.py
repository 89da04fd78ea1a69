"""Lists for people and programs: a table on a terminal, aligned columns in a pipe, JSON with --json.

A pipe gets the headings, too, unless the list is empty; programs read --json.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import unicodedata
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
    if moment := _FRACTION.fullmatch(text):  # people read seconds; --json has the rest
        text = f"{moment[1]}Z"
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
    if not rows:
        click.echo("nothing")
        return
    for line in drawn(titles, rows, shutil.get_terminal_size().columns):
        click.echo(line)


def drawn(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table for a terminal of `width` columns.

    Only prose and lists fold, times between day and time when nothing else helps; what is typed
    into the next command is never cut. Where no column is left for a reason, it goes beneath.
    """
    widths = [
        max(_length(title), *(_length(row[at]) for row in rows)) for at, title in enumerate(titles)
    ]
    _narrow(widths, titles, width, _FOLDED, ROOM)
    while _total(widths) > width and titles[len(widths) - 1] in _PROSE:
        widths.pop()
        _narrow(widths, titles, width, _FOLDED, ROOM // 2)
    _narrow(widths, titles, width, _TIMES, len("2026-01-31"))
    _narrow(widths, titles, width, _FOLDED | _LAST, ROOM // 3)
    shown = titles[: len(widths)]
    lines = [click.style(line, bold=True) for line in _line([[title] for title in shown], widths)]
    lines.append("-" * min(width, _total(widths)))
    for row in rows:
        cells = [
            _folded(cell, room, title in _TIMES)
            for cell, room, title in zip(row, widths, shown, strict=False)
        ]
        lines += _line(cells, widths)
        for beneath in filter(None, row[len(widths) :]):
            lines += [f"  {part}" for part in _folded(beneath, max(ROOM, width - 2), False)]
    return lines


def _narrow(
    widths: list[int], titles: Sequence[str], width: int, which: frozenset[str], least: int
) -> None:
    """Take columns from the widest of `which` until the table fits or each has its `least`."""
    able = [
        (at, max(least, _length(titles[at]))) for at in range(len(widths)) if titles[at] in which
    ]
    while _total(widths) > width:
        wide = [(widths[at], at) for at, floor in able if widths[at] > floor]
        if not wide:
            return
        widths[max(wide)[1]] -= 1


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _line(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    lines = []
    for at in range(max(map(len, cells))):
        parts = []
        for cell, width in zip(cells, widths, strict=True):
            text = cell[at] if at < len(cell) else ""
            style = _STYLES.get(text)
            padding = " " * (width - _length(text))
            parts.append((click.style(text, fg=style) if style else text) + padding)
        lines.append("  ".join(parts).rstrip())
    return lines


def _folded(cell: str, width: int, time: bool) -> list[str]:
    if _length(cell) <= width:
        return [cell]
    if time:
        return [part for part in cell.partition("T") if part != "T"]
    return textwrap.wrap(cell, width) or [""]


def _length(text: str) -> int:
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


ROOM = 24  # columns that prose gets at least beside the others; with fewer it goes beneath
_PROSE = frozenset({"REASON", "HINT", "WHY"})
_FOLDED = _PROSE | {"URL", "WAY", "READS", "WRITES", "HOSTS", "EVENTS", "GROUPS", "ONLY", "OBJECT"}
_LAST = frozenset({"RULE", "WHAT", "TRIGGER", "PROJECT", "EVENT", "NAME THERE", "SOURCE"})
_TIMES = frozenset({"CREATED", "AT", "UPDATED", "DUE", "EXPIRES", "NEXT RUN"})
_FRACTION = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")
_STYLES = {
    **dict.fromkeys(("succeeded", "delivered", "copied", "whole"), "green"),
    **dict.fromkeys(("failed", "superseded", "revoked", "expired"), "red"),
    **dict.fromkeys(("partial", "stopped", "pending", "running", "paused"), "yellow"),
}
