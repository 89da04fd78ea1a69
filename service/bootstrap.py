"""The composition root: settings in, services out. Opens nothing before it is asked to.

Imports nothing before either: a process loads the modules of what it uses, and a one-shot command
uses a third of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from service import crashpoints, protections
from service.errors import InvalidConfiguration
from service.settings import Settings
from service.stores import Stores

if TYPE_CHECKING:
    from service.model.ports import ClaimState, Publisher
    from service.model.receipt_signature import ReceiptKey
    from service.registry.limiters import Limiters
    from service.replication.borders import BorderGuard
    from service.replication.clients import Clients, Meter
    from service.replication.delete import Deleter
    from service.replication.deletion_borders import DeletionBorders
    from service.replication.drive import Drive
    from service.replication.engine import Engine
    from service.replication.freshness import FreshnessKeeper
    from service.replication.health import HealthKeeper
    from service.replication.keeper import Keeper
    from service.replication.locate import Locator
    from service.replication.migration_keeper import MigrationKeeper
    from service.replication.migration_steps import MigrationSteps
    from service.replication.migration_survey import Surveyor
    from service.replication.notify import Notifier
    from service.replication.plan import Planner
    from service.replication.promotion_asks import PromotionAsker
    from service.replication.promotion_keeper import PromotionKeeper
    from service.replication.receipts import Receipts
    from service.replication.release import Releaser
    from service.replication.release_keeper import ReleaseKeeper
    from service.replication.replica_parts import ReplicaParts
    from service.replication.side_by_side import SideBySide
    from service.store.budgets import LateBudgets
    from service.store.claims import RedisClaims
    from service.store.reputation import RedisReputation


@dataclass
class Services(Stores):
    """Everything that a process may need, each part made when it is first used."""

    alone: bool = False
    """No other process takes part yet: Redis, whose library takes 0.1 s to load, is left alone."""

    def share(self) -> None:
        """Be one of several processes from now on. Raises what Redis raises.

        To be called before the others are at work: it marks the Redis that they will work with.
        """
        if self.alone:
            self.claims.new_epoch()
            self.alone = False
            self.budgets.share()
            self.limiters.hurry()

    @cached_property
    def boot(self) -> str:
        """The identity of this process: never used twice."""
        return f"{socket.gethostname()[:24]}-{os.getpid()}-{os.urandom(5).hex()}"

    @cached_property
    def redis(self) -> Any:
        """A connection pool to this region's Redis, made when it is first asked for something."""
        if not self.settings.redis_url:
            raise InvalidConfiguration(
                "TRANSSHIP_REDIS_URL is not set", field="TRANSSHIP_REDIS_URL"
            )
        return _LateRedis(self.settings.redis_url)

    @cached_property
    def locator(self) -> Locator:
        """Says where an image is."""
        from service.replication.locate import Locator
        from service.store.locations import LocationStore

        return Locator(self.registries, LocationStore(self.database), self.clients)

    @cached_property
    def claims(self) -> RedisClaims:
        """Claims in this region's Redis."""
        from service.store.claims import RedisClaims

        return RedisClaims(self.redis)

    @cached_property
    def meter(self) -> Meter:
        """Counts requests."""
        from service.replication.clients import Meter

        return Meter()

    @cached_property
    def clients(self) -> Clients:
        """Registry clients."""
        from service.replication.clients import Clients

        return Clients(
            self.registries,
            self.settings,
            self.meter,
            self.limiters,
            self.reputation if self.settings.redis_url else None,
        )

    @cached_property
    def reputation(self) -> RedisReputation:
        """What the fleet remembers of registries."""
        from service.store.reputation import RedisReputation

        return RedisReputation(lambda: self.redis)

    @cached_property
    def limiters(self) -> Limiters:
        """This process's parts of the fleet's limits; the floor of each without Redis."""
        from service.registry.limiters import Limiters
        from service.store.budgets import NoBudgets

        return Limiters(self.budgets if self.settings.redis_url else NoBudgets())

    @cached_property
    def budgets(self) -> LateBudgets:
        """What the fleet shares out; all of it to a process that is alone."""
        from service.store.budgets import LateBudgets, RedisBudgets

        budgets = LateBudgets(lambda: RedisBudgets(self.redis, self.boot))
        if not self.alone:
            budgets.share()
        return budgets

    @cached_property
    def beside(self) -> SideBySide:
        """The threads that help tasks over slow links."""
        from service.replication.side_by_side import SideBySide

        return SideBySide(self.settings.helper_threads, self.meter)

    @cached_property
    def planner(self) -> Planner:
        """Plans executions."""
        from service.replication.plan import Planner

        return Planner(
            self.settings,
            self.executions,
            self.plans,
            self.registries,
            self.guard,
            self.links,
            self.state,
            self.clients,
            self.meter,
            self.replicas.watches,
        )

    @cached_property
    def replicas(self) -> ReplicaParts:
        """Replicas: their stores, and what works with them."""
        from service.replication.replica_parts import ReplicaParts

        return ReplicaParts(self.database, self.registries, lambda: self.clients)

    @cached_property
    def receipt_key(self) -> ReceiptKey:
        """What signs receipts."""
        from service.replication.receipts import key_of

        return key_of(self.settings, self.keyring)

    @cached_property
    def receipts(self) -> Receipts:
        """Makes and signs receipts."""
        from service.replication.receipts import Receipts

        return Receipts(self.executions, self.committed, self.receipt_key)

    @cached_property
    def deleter(self) -> Deleter:
        """Deletes at destinations what went at the source."""
        from service.replication.delete import Deleter

        return Deleter(
            self.settings,
            self.rules,
            self.registries,
            self.projects,
            self.deletions,
            self.clients,
            self.deletion_borders,
        )

    @cached_property
    def deletion_borders(self) -> DeletionBorders:
        """Holds deletions to the borders."""
        from service.replication.deletion_borders import DeletionBorders

        return DeletionBorders(self.guard, self._lead, self._resign, self.dispatching.slots)

    def keepers(self, publisher: Publisher) -> list[Keeper]:
        """Return the threads that bring deletions, replicas, releases, migrations and promotions forward."""
        from service.replication.delete import LEASE as DELETIONS
        from service.replication.freshness import LEASE as FRESHNESS
        from service.replication.health import LEASE as HEALTH
        from service.replication.release_keeper import LEASE as RELEASES
        from service.replication.replicas import LEASE as REPLICAS

        self.deleter.share(publisher.delete)
        self.health_keeper.share(publisher.check)
        self.promotion_keeper.share(publisher.plan)
        return [
            self._keeper(DELETIONS, self.deleter.step, self.deletion_borders.lease),
            self._keeper(REPLICAS, self.replicas.keeper.step),
            self._keeper(RELEASES, self.release_keeper(publisher).step),
            self._keeper(FRESHNESS, self.freshness_keeper.step),
            self._keeper(HEALTH, self.health_keeper.step),
            self._keeper("migrations", self.migration_keeper.step),
            self._keeper("promotions", self.promotion_keeper.step, self.deletion_borders.lease),
            self._keeper("surveys", self.surveyor.step, self.deletion_borders.lease),
        ]

    def _keeper(
        self, name: str, step: Callable[[], None], lease: Callable[[str], str] = str
    ) -> Keeper:
        from service.replication.keeper import Keeper

        return Keeper(
            name, step, lambda: self._lead(lease(name)), lambda: self._resign(lease(name))
        )

    def _lead(self, lease: str) -> bool:
        from service.replication.keeper import LEASES

        return self.dispatching.lead(lease, self.boot, LEASES * self.settings.dead_after_seconds)

    def _resign(self, lease: str) -> None:
        self.dispatching.resign(lease, self.boot)

    @cached_property
    def freshness_keeper(self) -> FreshnessKeeper:
        """Judges rules by their objectives."""
        from service.replication.freshness import FreshnessKeeper
        from service.store.freshness import FreshnessStore

        store = FreshnessStore(self.database)
        return FreshnessKeeper(
            self.registries,
            store,
            self.lag,
            self.incidents,
            look_seconds=self.settings.rule_look_seconds,
        )

    @cached_property
    def health_keeper(self) -> HealthKeeper:
        """Asks registries whether they are well."""
        from service.replication.health import HealthKeeper
        from service.store.health import HealthStore

        store = HealthStore(self.database)
        return HealthKeeper(store, self.clients, self.settings, self.dispatching.slots)

    @cached_property
    def migration_keeper(self) -> MigrationKeeper:
        """Carries out the waves of migrations."""
        from service.replication.migration_keeper import MigrationKeeper

        return MigrationKeeper(self.migrations, self.migration_surveys, self.rules, self.executions)

    @cached_property
    def migration_steps(self) -> MigrationSteps:
        """Takes the steps of migrations."""
        from service.replication.migration_steps import MigrationSteps

        return MigrationSteps(self.migrations, self.migration_surveys, self.executions)

    @cached_property
    def surveyor(self) -> Surveyor:
        """Looks at fleets that are to move."""
        from service.replication.migration_survey import Surveyor
        from service.store.migration_waves import WaveAssignment

        return Surveyor(
            self.settings,
            self.migration_surveys,
            WaveAssignment(self.database, self.migration_surveys),
            self.plans,
            self.projects,
            self.clients,
            self.meter,
            self.guard,
            turn=self._lead,
            resign=self._resign,
        )

    @cached_property
    def promotion_asker(self) -> PromotionAsker:
        """Takes what is to be promoted."""
        from service.replication.promotion_asks import PromotionAsker

        return PromotionAsker(self.pipelines, self.promotions, self.clients, self.guard)

    @cached_property
    def promotion_keeper(self) -> PromotionKeeper:
        """Brings promotions forward."""
        from service.replication.promotion_calls import PromotionCalls
        from service.replication.promotion_keeper import PromotionKeeper

        calls = PromotionCalls(
            self.settings,
            self.promotion_posts,
            self.promotions,
            self.pipelines,
            self.registries,
        )
        return PromotionKeeper(
            self.settings,
            self.promotion_work,
            self.promotions,
            self.pipelines,
            self.executions,
            self.promotion_asker,
            calls,
            self.clients,
            self.guard,
        )

    def releaser(self, engine: Engine) -> Releaser:
        """Return what carries out parts of releases."""
        from service.replication.release import Releaser

        return Releaser(engine, self.release_work, self.registries, self.projects)

    def release_keeper(self, publisher: Publisher) -> ReleaseKeeper:
        """Return what brings releases forward."""
        from service.replication.release_keeper import ReleaseKeeper

        return ReleaseKeeper(self.release_work, self.dispatching, self.guard.borders, publisher)

    def engine(self, publisher: Publisher) -> Engine:
        """Return what a worker carries out copies with."""
        from service.replication.engine import Engine
        from service.store.boards import RedisBoards

        metrics = None
        if self.settings.metrics_listen:
            from service.replication.metrics import Metrics

            metrics = Metrics()
        return Engine(
            settings=self.settings,
            boot=self.boot,
            state=self.state,
            claims=self.claims,
            boards=RedisBoards(self.redis),
            publisher=publisher,
            clients=self.clients,
            meter=self.meter,
            metrics=metrics,
            beside=self.beside,
            limiters=self.limiters,
            guard=self.guard,
        )

    @cached_property
    def guard(self) -> BorderGuard:
        """Holds what this process does to the borders."""
        from service.replication.borders import BorderGuard

        return BorderGuard(self.settings, self.regions, self.clients)

    def notifier(self) -> Notifier:
        """Return what posts events to webhooks."""
        from service.replication.notify import Notifier

        return Notifier(self.settings, self.webhooks)

    def drive(
        self,
        publisher: Publisher,
        *,
        starved: Callable[[str], object] | None = None,
        tally: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Drive:
        """Return the driver loop; `starved` goes to its Dispatcher, `tally` to its Reconciler, `options` to Drive."""
        from service.replication.dispatch import Dispatcher
        from service.replication.drive import Drive
        from service.replication.reconcile import Reconciler
        from service.store.retention import RetentionStore

        return Drive(
            self.settings,
            self.boot,
            self.rules,
            self.executions,
            self.dispatching,
            Dispatcher(
                self.settings,
                self.dispatching,
                publisher,
                starved,
                borders=self.guard.borders,
                region_of=self.guard.region_of,
                may_send=self._may_send,
            ),
            Reconciler(
                self.settings,
                self.dispatching,
                publisher,
                self._read_epoch,
                self._new_epoch,
                self._blob_state,
                tally=tally,
            ),
            RetentionStore(self.database),
            self.verifications,
            **options,
        )

    def _may_send(self) -> bool:
        return not self.settings.agent_dir or self.borrowing.is_leased()

    def _read_epoch(self) -> str | None:
        return None if self.alone else self.claims.epoch()

    def _new_epoch(self) -> str:
        return self.claims.new_epoch()

    def _blob_state(self, registry: str, digest: str) -> ClaimState:
        """Return whether a blob is on its way to a registry, or there."""
        endpoint = self.registries.get(registry).endpoint
        return self.claims.state(registry, endpoint.credentials.username, digest)

    def close(self) -> None:
        """Let connections go, the database last."""
        parts = self.__dict__
        if "beside" in parts:
            self.beside.close()
        if "clients" in parts:
            self.clients.close()
        if "limiters" in parts:
            self.limiters.close()
        if "redis" in parts:
            self.redis.close()
        if "database" in parts:
            self.database.close()


class _LateRedis:
    """Redis-py's client, made at the first use: a process that asks nothing need not load it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @cached_property
    def _client(self) -> Any:
        from redis import Redis

        return Redis.from_url(
            self._url,
            socket_timeout=15,
            socket_connect_timeout=5,
            health_check_interval=25,
        )

    def close(self) -> None:
        """Let the connections go, if there are any."""
        if "_client" in self.__dict__:
            self._client.close()


def open_services(settings: Settings, *, check: bool = True) -> Services:
    """Return services over an existing database.

    Raises InvalidConfiguration when the schema is not the one that this version needs.
    """
    from service.store.schema import check_schema

    crashpoints.arm(settings.crash)
    protections.turn_off(settings.without)
    services = Services(settings)
    if check:
        check_schema(services.database)
    return services
