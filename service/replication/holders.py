"""Read a copy's content from the nearest registry that has it, and from the next one when that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from service.errors import (
    InvalidManifest,
    NetworkError,
    NotFoundInStore,
    RegistryAway,
    RegistryError,
    ServerError,
    Unsigned,
)
from service.model.work import CopyWork, Holder
from service.telemetry import get_logger

T = TypeVar("T")

log = get_logger("holders")


def from_nearest(work: CopyWork, attempt: Callable[[CopyWork], T]) -> T:
    """Return what `attempt` does with the copy, told where to read: each holder, and the source last.

    What a holder does not give (it is away or paused, refuses, lost it, sends bad bytes, has no
    signatures) is another's to give; any other error is the copy's own, and raised.
    """
    for holder in work.holders:
        try:
            return attempt(replace(work, holder=holder))
        except (RegistryError, NotFoundInStore, Unsigned, InvalidManifest) as error:
            if isinstance(error, RegistryError) and error.registry != holder.registry:
                raise
            log.warning(
                "holder_passed_over",
                copy=work.ref.id,
                holder=holder.registry,
                name=f"{holder.repository}:{holder.reference}",
                reason=str(error),
            )
    return attempt(replace(work, holder=None))


def is_away(error: RegistryError) -> bool:
    """Whether a registry did not answer; one that asks for patience, or refuses, has."""
    return isinstance(error, NetworkError | RegistryAway | ServerError)


def nearest(work: CopyWork) -> Holder:
    """Return where the copy is read first."""
    return work.holders[0] if work.holders else work.reads_from
