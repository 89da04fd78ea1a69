"""What every named object has: a version that a writer must have seen, and a set that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from service.errors import Conflict


def check_version(kind: str, name: str, row: Row[Any] | None, expected: int | None) -> None:
    """Raise Conflict when the row is not at the version that the writer has seen."""
    found = 0 if row is None else int(row.version)
    if expected is not None and expected != found:
        raise Conflict(
            f"{kind} {name} is at version {found}, not {expected}",
            hint="read it again and repeat the change",
        )


def check_created(kind: str, name: str, rowcount: int) -> None:
    """Raise Conflict when another process has created the object since it was looked for."""
    if rowcount != 1:
        raise Conflict(
            f"{kind} {name} was created by somebody else meanwhile",
            hint="read it again and repeat the change",
        )


def check_set(kind: str, name: str, row: Row[Any] | None, wanted: str | None) -> None:
    """Raise Conflict when an object that one set owns is written by another one."""
    if wanted is None or row is None or row.set_name in (None, wanted):
        return
    raise Conflict(
        f"{kind} {name} belongs to the set {row.set_name}, not {wanted}",
        hint=f"apply it with --set {row.set_name}, or delete it first",
    )


def is_unchanged(row: Row[Any], values: Mapping[str, Any]) -> bool:
    """Whether writing these columns would change nothing."""
    return all(_plain(getattr(row, key)) == _plain(value) for key, value in values.items())


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
