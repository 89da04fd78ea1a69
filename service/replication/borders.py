"""Borders, held where bytes are moved: whatever was written in SQL meanwhile, none cross that may not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from service.errors import BorderClosed, NotFoundInStore, StoreUnavailable, WrongRegion
from service.model.borders import Borders
from service.model.work import CopyWork
from service.replication.clients import Clients
from service.settings import Settings
from service.store.regions import RegionStore

WRONG_REGION_SECONDS = 5.0
"""How long what this worker may not touch waits for another one."""

RECHECK_SECONDS = 2.0
"""How late a process notices that somebody has drawn a border."""


class BorderGuard:
    """Judges what this process may do. Safe between threads."""

    def __init__(
        self,
        settings: Settings,
        regions: RegionStore,
        clients: Clients,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`settings.region` is where this process stands; one machine alone stands where it is put."""
        self._settings = settings
        self._regions = regions
        self._clients = clients
        self._clock = clock
        self._seen: tuple[float, Borders] | None = None

    def borders(self) -> Borders:
        """Return the borders, as seen some seconds ago, or when SQL last answered. Raises StoreUnavailable."""
        now = self._clock()
        seen = self._seen
        if seen is None or now - seen[0] >= RECHECK_SECONDS:
            try:
                seen = self._seen = (now, Borders(self._regions.jurisdictions()))
            except StoreUnavailable:
                if seen is None:
                    raise
        return seen[1]

    def look_anew(self) -> None:
        """Have SQL asked when the borders are asked for next: what was drawn before this counts."""
        if self._seen is not None:
            self._seen = (self._clock() - RECHECK_SECONDS, self._seen[1])

    def check_place(self, registries: Iterable[str]) -> None:
        """Raise WrongRegion when this process stands in a jurisdiction that none of them is in.

        The last one's region is the one to do it instead.
        """
        borders = self.borders()
        if not borders.are_drawn or self._settings.one_machine:
            return
        regions = [self._region(name) for name in registries]
        here = self._settings.region
        if not borders.may_work(here, regions):
            touched = " and ".join(sorted(borders.touched(regions)))
            raise WrongRegion(
                f"a worker of region {here} ({borders.jurisdiction(here)}) may not touch what is "
                f"of {touched}",
                region=regions[-1],
            )

    def check_way(self, source: str, destination: str, *, named: bool) -> None:
        """Raise BorderClosed when nothing of a registry may reach another one, and WrongRegion.

        `named`: the rule names the destination itself, and does not replicate.
        """
        borders = self.borders()
        if not borders.are_drawn:
            return
        self.check_place((source, destination))
        here, there = self._region(source), self._region(destination)
        if not named and borders.lies_between(here, there):
            raise BorderClosed(
                f"{destination} is in {borders.jurisdiction(there)}, and "
                f"{source} in {borders.jurisdiction(here)}"
            )

    def allowed(self, work: CopyWork) -> CopyWork:
        """Return the copy with those holders that it may be read at.

        Raises BorderClosed when its bytes may not go to its destination, and WrongRegion.
        """
        self.check_way(work.source_registry, work.destination_registry, named=work.named)
        borders = self.borders()
        if work.named or not borders.are_drawn:
            return work
        there = self._region(work.destination_registry)
        near = [
            h for h in work.holders if not borders.lies_between(self._region(h.registry), there)
        ]
        return replace(work, holders=tuple(near))

    def able(self, alive: Iterable[str], registries: Sequence[str]) -> list[str]:
        """Return those of some regions whose workers may touch registries; the last one's own region first."""
        borders = self.borders()
        regions = [self._region(name) for name in registries]
        able = [one for one in sorted(alive) if borders.may_work(one, regions)]
        return sorted(
            able, key=lambda one: (one != regions[-1], borders.lies_between(one, regions[-1]))
        )

    def turf(self) -> str:
        """Return the jurisdiction that holds this process back, "" for none: no border, or one machine alone."""
        borders = self.borders()
        if self._settings.one_machine:
            return ""
        return borders.jurisdiction(self._settings.region)

    def crossing(self, sender: str, receiver: str) -> tuple[str, str] | None:
        """Return the jurisdictions between which bytes go from registry to registry, None inside of one."""
        borders = self.borders()
        if not borders.are_drawn:
            return None
        here, there = self._region(sender), self._region(receiver)
        if not borders.lies_between(here, there):
            return None
        return borders.jurisdiction(here), borders.jurisdiction(there)

    def region_of(self, registry: str) -> str | None:
        """Return a registry's region; None when there is no such registry."""
        try:
            return self._clients.endpoint(registry).region
        except NotFoundInStore:
            return None

    def _region(self, registry: str) -> str:
        return self.region_of(registry) or f"registry {registry}"  # foreign to all
