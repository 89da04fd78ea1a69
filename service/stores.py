"""The stores of a process: each a part of what SQL keeps, made when it is first used.

Imports nothing before: a process loads the modules of what it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from service.errors import InvalidConfiguration
from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.store.audit import AuditStore
    from service.store.borrowing import BorrowingStore
    from service.store.database import Database
    from service.store.deletions import DeletionStore
    from service.store.dispatching import DispatchStore
    from service.store.events import EventStore
    from service.store.examinations import ExaminationStore
    from service.store.executions import ExecutionStore
    from service.store.fleet_migrations import MigrationStore
    from service.store.history import HistoryStore
    from service.store.hooks import HookStore
    from service.store.image_promotions import PromotionStore
    from service.store.incidents import IncidentStore
    from service.store.keyring import KeyRing
    from service.store.lag import LagStore
    from service.store.lending import LendingStore
    from service.store.migration_surveys import SurveyStore
    from service.store.pauses import PauseStore
    from service.store.pipelines import PipelineStore
    from service.store.planning import PlanStore
    from service.store.projects import ProjectStore
    from service.store.promotion_posts import PromotionPosts
    from service.store.promotion_work import PromotionWork
    from service.store.pull_tokens import PullTokenStore
    from service.store.receipts import ReceiptStore
    from service.store.region_load import RegionLoadStore
    from service.store.regions import LinkStore, RegionStore
    from service.store.registries import RegistryStore
    from service.store.release_work import ReleaseWorkStore
    from service.store.releases import ReleaseStore
    from service.store.rules import RuleStore
    from service.store.saved_plans import SavedPlanStore
    from service.store.secrets import SecretStore
    from service.store.standing import StandingStore
    from service.store.tokens import TokenStore
    from service.store.verifications import VerificationStore
    from service.store.webhooks import WebhookStore
    from service.store.work import SqlState


@dataclass
class Stores:
    """The database and what is kept in it."""

    settings: Settings

    @cached_property
    def database(self) -> Database:
        """The database."""
        from service.store.database import Database

        if not self.settings.database_url:
            raise InvalidConfiguration(
                "TRANSSHIP_DATABASE_URL is not set",
                field="TRANSSHIP_DATABASE_URL",
                hint="set it, or use `transship up`, which brings its own database",
            )
        return Database(self.settings.database_url, durable=self.settings.durable)

    @cached_property
    def keyring(self) -> KeyRing | None:
        """The keys of secrets at rest; None when there is no key file."""
        from service.store.keyring import KeyRing

        if not self.settings.secret_key_file:
            return None
        return KeyRing.from_file(self.settings.secret_key_file)

    @cached_property
    def registries(self) -> RegistryStore:
        """Registries."""
        from service.store.registries import RegistryStore

        return RegistryStore(self.database, self.keyring)

    @cached_property
    def regions(self) -> RegionStore:
        """Regions."""
        from service.store.regions import RegionStore

        return RegionStore(self.database)

    @cached_property
    def lag(self) -> LagStore:
        """How far destinations are behind."""
        from service.store.lag import LagStore

        return LagStore(self.database)

    @cached_property
    def history(self) -> HistoryStore:
        """What landed in the last hour."""
        from service.store.history import HistoryStore

        return HistoryStore(self.database)

    @cached_property
    def links(self) -> LinkStore:
        """The links between regions."""
        from service.store.regions import LinkStore

        return LinkStore(self.database)

    @cached_property
    def region_load(self) -> RegionLoadStore:
        """What waits for each region, and who is there to do it."""
        from service.store.region_load import RegionLoadStore

        return RegionLoadStore(
            self.database,
            dead_after_seconds=self.settings.dead_after_seconds,
            agent_dead_after_seconds=self.settings.agent_dead_after_seconds,
        )

    @cached_property
    def examinations(self) -> ExaminationStore:
        """Examinations of registries that workers carry out."""
        from service.store.examinations import ExaminationStore

        return ExaminationStore(self.database)

    @cached_property
    def rules(self) -> RuleStore:
        """Rules."""
        from service.store.rules import RuleStore

        return RuleStore(self.database)

    @cached_property
    def executions(self) -> ExecutionStore:
        """Executions and their copies."""
        from service.store.executions import ExecutionStore

        return ExecutionStore(self.database)

    @cached_property
    def tokens(self) -> TokenStore:
        """API tokens."""
        from service.store.tokens import TokenStore

        return TokenStore(self.database)

    @cached_property
    def pull_tokens(self) -> PullTokenStore:
        """Tokens of gateways' clients."""
        from service.store.pull_tokens import PullTokenStore

        return PullTokenStore(self.database)

    @cached_property
    def hooks(self) -> HookStore:
        """The secrets with which registries send their events."""
        from service.store.hooks import HookStore

        return HookStore(self.database, self.keyring)

    @cached_property
    def events(self) -> EventStore:
        """What registries tell by webhook."""
        from service.store.events import EventStore

        return EventStore(self.database, debounce_seconds=self.settings.event_debounce_seconds)

    @cached_property
    def projects(self) -> ProjectStore:
        """Projects."""
        from service.store.projects import ProjectStore

        return ProjectStore(self.database)

    @cached_property
    def secrets(self) -> SecretStore:
        """Secrets by name."""
        from service.store.secrets import SecretStore

        return SecretStore(self.database, self.keyring)

    @cached_property
    def audit(self) -> AuditStore:
        """The audit log."""
        from service.store.audit import AuditStore

        return AuditStore(self.database)

    @cached_property
    def webhooks(self) -> WebhookStore:
        """Webhooks out and their deliveries."""
        from service.store.webhooks import WebhookStore

        return WebhookStore(self.database, self.keyring)

    @cached_property
    def plans(self) -> PlanStore:
        """The planner's tables."""
        from service.store.planning import PlanStore

        return PlanStore(self.database)

    @cached_property
    def verifications(self) -> VerificationStore:
        """Verifications and their repairs."""
        from service.store.verifications import VerificationStore

        return VerificationStore(self.database)

    @cached_property
    def saved_plans(self) -> SavedPlanStore:
        """Plans that are kept, and carried out as they are."""
        from service.store.saved_plans import SavedPlanStore

        return SavedPlanStore(self.database)

    @cached_property
    def pauses(self) -> PauseStore:
        """Pauses of rules and registries."""
        from service.store.pauses import PauseStore

        return PauseStore(self.database)

    @cached_property
    def standing(self) -> StandingStore:
        """Why what is open does not move."""
        from service.store.standing import StandingStore

        return StandingStore(self.database)

    @cached_property
    def dispatching(self) -> DispatchStore:
        """The dispatcher's and reconciler's queries."""
        from service.store.dispatching import DispatchStore

        return DispatchStore(
            self.database,
            dead_after_seconds=self.settings.dead_after_seconds,
            agent_dead_after_seconds=self.settings.agent_dead_after_seconds,
        )

    @cached_property
    def clock(self) -> Callable[[], float]:
        """What a far region's lease is measured by."""
        from service.store.clock import steady

        return steady

    @cached_property
    def state(self) -> SqlState:
        """The StatePort of the home region."""
        from service.store.work import SqlState

        return SqlState(
            self.database,
            proof_seconds=self.settings.proof_seconds,
            borrowed=bool(self.settings.agent_dir),
            clock=self.clock,
        )

    @cached_property
    def lending(self) -> LendingStore:
        """What is lent to far regions."""
        from service.store.lending import LEASE_SHARE, LendingStore

        return LendingStore(
            self.database,
            self.dispatching,
            self.state,
            self.registries,
            self.examinations,
            lease_seconds=LEASE_SHARE * self.settings.agent_dead_after_seconds,
        )

    @cached_property
    def borrowing(self) -> BorrowingStore:
        """What this far region has from home."""
        from service.store.borrowing import BorrowingStore

        return BorrowingStore(
            self.database,
            self.registries,
            self.regions,
            self.links,
            self.examinations,
            self.settings.region,
            clock=self.clock,
        )

    @cached_property
    def deletions(self) -> DeletionStore:
        """Deletions."""
        from service.store.deletions import DeletionStore

        return DeletionStore(self.database)

    @cached_property
    def incidents(self) -> IncidentStore:
        """What is wrong with rules, and was."""
        from service.store.incidents import IncidentStore

        return IncidentStore(self.database)

    @cached_property
    def committed(self) -> ReceiptStore:
        """What executions have committed, as receipts tell of it."""
        from service.store.receipts import ReceiptStore

        return ReceiptStore(self.database)

    @cached_property
    def releases(self) -> ReleaseStore:
        """Releases."""
        from service.store.releases import ReleaseStore

        return ReleaseStore(self.database)

    @cached_property
    def release_work(self) -> ReleaseWorkStore:
        """What regions have to do for releases."""
        from service.store.release_work import ReleaseWorkStore

        return ReleaseWorkStore(
            self.database,
            self.settings.dead_after_seconds,
            self.settings.agent_dead_after_seconds,
        )

    @cached_property
    def migrations(self) -> MigrationStore:
        """Migrations and their waves."""
        from service.store.fleet_migrations import MigrationStore

        return MigrationStore(self.database)

    @cached_property
    def migration_surveys(self) -> SurveyStore:
        """Looks at fleets that are to move."""
        from service.store.migration_surveys import SurveyStore

        return SurveyStore(self.database)

    @cached_property
    def pipelines(self) -> PipelineStore:
        """Pipelines."""
        from service.store.pipelines import PipelineStore

        return PipelineStore(self.database, self.keyring)

    @cached_property
    def promotions(self) -> PromotionStore:
        """What is promoted in pipelines."""
        from service.store.image_promotions import PromotionStore

        return PromotionStore(self.database)

    @cached_property
    def promotion_posts(self) -> PromotionPosts:
        """What promotions have to post."""
        from service.store.promotion_posts import PromotionPosts

        return PromotionPosts(self.database)

    @cached_property
    def promotion_work(self) -> PromotionWork:
        """What is due of promotions."""
        from service.store.promotion_work import PromotionWork

        return PromotionWork(self.database)
