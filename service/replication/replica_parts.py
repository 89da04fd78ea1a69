"""What belongs to replicas, each part made when it is first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from service.replication.drift import DriftWatches
from service.store.drift import DriftStore
from service.store.replicas import ReplicaStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.replication.clients import Clients
    from service.replication.replica_status import ReplicaStatuses
    from service.replication.replicas import ReplicaKeeper
    from service.store.database import Database
    from service.store.registries import RegistryStore
    from service.store.replica_takeovers import TakeoverStore


class ReplicaParts:
    """The stores of replicas, and what works with them; the planner needs the first three only."""

    def __init__(
        self, database: Database, registries: RegistryStore, clients: Callable[[], Clients]
    ) -> None:
        self._database = database
        self._registries = registries
        self._clients = clients

    @cached_property
    def store(self) -> ReplicaStore:
        """Who follows which rule's primary."""
        return ReplicaStore(self._database)

    @cached_property
    def drift(self) -> DriftStore:
        """What somebody else changed at replicas."""
        return DriftStore(self._database)

    @cached_property
    def watches(self) -> DriftWatches:
        """Makes what looks for drift while executions are planned."""
        return DriftWatches(self.store, self.drift)

    @cached_property
    def promotions(self) -> TakeoverStore:
        """Who is the primary of a rule, and who was."""
        from service.store.replica_takeovers import TakeoverStore

        return TakeoverStore(self._database)

    @cached_property
    def statuses(self) -> ReplicaStatuses:
        """Where each replica is."""
        from service.replication.replica_status import ReplicaStatuses
        from service.store.lag import LagStore

        return ReplicaStatuses(self.store, self.drift, LagStore(self._database))

    @cached_property
    def keeper(self) -> ReplicaKeeper:
        """Brings replicas forward."""
        from service.replication.replicas import ReplicaKeeper

        return ReplicaKeeper(self._registries, self.store, self.drift, self._clients())
