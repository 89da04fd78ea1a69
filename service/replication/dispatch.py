"""Dispatch: send eligible copies in windows, so that Redis holds seconds of work and never a rule."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from service.crashpoints import crashpoint
from service.model.borders import Borders
from service.model.ports import Publisher
from service.model.rule import SyncRule
from service.model.work import CopyRef
from service.protections import without
from service.settings import Settings
from service.store.dispatching import URGENT, DispatchStore, Eligible, Pending
from service.telemetry import get_logger

WINDOW = 3
"""How many tasks stand in the queue for each live slot."""

PAGES = 2
"""What is left for each slot is cut into at least so many pages, the last ones ever smaller."""

RESEND_PLAN_SECONDS = 30.0

SLOTS_OF_A_PLANNING = 2
"""Workers plan in half of their slots; what is sent beyond that is refused, and comes again much later."""

LEAST_PLANNINGS = 2

NOBODY_SECONDS = 5.0
"""How long a planning waits that no live worker may do."""

WARN_SECONDS = 60.0

log = get_logger("dispatch")


class Dispatcher:
    """Keeps a window of copies in the queue of every region."""

    def __init__(
        self,
        settings: Settings,
        store: DispatchStore,
        publisher: Publisher,
        starved: Callable[[str], object] | None = None,
        *,
        borders: Callable[[], Borders] = Borders,
        region_of: Callable[[str], str | None] = lambda _name: None,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """`starved` is told of a region whose copies no live worker waits for.

        `borders` and `region_of`, of a registry, say whose workers may do what. `may_send`: whether anything is
        to be begun now.
        """
        self._may_send = may_send
        self._starved = starved
        self._borders = borders
        self._region_of = region_of
        self._told: dict[str, float] = {}
        self._settings = settings
        self._store = store
        self._publisher = publisher

    def send_plans(self) -> int:
        """Send executions that nobody plans; returns how many."""
        if without("outbox"):
            return 0
        slots = sum(self._store.slots().values())
        waiting = self._store.unplanned(
            RESEND_PLAN_SECONDS, max(LEAST_PLANNINGS, slots // SLOTS_OF_A_PLANNING)
        )
        if not waiting:
            return 0
        urgent = self._store.urgent_plannings(waiting)
        places = self._places_to_plan(waiting)
        unsent = [execution for execution in waiting if execution in places]
        try:
            while unsent:
                region, first = places[unsent[0]], unsent[0] in urgent
                self._publisher.plan(unsent[0], urgent=first, region=region)
                del unsent[0]
        except Exception:
            self._store.take_back_plans(unsent)  # or they would count as sent for half a minute
            raise
        return len(places)

    def _places_to_plan(self, waiting: Sequence[str]) -> dict[str, str | None]:
        """Return the region whose workers may plan each execution, None: any; none of it: nobody may.

        Who plans reads manifests: it stands where the source or a destination is (issue 6 point 5).
        """
        borders = self._borders()
        if not borders.are_drawn or self._settings.one_machine:
            return dict.fromkeys(waiting)
        slots = {region: count for region, count in self._store.slots().items() if count}
        found: dict[str, str | None] = {}
        for execution, rule in self._store.specs(waiting).items():
            touched = borders.touched(self._regions_of(rule))
            able = [region for region in slots if borders.jurisdiction(region) in touched]
            if not touched:
                found[execution] = None  # its registries are gone: whoever plans it says so
            elif able:
                weights = [slots[region] for region in able]
                found[execution] = random.choices(able, weights)[0]  # noqa: S311 - spreads work
            elif slots:
                where = " or ".join(sorted(touched))
                self._warn(f"plan:{where}", "nobody_may_plan", execution=execution, where=where)
                reason = f"no worker is alive in {where}, and no other may look at its images"
                self._store.put_off_planning([execution], NOBODY_SECONDS, reason)
            else:
                found[execution] = None
        return found

    def _regions_of(self, rule: SyncRule) -> list[str]:
        names = [rule.source, *(d.registry for d in rule.destinations if d.registry)]
        return [region for name in names if (region := self._region_of(name)) is not None]

    def _warn(self, key: str, event: str, **what: object) -> None:
        """Say what stands still, now and then."""
        now = time.monotonic()
        if now - self._told.get(key, -WARN_SECONDS) >= WARN_SECONDS:
            self._told[key] = now
            log.warning(event, **what)

    def fill_windows(self) -> int:
        """Send what fits into the window of each region; returns how many copies."""
        pending = self._store.pending()
        if not pending or not self._may_send():
            return 0
        slots = self._store.slots()
        standing = self._store.standing()
        attended = self._store.attended()
        return sum(
            self._fill(one, slots, standing) for one in pending if one.region not in attended
        )

    def _fill(
        self, pending: Pending, all_slots: dict[str, int], all_standing: dict[tuple[str, bool], int]
    ) -> int:
        place = self._place(pending.region, all_slots)
        slots = all_slots.get(place, 0)
        if slots == 0:
            if self._starved is not None:
                self._starved(pending.region)
            return 0
        standing = all_standing.get((place, pending.urgent), 0)
        room = WINDOW * slots * self._settings.tags_per_task - standing
        if room <= 0:
            return 0
        region, urgent = pending.region, pending.urgent
        chosen = self._store.eligible(region, room, urgent=urgent)
        if pending.suspects and not urgent:
            chosen = [*self._one_suspect(region), *chosen]
        by_key = {item.id: item for item in chosen}
        moved = None if place == region else place
        sent = self._store.dispatch(chosen, region=moved)
        if sent:
            crashpoint("sched.marked")
        try:
            self._publish(place, sent, by_key, slots, standing)
        except Exception:
            self._store.take_back(sent)  # what did arrive has an old fence by then
            raise
        if sent:
            crashpoint("sched.published")
        return len(sent)

    def unserved(self) -> frozenset[str]:
        """Return the regions whose copies nobody carries out, as no worker lives there or may stand in.

        None while no worker lives anywhere: then all are about to start, and nothing moves anyway.
        """
        slots = self._store.slots()
        attended = self._store.attended()
        if not any(slots.values()) and not attended:
            return frozenset()
        return frozenset(
            one.region
            for one in self._store.pending()
            if one.region not in attended and not slots.get(self._place(one.region, slots))
        )

    def _place(self, region: str, slots: dict[str, int]) -> str:
        """Return the region whose workers carry out copies of a region: its own, or one that stands in.

        Never one in another jurisdiction: then copies wait, and somebody is told.
        """
        if slots.get(region):
            return region
        alive = [other for other, count in slots.items() if count]
        able = self._borders().substitutes(region, alive)
        if able:
            place = max(able, key=lambda other: slots[other])
            self._warn(f"instead:{region}", "region_stood_in_for", region=region, by=place)
            return place
        if alive:
            self._warn(f"dead:{region}", "region_without_workers", region=region)
        return region

    def _publish(
        self,
        region: str,
        sent: Sequence[CopyRef],
        by_key: dict[int, Eligible],
        slots: int,
        standing: int,
    ) -> None:
        for urgent in (True, False):
            refs = [ref for ref in sent if (by_key[ref.id].priority == URGENT) is urgent]
            alone = [ref for ref in refs if by_key[ref.id].suspect]
            together = [ref for ref in refs if not by_key[ref.id].suspect]
            pages = [*([ref] for ref in alone), *self._pages(together, slots, standing)]
            if pages:
                self._publisher.replicate(region, pages, urgent=urgent)

    def _one_suspect(self, region: str) -> list[Eligible]:
        """Let at most one suspect out: should a worker die again meanwhile, it is known by name."""
        suspects = self._store.eligible(region, 1, suspect=True)
        return [] if suspects and self._store.suspects_out() else suspects

    def _pages(self, refs: Sequence[CopyRef], slots: int, standing: int) -> list[Sequence[CopyRef]]:
        """Cut copies into pages, each a share of what is left: full ones while there is plenty.

        The last ones are single copies, so that no slot is busy with a page when all others are idle.
        """
        pages, start = [], 0
        while start < len(refs):
            left = len(refs) - start + standing
            size = max(1, min(self._settings.tags_per_task, left // (PAGES * slots)))
            pages.append(refs[start : start + size])
            start += size
        return pages
