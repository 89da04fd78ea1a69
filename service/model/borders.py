"""Borders: which registries and workers are foreign to each other (DESIGN section 7).

Nothing is foreign until somebody declares a region: then a region that nobody declared, and one without a
jurisdiction, are foreign to every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from service.errors import FieldProblem
from service.model.rule import REPLICATE, SyncRule

HINT = "name the registry itself: only a named destination lies across a border"
REPLICATE_HINT = "let a rule of mode sync cross, and replicate from there on"


@dataclass(frozen=True, slots=True)
class Borders:
    """The jurisdictions of the declared regions."""

    jurisdictions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def are_drawn(self) -> bool:
        """Whether there are any."""
        return bool(self.jurisdictions)

    def jurisdiction(self, region: str) -> str:
        """Return the jurisdiction of a region; one without any is a jurisdiction of its own."""
        if not self.are_drawn:
            return ""
        return self.jurisdictions.get(region) or f"region {region}"

    def lies_between(self, one: str, other: str) -> bool:
        """Whether two regions are foreign to each other."""
        return self.jurisdiction(one) != self.jurisdiction(other)

    def touched(self, regions: Iterable[str]) -> frozenset[str]:
        """Return the jurisdictions of regions: a worker of any other has no business with them."""
        return frozenset(map(self.jurisdiction, regions))

    def may_work(self, worker: str, regions: Iterable[str]) -> bool:
        """Whether a worker's region lies in a jurisdiction that is touched anyway."""
        return self.jurisdiction(worker) in self.touched(regions)

    def substitutes(self, region: str, others: Iterable[str]) -> list[str]:
        """Return the regions whose workers may stand in for those of a region."""
        if self.jurisdictions.get(region) is None:
            return []
        return [one for one in others if one != region and not self.lies_between(one, region)]


NO_BORDERS = Borders()


def check_borders(
    rule: SyncRule,
    region_of: Callable[[str], str | None],
    members: Mapping[str, Iterable[str]],
    borders: Borders,
) -> tuple[FieldProblem, ...]:
    """Return which groups of a rule reach across a border, and what it may not replicate to.

    `region_of` gives a registry's region, None for one that there is not; `members` those of each group.
    """
    return tuple(_problems(rule, region_of, members, borders))


def _problems(
    rule: SyncRule,
    region_of: Callable[[str], str | None],
    members: Mapping[str, Iterable[str]],
    borders: Borders,
) -> Iterator[FieldProblem]:
    here = region_of(rule.source)
    if here is None:
        return
    for index, destination in enumerate(rule.destinations):
        name = destination.registry or ""
        there = region_of(name)
        if rule.mode == REPLICATE and there is not None and borders.lies_between(here, there):
            yield FieldProblem(
                f"destinations[{index}].registry",
                f"{name} is in {borders.jurisdiction(there)}, and {rule.source} in "
                f"{borders.jurisdiction(here)}: nothing is replicated across a border",
                REPLICATE_HINT,
            )
        for name in members.get(destination.group or "", ()):
            there = region_of(name)
            if name != rule.source and there is not None and borders.lies_between(here, there):
                yield FieldProblem(
                    f"destinations[{index}].group",
                    f"{name} of group {destination.group} is in {borders.jurisdiction(there)}, "
                    f"and {rule.source} in {borders.jurisdiction(here)}",
                    HINT,
                )
