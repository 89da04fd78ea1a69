"""Dispatch: send eligible copies in windows, so that Redis holds seconds of work and never a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.crashpoints import crashpoint
from service.model.ports import Publisher
from service.model.work import CopyRef
from service.protections import without
from service.settings import Settings
from service.store.dispatching import URGENT, DispatchStore, Eligible, Pending

WINDOW = 3
"""How many tasks stand in the queue for each live slot."""

PAGES = 2
"""What is left for each slot is cut into at least so many pages, the last ones ever smaller."""

RESEND_PLAN_SECONDS = 30.0

SLOTS_OF_A_PLANNING = 2
"""Workers plan in half of their slots; what is sent beyond that is refused, and comes again much later."""

LEAST_PLANNINGS = 2


class Dispatcher:
    """Keeps a window of copies in the queue of every region."""

    def __init__(
        self,
        settings: Settings,
        store: DispatchStore,
        publisher: Publisher,
        starved: Callable[[str], object] | None = None,
    ) -> None:
        """`starved` is told of a region whose copies no live worker waits for."""
        self._starved = starved
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
        urgent = self._store.urgent_plannings(waiting) if waiting else set()
        for execution in waiting:
            self._publisher.plan(execution, urgent=execution in urgent)
        return len(waiting)

    def fill_windows(self) -> int:
        """Send what fits into the window of each region; returns how many copies."""
        pending = self._store.pending()
        if not pending:
            return 0
        slots = self._store.slots()
        standing = self._store.standing()
        return sum(
            self._fill(one, slots.get(one.region, 0), standing.get((one.region, one.urgent), 0))
            for one in pending
        )

    def _fill(self, pending: Pending, slots: int, standing: int) -> int:
        if slots == 0:
            if self._starved is not None:
                self._starved(pending.region)
            return 0
        room = WINDOW * slots * self._settings.tags_per_task - standing
        if room <= 0:
            return 0
        region, urgent = pending.region, pending.urgent
        chosen = self._store.eligible(region, room, urgent=urgent)
        if pending.suspects and not urgent:
            chosen = [*self._one_suspect(region), *chosen]
        by_key = {item.id: item for item in chosen}
        sent = self._store.dispatch(chosen)
        if sent:
            crashpoint("sched.marked")
        try:
            self._publish(region, sent, by_key, slots, standing)
        except Exception:
            self._store.take_back(sent)  # what did arrive has an old fence by then
            raise
        if sent:
            crashpoint("sched.published")
        return len(sent)

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
