"""Keep replicas: have new ones filled, and compare what each lists with its primary (issue 6 point 4).

The planner sees of a replica what the primary has. What only the replica has is looked for here, after each
full execution: its repositories and tags are listed, then the primary's, so that a tag that was copied
meanwhile is not taken for one that somebody added. Nothing is ever deleted for it: what Transship has not
written it does not delete (reliability.md P6).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from service.errors import (
    Denied,
    InvalidInput,
    NotFound,
    RegistryError,
    StoreUnavailable,
    TransshipError,
    Unsupported,
)
from service.model.reference import is_digest_tag
from service.model.replica import ADDED, MOVED, Drift, Replica
from service.model.rule import SyncRule
from service.model.selection import followers, members_of_groups
from service.registry.client import RegistryClient
from service.replication.clients import Clients
from service.store.drift import DriftStore
from service.store.registries import RegistryStore
from service.store.replicas import ReplicaStore
from service.telemetry import get_logger

LEASE = "replicas"
AGAIN_SECONDS = 60.0
"""After so long a replica is looked at again that could not be compared."""
NOTED = 10_000
"""So many added things of one replica are told of one by one."""
UNLISTED = (
    "{registry} does not list its repositories: what was added outside of the primary's is not seen"
)

log = get_logger("replicas")


class ReplicaKeeper:
    """Brings replicas forward; any process may, under a lease one does."""

    def __init__(
        self,
        registries: RegistryStore,
        store: ReplicaStore,
        drift: DriftStore,
        clients: Clients,
    ) -> None:
        self._registries = registries
        self._store = store
        self._drift = drift
        self._clients = clients
        self._not_before: dict[str, float] = {}

    def step(self) -> None:
        """Do what is due; one replica's trouble does not keep the others back."""
        self._store.forget_strays()
        rules = self._store.rules()
        if not rules:
            return
        members = members_of_groups(one.endpoint for one in self._registries.list(limit=10_000))
        for rule in rules:
            self._rule(rule, followers(rule, members))

    def _rule(self, rule: SyncRule, names: Sequence[str]) -> None:
        known = self._store.meet(rule.name, names)
        self._store.leave(rule.name, names)
        if self._store.is_paused(rule.name):
            return
        trigger = rule.trigger
        if trigger.event or trigger.schedule or trigger.every_seconds is not None:
            started = self._store.backfill(rule)
            if started:
                log.info("backfill_started", rule=rule.name, execution=started)
        self._drift.mark_repaired(rule.name)
        last = self._store.last_full(rule.name)
        if last is None:
            return
        for name in names:
            replica = known[name]
            if not replica.fenced:
                self._attempt(f"{rule.name}:{name}", partial(self._compare, rule, replica, *last))

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        if time.monotonic() < self._not_before.get(name, 0.0):
            return
        try:
            work()
        except StoreUnavailable:
            raise
        except TransshipError as error:
            log.warning("replica_not_compared", replica=name, reason=error.message)
            self._not_before[name] = time.monotonic() + AGAIN_SECONDS
        else:
            self._not_before.pop(name, None)

    # ---- comparing -------------------------------------------------------------------------------

    def _compare(self, rule: SyncRule, replica: Replica, execution: str, made_at: float) -> None:
        name = replica.registry
        if replica.compared_in < execution and made_at >= replica.joined_at:
            if name not in self._store.failed_in(execution):
                self._drift.conclude(rule.name, name, execution)
                self._store.caught_up(rule.name, name, made_at)
            note = self._look(rule, name, execution)
            self._drift.conclude(rule.name, name, execution, (ADDED,))
            self._store.compared(rule.name, name, execution, note)
        if self._store.is_running(rule.name):
            return  # what it repairs, and what it finds, is told of when it has ended
        told = self._drift.tell(rule.name, rule.project, name)
        if told:
            log.warning("replica_drifted", rule=rule.name, registry=name, things=told)
        elif told == 0:
            log.info("replica_in_step", rule=rule.name, registry=name)

    def _look(self, rule: SyncRule, name: str, execution: str) -> str:
        """Note what a replica has that its primary lacks; returns what could not be looked at."""
        replica, primary = self._clients.get(name), self._clients.get(rule.source)
        noted = 0
        repositories, note = self._repositories(replica, execution)
        for repository in repositories:
            found = self._added(rule, replica, primary, repository)
            if noted + len(found) > NOTED:
                return f"more than {NOTED} tags were added; the first of them are told of"
            noted += len(found)
            self._drift.note(rule.name, execution, found, {})
        return note

    def _repositories(self, replica: RegistryClient, execution: str) -> tuple[Iterable[str], str]:
        """Return a replica's repositories; the primary's where it does not list any, and a note then."""
        pages = replica.list_repositories()
        try:
            first = next(pages, None)
        except (NotFound, Denied, Unsupported):
            note = UNLISTED.format(registry=replica.name)
            return self._store.repositories(execution), note

        def listed() -> Iterator[str]:
            if first is not None:
                yield from first.repositories
            for page in pages:
                yield from page.repositories

        return listed(), ""

    def _added(
        self, rule: SyncRule, replica: RegistryClient, primary: RegistryClient, repository: str
    ) -> list[Drift]:
        """Return what one repository of a replica has that the primary lacks."""
        there = _tags(replica, repository)
        if not there:
            return []
        at_primary = _tags(primary, repository)
        more = sorted(there - at_primary)
        places = [(replica.name, repository, tag) for tag in more]
        written, _ = self._drift.known(places, rule.source)
        drift = partial(Drift, rule.name, replica.name, repository)
        if not at_primary and not written:
            return [drift("", ADDED)]
        found = []
        for tag in more:
            digest = _digest(replica, repository, tag)
            ours = written.get((replica.name, repository, tag))
            if ours is None:
                found.append(drift(tag, ADDED, "", digest))
            elif digest and digest != ours:  # else it goes as deletions go
                found.append(drift(tag, MOVED, "", digest))
        return found


def _tags(client: RegistryClient, repository: str) -> set[str]:
    """Return the tags of a repository, none of one that is not there; those of digests are left out.

    Raises RegistryError when that cannot be told.
    """
    found: set[str] = set()
    try:
        for page in client.list_tags(repository):
            found.update(tag for tag in page.tags if not is_digest_tag(tag))
    except NotFound:
        return set()
    return found


def _digest(client: RegistryClient, repository: str, tag: str) -> str:
    """Return what a tag names; "" when that is no image, or not told now."""
    try:
        head = client.head_manifest(repository, tag)
    except (RegistryError, InvalidInput):
        return ""
    return "" if head is None else str(head.digest)
