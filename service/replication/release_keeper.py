"""Brings releases forward: sends what regions have to do, and sees when a staging has ended."""

from __future__ import annotations

from collections.abc import Callable

from service.model.borders import Borders
from service.model.ports import Publisher
from service.store.dispatching import DispatchStore
from service.store.release_work import ReleaseWorkStore
from service.telemetry import get_logger

LEASE = "releases"

log = get_logger("release")


class ReleaseKeeper:
    """Sends parts of releases to workers of their regions; any process may, nothing is sent twice at a time."""

    def __init__(
        self,
        store: ReleaseWorkStore,
        dispatching: DispatchStore,
        borders: Callable[[], Borders],
        publisher: Publisher,
    ) -> None:
        self._store = store
        self._dispatching = dispatching
        self._borders = borders
        self._publisher = publisher

    def step(self) -> None:
        """Do one round."""
        for name in self._store.end_stagings():
            log.info("release_staging_ended", release=name)
        self.send()

    def send(self) -> int:
        """Send parts that nobody is at; returns how many."""
        parts = self._store.to_send()
        slots = self._dispatching.slots() if parts else {}
        for part in parts:
            place = self._place(part.region, slots)
            if not slots.get(place) and self._publisher.waiting(place):
                continue  # nobody reads that queue, and one message is enough for when somebody does
            self._publisher.release_part(place, part.release, part.region, part.fence)
        return len(parts)

    def _place(self, region: str, slots: dict[str, int]) -> str:
        """Return the region whose workers do it: its own, or one of the same jurisdiction that stands in.

        For a far region, whose agent does no releases, any of home where no borders are drawn.
        """
        if slots.get(region):
            return region
        alive = [other for other, count in slots.items() if count]
        borders = self._borders()
        able = list(borders.substitutes(region, alive))
        if not able and not borders.are_drawn and region in self._dispatching.attended():
            able = alive
        return max(able, key=lambda other: slots[other]) if able else region
