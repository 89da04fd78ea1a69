"""Whose work a thread does: its log lines name the copy, and its requests are parts of the execution's trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service import tracing
from service.model.work import CopyWork
from service.telemetry import about


@contextmanager
def at_work(work: CopyWork, step: str, **more: tracing.Attribute) -> Iterator[Callable[..., None]]:
    """Have this thread, and those that help it, be at work on a copy; yields what adds attributes to the span."""
    fields = {"execution": work.execution, "copy": work.ref.id, "digest": work.digest}
    if not tracing.is_on():
        with about(**fields):
            yield _untold
        return
    attributes: dict[str, tracing.Attribute] = {
        "transship.execution": work.execution,
        "transship.rule": work.rule,
        "transship.copy": work.ref.id,
        "transship.source": f"{work.source_registry}/{work.source_repository}:{work.source_reference}",
        "transship.destination": (
            f"{work.destination_registry}/{work.destination_repository}:{work.destination_reference}"
        ),
        "transship.digest": work.digest,
        **{f"transship.{key}": value for key, value in more.items()},
    }
    with about(**fields), tracing.span(step, work.execution, **attributes) as tell:
        yield tell


def _untold(**_more: object) -> None:
    """Do nothing."""
