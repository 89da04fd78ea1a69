"""Progress of executions on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from service.store.executions import ExecutionRecord, Totals

LINE_EVERY_SECONDS = 5.0


class Shown(Protocol):
    """Something that shows how far executions are."""

    def __call__(self, records: Sequence[ExecutionRecord], totals: Totals) -> None:
        """Show the present figures."""


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY_SECONDS

    def __call__(self, records: Sequence[ExecutionRecord], totals: Totals) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_EVERY_SECONDS
        sys.stderr.write(f"{describe(records, totals)}\n")
        sys.stderr.flush()


def describe(records: Sequence[ExecutionRecord], totals: Totals) -> str:
    """Return one line of figures."""
    done = totals.copied + totals.unchanged + totals.skipped + totals.failed
    waiting = next((record.reason for record in records if not record.planned), "")
    if waiting:
        return f"trying again: {waiting}"
    more = "" if all(record.planned for record in records) else "+"
    return (
        f"{done}/{done + totals.pending}{more} tags, {totals.copied} copied, "
        f"{totals.unchanged} unchanged, {totals.failed} failed, "
        f"{size(totals.bytes_copied)} moved, {size(totals.bytes_saved)} saved"
    )


def size(count: float) -> str:
    """Return bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def show(*, quiet: bool = False) -> Iterator[Shown]:
    """Yield what shows progress for as long as the block lasts."""
    if quiet:
        yield lambda _records, _totals: None
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        with _bar() as bar:
            yield bar


@contextmanager
def _bar() -> Iterator[Shown]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    task = progress.add_task("selecting", total=None, figures="")
    began = time.monotonic()

    def bar(records: Sequence[ExecutionRecord], totals: Totals) -> None:
        done = totals.copied + totals.unchanged + totals.skipped + totals.failed
        rate = totals.bytes_copied / max(0.001, time.monotonic() - began)
        failed = f", [red]{totals.failed} failed[/red]" if totals.failed else ""
        progress.update(
            task,
            description=_stage(records),
            total=done + totals.pending or None,
            completed=done,
            figures=(
                f"{size(totals.bytes_copied)} moved at {size(rate)}/s, "
                f"{size(totals.bytes_saved)} saved{failed}"
            ),
        )

    with progress:
        yield bar


def _stage(records: Sequence[ExecutionRecord]) -> str:
    if all(record.planned for record in records):
        return "copying"
    return "trying again" if any(record.reason for record in records) else "comparing"
