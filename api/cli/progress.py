"""Progress of executions on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from service.store.executions import ExecutionRecord, Totals

LINE_EVERY_SECONDS = 5.0


class Shown(Protocol):
    """Something that shows how far executions are."""

    def __call__(
        self, records: Sequence[ExecutionRecord], totals: Totals, notes: Sequence[str] = ()
    ) -> None:
        """Show the present figures; `notes` say why something does not move."""


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_EVERY_SECONDS
        self._told: set[str] = set()

    def __call__(
        self, records: Sequence[ExecutionRecord], totals: Totals, notes: Sequence[str] = ()
    ) -> None:
        now = time.monotonic()
        new = [note for note in notes if _kind(note) not in self._told]
        if now < self._next and not new:
            return
        self._told |= {_kind(note) for note in notes}
        if now >= self._next:
            self._next = now + LINE_EVERY_SECONDS
            new = list(notes)
            sys.stderr.write(f"{describe(records, totals)}\n")
        for note in new:
            sys.stderr.write(f"  {note}\n")
        sys.stderr.flush()


def _kind(note: str) -> str:
    """Return a note without its figures, which change."""
    return "".join(one for one in note if not one.isdigit())


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
        yield lambda _records, _totals, _notes=(): None
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        with _bar() as bar:
            yield bar


@contextmanager
def _bar() -> Iterator[Shown]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    below: list[Text] = []

    class Bar(Progress):
        """A bar with lines below it: figures, and why something does not move."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from below

    progress = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    task = progress.add_task("selecting", total=None)
    began = time.monotonic()

    def bar(records: Sequence[ExecutionRecord], totals: Totals, notes: Sequence[str] = ()) -> None:
        done = totals.copied + totals.unchanged + totals.skipped + totals.failed
        rate = totals.bytes_copied / max(0.001, time.monotonic() - began)
        figures = Text(
            f"  {size(totals.bytes_copied)} moved at {size(rate)}/s, "
            f"{size(totals.bytes_saved)} saved"
        )
        if totals.failed:
            figures.append(f", {totals.failed} failed", style="red")
        below[:] = [figures, *(Text(f"  {note}", style="yellow") for note in notes)]
        progress.update(
            task,
            description=_stage(records),
            total=done + totals.pending or None,
            completed=done,
        )

    with progress:
        yield bar


def _stage(records: Sequence[ExecutionRecord]) -> str:
    if all(record.planned for record in records):
        kinds = {record.kind for record in records}
        return _STAGES.get(kinds.pop(), "copying") if len(kinds) == 1 else "copying"
    return "trying again" if any(record.reason for record in records) else "comparing"


_STAGES = {"plan": "planning", "verify": "verifying"}
