"""Deletions and borders: by the guard that copies are held to (DESIGN section 7, issue 6 point 5).

What the scheduler may not touch is sent to workers who may; where none lives, it waits and says why. One piece of work
is in the hands of one process at a time.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from service.errors import TransshipError, WrongRegion
from service.model.rule import REPLICATE, SyncRule
from service.replication.borders import BorderGuard
from service.store.audit import Change
from service.store.deletion_values import Deletion, WrittenTag

HINT = "start a worker, or a scheduler with TRANSSHIP_REGION, in the source's or the destination's jurisdiction"
MAX_NAME = 255


class Elsewhere(WrongRegion):
    """Workers of another region may, and live: `region`. `registries`: where a rule's run is left to be looked at."""

    registries: Sequence[str] = ()


class DeletionBorders:
    """Judges what this process may look for and delete."""

    def __init__(
        self,
        guard: BorderGuard,
        lead: Callable[[str], bool],
        resign: Callable[[str], None],
        slots: Callable[[], Mapping[str, int]],
    ) -> None:
        """`lead` takes or renews a lease by its name, False while another process has it; `resign` lets it go.

        `slots`: the live slots of workers by region.
        """
        self._slots = slots
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self._guard = guard
        self._lead = lead
        self._resign = resign

    def lease(self, name: str) -> str:
        """Return the name of the lease under which processes of this one's jurisdiction act."""
        turf = self._guard.turf()
        return f"{name} {_short(turf)}" if turf else name

    @contextmanager
    def turn(self, piece: str) -> Iterator[bool]:
        """Whether it is this process's turn to do a piece of work; it is, where no borders are drawn."""
        if not self._guard.turf():
            yield True
            return
        with self._lock:
            free = piece not in self._in_hand
            self._in_hand.add(piece)
        if not free:  # another thread of this process has it
            yield False
            return
        lease = f"deletion {_short(piece)}"
        try:
            ours = self._lead(lease)
            try:
                yield ours
            finally:
                if ours:
                    self._resign(lease)
        finally:
            with self._lock:
                self._in_hand.discard(piece)

    def check(self, rule: SyncRule, registry: str) -> None:
        """Raise BorderClosed where a rule may not reach, WrongRegion where this process may not.

        Elsewhere names a region whose workers may.
        """
        named = rule.mode != REPLICATE and any(d.registry == registry for d in rule.destinations)
        try:
            self._guard.check_way(rule.source, registry, named=named)
        except WrongRegion as error:
            alive = [region for region, count in self._slots().items() if count]
            able = self._guard.able(alive, (rule.source, registry))
            if not able:
                raise
            raise Elsewhere(error.message, region=able[0]) from error

    def crossing(self, rule: SyncRule, due: Deletion, tag: WrittenTag) -> Change | None:
        """Return the row for the audit log of a tag that goes at the other side of a border, None inside of one."""
        between = self._guard.crossing(rule.source, due.registry)
        if between is None:
            return None
        here, there = between
        return Change(
            actor=f"rule {due.rule}",
            action="delete",
            kind="tag",
            name=f"{due.registry}/{tag.repository}:{tag.tag}"[:MAX_NAME],
            project=due.project,
            after={"deletion": due.id, "from": here, "to": there, "digest": tag.digest},
        )


def why(error: TransshipError) -> str:
    """Return what a deletion waits for, with what to do."""
    return f"{error.message}; {HINT if isinstance(error, WrongRegion) else error.hint}"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
