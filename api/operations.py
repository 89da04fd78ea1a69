"""What every route says of itself; sign-in, the OpenAPI document and its tests read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marshmallow import Schema

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "__transship_operation__"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: who may call it, what goes in, what comes out.

    `role` None means that no token is asked for; `platform`: only tokens without a project. `query` maps a parameter to its description;
    `results` maps status codes to a description and, where there is one, the answer's schema.
    """

    summary: str
    role: str | None
    results: Mapping[int, tuple[str, type[Schema] | None]]
    body: type[Schema] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    paged: bool = False
    platform: bool = False


def operation(
    summary: str,
    *,
    role: str | None,
    results: Mapping[int, tuple[str, type[Schema] | None]],
    **more: Any,
) -> Callable[[View], View]:
    """Mark a view; a view under /api without this mark answers nobody."""
    described = Operation(summary=summary, role=role, results=results, **more)

    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, described)
        return view

    return mark


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return what the view said of itself."""
    found: Operation | None = getattr(view, _ATTRIBUTE, None)
    return found
