"""Regions and the links between them: where registries and workers are, and what joins them (DESIGN section 7)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Region:
    """A place where workers run and registries stand.

    `jurisdiction`: None counts as foreign to every other.
    """

    name: str
    jurisdiction: str | None = None


@dataclass(frozen=True, slots=True)
class Feeders:
    """The destinations that another one may be fed from.

    `near`: its parent in the route, then those from which a byte costs no more and takes no longer;
    `dearer`: all others, the cheapest first.
    """

    near: tuple[str, ...]
    dearer: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the parent first."""
        return self.near + self.dearer


@dataclass(frozen=True, slots=True)
class Link:
    """The way from one region to another, in this direction alone; the pair is its identity."""

    source: str
    target: str
    bandwidth: int | None = None  # bytes a second; None: not known, taken for plenty
    cost_per_gib: float | None = None  # in whatever money the operator counts; None: free

    @property
    def name(self) -> str:
        """The identity, as lists and addresses spell it: FROM:TO."""
        return f"{self.source}:{self.target}"
