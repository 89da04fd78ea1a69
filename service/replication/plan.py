"""Plan an execution: select what its rule takes, compare it, save copies of what differs."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

from service.errors import (
    Cancelled,
    InvalidInput,
    NotFoundInStore,
    RegistryError,
    StoreUnavailable,
    TransshipError,
)
from service.model.rule import SyncRule
from service.model.selection import destination_registries, members_of_groups
from service.model.states import CopyState
from service.model.work import LedgerDistrusted
from service.replication.clients import Clients, Meter
from service.replication.compare import Comparer, Comparison
from service.replication.select import Selector
from service.settings import Settings
from service.store.executions import PRIORITIES, ExecutionStore
from service.store.planning import Cursor, PlanStore
from service.store.registries import RegistryStore
from service.store.work import SqlState
from service.telemetry import get_logger

MAX_PLAN_ATTEMPTS = 4
LET_GO_TRIES = 600
LET_GO_PAUSE_SECONDS = 1.0
MAX_TOLD_SECONDS = 900.0
REPOSITORIES_AT_ONCE = 8

log = get_logger("plan")


class Planner:
    """Carries out select and compare; a crash goes on from the cursor of each repository."""

    def __init__(
        self,
        settings: Settings,
        executions: ExecutionStore,
        plans: PlanStore,
        registries: RegistryStore,
        state: SqlState,
        clients: Clients,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._executions = executions
        self._plans = plans
        self._registries = registries
        self._state = state
        self._clients = clients
        self._meter = meter

    def plan(self, execution: str, boot: str) -> bool:
        """Plan to the end; False when the execution is not to be planned by this process.

        A transient failure of the source postpones the planning; any other ends it with the reason
        on the execution. Never raises a RegistryError or InvalidInput.
        """
        if not self._plans.begin(execution, boot):
            return False
        rule = self._executions.spec(execution)
        try:
            self._run(execution, rule)
        except Cancelled:
            self._plans.finish(execution)
        except (RegistryError, InvalidInput, NotFoundInStore) as error:
            self._failed(execution, rule, error)
        except StoreUnavailable:
            self._let_go(execution)
        except Exception as error:
            log.exception("planning_broke", execution=execution)
            self._failed(execution, rule, TransshipError(f"{type(error).__name__}: {error}"))
        else:
            self._plans.finish(execution)
        return True

    def _let_go(self, execution: str) -> None:
        """Give the planning back once SQL answers; until then this living process seems to hold it."""
        for _ in range(LET_GO_TRIES):
            try:
                self._plans.postpone(execution, 0.0, reason="", failure_class="")
            except StoreUnavailable:
                time.sleep(LET_GO_PAUSE_SECONDS)
            else:
                return
        log.error("planning_held_for_good", execution=execution)

    def _run(self, execution: str, rule: SyncRule) -> None:
        source = self._clients.get(rule.source)
        members = members_of_groups(
            stored.endpoint for stored in self._registries.list(limit=10_000)
        )
        destinations = [
            destination_registries(destination, rule.source, members)
            for destination in rule.destinations
        ]
        for names in destinations:
            for name in names:
                self._registries.get(name)
        requests: dict[str, int] = {}
        selector = Selector(rule, source, destinations, self._plans, execution)
        with self._meter.collect(requests):
            source.ping()
            selector.list_repositories()
            remaining = self._plans.cursors(execution, limit=1_000_000)
            selector.refuse_collisions([cursor.repository for cursor in remaining])
        with (
            ThreadPoolExecutor(REPOSITORIES_AT_ONCE, "select") as outer,
            ThreadPoolExecutor(self._settings.compare_threads, "compare") as inner,
        ):
            comparer = Comparer(
                self._clients,
                self._meter,
                inner,
                self._region_of,
                clean=self._plans.clean_before(execution, rule.name),
            )
            jobs = [
                outer.submit(self._repository, execution, rule, selector, comparer, cursor)
                for cursor in remaining
            ]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                outer.shutdown(wait=True, cancel_futures=True)
                raise
        self._state.add_requests(execution, requests)
        if not self._plans.matched(execution):
            self._plans.warn(execution, f"rule {rule.name} matches nothing at {rule.source}")

    def _repository(
        self, execution: str, rule: SyncRule, selector: Selector, comparer: Comparer, cursor: Cursor
    ) -> None:
        requests: dict[str, int] = {}
        with self._meter.collect(requests):
            for tags, digest_tags, position, done, listed in selector.pages(cursor):
                if not self._plans.open(execution):
                    raise Cancelled
                wanted = selector.wanted(cursor.repository, tags)
                result = comparer.compare(rule.source, wanted, listed=listed)
                if rule.referrers and digest_tags:
                    self._digest_tags(rule, selector, comparer, cursor, tags, digest_tags, result)
                self._notice_losses(execution, result)
                for registry, count in result.requests.items():
                    requests[registry] = requests.get(registry, 0) + count
                self._plans.add_page(
                    execution,
                    rule.name,
                    rule.source,
                    cursor.repository,
                    selected=result.selected,
                    matched=len(tags),
                    unchanged=result.unchanged,
                    referrer_tags=digest_tags if rule.referrers else (),
                    cursor=position,
                    done=done,
                    priority=PRIORITIES[rule.priority],
                    referrers=rule.referrers,
                    requests=requests,
                )
                requests.clear()

    def _digest_tags(
        self,
        rule: SyncRule,
        selector: Selector,
        comparer: Comparer,
        cursor: Cursor,
        tags: list[str],
        digest_tags: list[str],
        result: Comparison,
    ) -> None:
        """Compare referrer and cosign tags whose image is at the destination already.

        Those of an image that is copied now travel with it, before its tag moves (promise 1).
        """
        if not tags:
            return
        like = selector.wanted(cursor.repository, tags[:1])
        followers = [
            type(first)(cursor.repository, tag, first.registry, first.repository, tag)
            for tag in digest_tags
            for first in like
        ]
        found = comparer.compare(rule.source, followers, listed=True)
        result.selected.extend(
            item for item in found.selected if item.state is not CopyState.SKIPPED
        )
        for registry, count in found.requests.items():
            result.requests[registry] = result.requests.get(registry, 0) + count

    def _notice_losses(self, execution: str, result: Comparison) -> None:
        """Hold it against all that a registry has when a tag that we committed there is gone."""
        lost = self._plans.lost_tags(result.missing)
        for registry in sorted({name for name, _, _ in lost}):
            log.warning("destination_lost_tags", registry=registry, execution=execution)
            self._state.post(
                [
                    LedgerDistrusted(
                        registry,
                        self._clients.scope(registry),
                        "a tag that was committed is gone",
                    )
                ]
            )
            self._plans.warn(
                execution,
                f"{registry} lost tags that were committed to it: nothing proved there before is believed",
            )
        self._plans.forget_tags(lost)

    def _failed(self, execution: str, rule: SyncRule, error: TransshipError) -> None:
        reason = (
            f"{rule.source}: {error.message}" if isinstance(error, RegistryError) else error.message
        )
        if error.hint:
            reason = f"{reason} ({error.hint})"
        attempts = self._plans.attempts(execution)
        if error.retryable and attempts < MAX_PLAN_ATTEMPTS:
            told = min(getattr(error, "retry_after_seconds", None) or 0.0, MAX_TOLD_SECONDS)
            pause = told or random.uniform(0.5, 1) * self._settings.retry_seconds * 2**attempts  # noqa: S311 - jitter
            log.warning("planning_postponed", execution=execution, reason=reason, pause=pause)
            self._plans.postpone(execution, pause, reason=reason, failure_class="")
            return
        log.warning("planning_failed", execution=execution, reason=reason)
        self._plans.fail(execution, reason=reason, failure_class=error.failure_class)

    def _region_of(self, registry: str) -> str:
        if self._settings.one_machine:
            return self._settings.region
        return self._clients.get(registry).endpoint.region
