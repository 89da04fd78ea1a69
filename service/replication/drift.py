"""Drift: what somebody else changed at a replica is seen by every comparison with it (issue 6 point 4).

While an execution is planned, a tag of the primary is held against what Transship knows of the replica's: one
that names neither what it wrote there nor what stood there when both were equal was moved by somebody, and one
that it wrote and that is not there was deleted. What was deleted is copied again, since that overwrites nothing.
What was moved is kept and told of, unless the rule says `drift: repair` or somebody asks for one repair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from service.model.reference import is_digest_tag
from service.model.replica import DELETED, MOVED, Drift, Replica
from service.model.rule import REPLICATE, SyncRule
from service.model.states import CopyState
from service.replication.compare import Comparison
from service.store.creation import ONE_SHOT, REPAIR
from service.store.drift import DriftStore, Place
from service.store.executions import ExecutionRecord
from service.store.replicas import ReplicaStore

WATCHED = frozenset({"full", "tags", "plan"})


class DriftWatch:
    """Looks at each page of one execution's comparison, and keeps what may not be overwritten."""

    def __init__(
        self,
        execution: str,
        rule: SyncRule,
        replicas: Mapping[str, Replica],
        store: DriftStore,
        *,
        notes: bool = True,
    ) -> None:
        """Watch one execution; `notes`: save what is seen, which a plan does not."""
        self._notes = notes
        self._execution = execution
        self._rule = rule
        self._replicas = replicas
        self._store = store

    def look(self, result: Comparison) -> None:
        """Save what a page says of replicas; copies over what somebody else moved become skipped ones."""
        places: list[Place] = [
            (item.destination_registry, item.destination_repository, item.destination_reference)
            for item in result.selected
        ]
        here = [
            (one.registry, one.repository, one.wanted.reference)
            for one in result.in_place
            if not _is_apart(one.wanted.reference)
        ]
        written, equal = self._store.known([*places, *here])
        found = []
        for position, (item, place) in enumerate(zip(result.selected, places, strict=True)):
            replica = self._replicas.get(place[0])
            if replica is None or item.state.ended or _is_apart(place[2]):
                continue
            if item.absent:
                if place in written:
                    found.append(self._drift(place, DELETED, item.digest, ""))
            elif item.found and item.found not in (written.get(place), equal.get(place)):
                found.append(self._drift(place, MOVED, item.digest, item.found))
                if not replica.overwrites(self._rule.drift):
                    result.selected[position] = replace(
                        item, state=CopyState.SKIPPED, reason=kept(place, item.found)
                    )
        news = {
            place: one.digest
            for one in result.in_place
            if (place := (one.registry, one.repository, one.wanted.reference)) in here
            and one.registry in self._replicas
            and one.digest not in (written.get(place), equal.get(place))
        }
        if self._notes:
            self._store.note(self._rule.name, self._execution, found, news)

    def _drift(self, place: Place, kind: str, wanted: str, found: str) -> Drift:
        registry, repository, tag = place
        return Drift(self._rule.name, registry, repository, tag, kind, wanted, found)


class DriftWatches:
    """Makes the watch of each execution that copies to replicas."""

    def __init__(self, replicas: ReplicaStore, store: DriftStore) -> None:
        self._replicas = replicas
        self._store = store

    def begin(
        self,
        record: ExecutionRecord,
        rule: SyncRule,
        destinations: Sequence[tuple[str, ...]],
        *,
        attempts: Callable[[], int],
    ) -> tuple[DriftWatch | None, list[tuple[str, ...]]]:
        """Return the watch of an execution, None where there is nothing to watch, and where it goes.

        A fenced registry is left out: it was the primary, and does not follow yet. `attempts` tells
        how often planning was begun: in the first one, a full execution brings a replica that joins everything.
        """
        if rule.mode != REPLICATE or record.trigger in ONE_SHOT:
            return None, list(destinations)
        since = record.created_at if record.kind == "full" and attempts() <= 1 else None
        names = {one for names in destinations for one in names}
        known = self._replicas.meet(rule.name, names, since)
        going = [tuple(name for name in names if not known[name].fenced) for names in destinations]
        if record.kind not in WATCHED or record.trigger == REPAIR:
            return None, going
        notes = record.kind != "plan"
        return DriftWatch(record.id, rule, known, self._store, notes=notes), going


def kept(place: Place, found: str) -> str:
    """Return the reason of a copy that would have overwritten drift."""
    _, repository, tag = place
    return f"{repository}:{tag} was moved to {found} by somebody else, and drift is report"


def _is_apart(reference: str) -> bool:
    """Whether a name is a digest, or a tag of one: what belongs to an image goes with the image."""
    return ":" in reference or is_digest_tag(reference)
