"""Plan an execution: select what its rule takes, compare it, save copies of what differs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from service import tracing
from service.crashpoints import crashpoint
from service.errors import (
    BorderClosed,
    Cancelled,
    InvalidInput,
    NotFoundInStore,
    RegistryAway,
    RegistryError,
    RegistryPaused,
    StoreUnavailable,
    TransshipError,
    WorldMoved,
    WrongRegion,
)
from service.model.borders import check_borders
from service.model.content import PlatformFilter
from service.model.manifest import Manifest
from service.model.rule import SyncRule
from service.model.selection import destination_registries, members_of_groups
from service.replication.borders import WRONG_REGION_SECONDS, BorderGuard
from service.replication.brought import BroughtBlobs
from service.replication.clients import Clients, Meter
from service.replication.compare import Comparer, told
from service.replication.content import ContentReader
from service.replication.destination_tags import DestinationTags
from service.replication.drift import DriftWatches
from service.replication.engine import ManifestCache, Reads
from service.replication.estimate import Estimator, moved_since, sum_up
from service.replication.patience import is_waited_for
from service.replication.preflight import refusals, refused_copy
from service.replication.route import plan_route
from service.replication.select import ALL_TAGS, Selector
from service.replication.side_by_side import FAR_SECONDS
from service.replication.still_open import StillOpen
from service.replication.survey import Survey
from service.replication.verify import Verifier
from service.replication.walk import Children
from service.settings import Settings
from service.store.creation import ASKED, REPAIR
from service.store.executions import ExecutionStore
from service.store.planning import PlanStore
from service.store.regions import LinkStore
from service.store.registries import RegistryStore
from service.store.work import SqlState
from service.telemetry import Threads, about, get_logger

MAX_PLAN_ATTEMPTS = 4
CLOSING_TRIES = 1000
FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 5.0
MAX_TOLD_SECONDS = 900.0
PAUSED_SECONDS = 1.0
FAR_TIMES = 4
"""So many times as many questions are under way where answers are waited for."""
ESTIMATE_CACHE_BYTES = 4 << 20
"""Of raw manifests; as read they take some times as much, and tags that share one are neighbours."""

EXACT = frozenset({"plan", "verify"})
"""Kinds of executions that tell of each tag what it is here and there: nothing is concluded for them."""

log = get_logger("plan")


class Planner:
    """Carries out select and compare; a crash goes on from the cursor of each repository."""

    def __init__(
        self,
        settings: Settings,
        executions: ExecutionStore,
        plans: PlanStore,
        registries: RegistryStore,
        guard: BorderGuard,
        links: LinkStore,
        state: SqlState,
        clients: Clients,
        meter: Meter,
        watches: DriftWatches,
    ) -> None:
        self._watches = watches
        self._settings = settings
        self._executions = executions
        self._plans = plans
        self._registries = registries
        self._guard = guard
        self._links = links
        self._state = state
        self._clients = clients
        self._meter = meter
        self._lock = threading.Lock()
        self._under_way: set[str] = set()

    def plan(self, execution: str, boot: str, *, stop: threading.Event | None = None) -> bool:
        """Plan to the end; False when the execution is not to be planned by this process.

        A transient failure of the source postpones the planning; any other ends it with the reason
        on the execution. Never raises a RegistryError or InvalidInput. While SQL is away, it waits
        until what became of the planning is written, or `stop` is set: this living process would
        seem to hold it for good.
        """
        stop = stop or threading.Event()
        with self._lock:
            if execution in self._under_way:
                return False
            self._under_way.add(execution)
        try:
            if not self._begin(execution, boot, stop):
                return False
            with about(execution=execution), tracing.span("plan", execution):
                closing = self._carry_out(execution, boot, stop)
                self._write(execution, closing, stop)
        finally:
            with self._lock:
                self._under_way.remove(execution)
        return True

    def _begin(self, execution: str, boot: str, stop: threading.Event) -> bool:
        """Own the planning; when the answer is lost, give back what it may have given (F101)."""
        try:
            return self._plans.begin(execution, boot)
        except StoreUnavailable:
            self._write(
                execution,
                lambda: self._plans.postpone(
                    execution, 0.0, reason="", failure_class="", counted=False, boot=boot
                ),
                stop,
            )
            raise

    def _carry_out(self, execution: str, boot: str, stop: threading.Event) -> Callable[[], None]:
        """Plan, and return the write that says what became of it."""
        source = ""
        try:
            crashpoint("plan.begun")
            rule = self._executions.spec(execution)
            source = rule.source
            self._clients.look_anew()  # a registry may have been given its credentials just before,
            self._guard.look_anew()  # or a region its jurisdiction
            self._run(execution, rule, StillOpen(partial(self._plans.open, execution), stop))
            crashpoint("plan.listed")
        except StoreUnavailable:
            return lambda: self._plans.postpone(
                execution, 0.0, reason="", failure_class="", boot=boot
            )
        except (RegistryError, InvalidInput, NotFoundInStore, BorderClosed, WrongRegion) as error:
            failure: TransshipError = error
        except Cancelled:
            return lambda: self._let_go(execution, boot)
        except Exception as error:
            log.exception("planning_broke", execution=execution)
            failure = TransshipError(f"{type(error).__name__}: {error}")
        else:
            return lambda: self._plans.finish(execution, boot)
        return lambda: self._failed(execution, boot, source, failure)

    @staticmethod
    def _write(execution: str, closing: Callable[[], None], stop: threading.Event) -> None:
        """Try a closing write until it lands."""
        pause = FIRST_PAUSE_SECONDS
        for _ in range(CLOSING_TRIES):
            try:
                closing()
            except Exception as error:  # noqa: BLE001 - whatever is wrong, nobody else may let go
                log.warning(
                    "planning_not_closed",
                    execution=execution,
                    error=f"{type(error).__name__}: {error}",
                )
            else:
                return
            if stop.wait(pause):
                break
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        log.error("planning_held_for_good", execution=execution)

    def _let_go(self, execution: str, boot: str) -> None:
        """Close the planning of a stopped execution; leave an open one to the next process."""
        if self._plans.open(execution):
            self._plans.postpone(
                execution, 0.0, reason="", failure_class="", counted=False, boot=boot
            )
        else:
            self._plans.finish(execution, boot)

    def _run(self, execution: str, rule: SyncRule, still_open: StillOpen) -> None:
        record = self._executions.get(execution)
        self._check_borders(rule)
        if record.kind == "carry":
            self._carry_out_plan(execution, still_open)
            return
        source = self._clients.get(rule.source)
        only = self._plans.only(execution)
        members = members_of_groups(
            stored.endpoint for stored in self._registries.list(limit=10_000)
        )
        destinations = [
            destination_registries(destination, rule.source, members)
            for destination in rule.destinations
        ]
        at_source = {
            name
            for names in destinations
            for name in names
            if self._registries.get(name).endpoint.host == source.endpoint.host
        }
        watch, destinations = self._watches.begin(
            record, rule, destinations, attempts=lambda: self._plans.attempts(execution)
        )
        if not any(destinations):
            self._plans.warn(execution, f"no registry follows {rule.source} by rule {rule.name}")
            return
        looks = record.kind == "verify"
        parents = {} if looks else self._parents(execution, rule, destinations)
        if only is None:
            destinations = self._welcome(execution, rule, destinations)
        with Threads(self._at_once(), "compare") as pool:
            selector = Selector(
                rule,
                source,
                destinations,
                self._plans,
                execution,
                at_source,
                only=only,
                content=ContentReader(source, self._plans.facts(), pool, self._meter),
            )
            verifier = Verifier(
                rule.source,
                self._clients,
                self._meter,
                self._state,
                pool,
                referrers=rule.referrers,
                children=partial(children_of, rule),
            )
            survey = Survey(
                execution,
                rule,
                selector,
                self._plans,
                self._state,
                self._clients,
                self._meter,
                last=self._plans.attempts(execution) >= MAX_PLAN_ATTEMPTS,
                parents=parents,
                watch=None if watch is None else watch.look,
                look=verifier.look if record.kind == "verify" else None,
            )
            exact = record.kind in EXACT or record.trigger == REPAIR
            comparer = Comparer(
                self._clients,
                self._meter,
                pool,
                self._region_of,
                clean=self._plans.clean_before(execution, rule.name),
                on_conflict=rule.on_conflict,
                asked=record.trigger in ASKED,
                repair=self._plans.to_repair(execution) if record.trigger == REPAIR else None,
                tags=None if exact else DestinationTags(self._plans.written),
                digests=exact or source.endpoint.counts_reads,
                check=still_open.check,
            )
            requests: dict[str, int] = {}
            try:
                with self._meter.collect(requests):
                    selector.list_repositories()
                    survey.refuse_collisions(comparer)
            finally:
                self._state.add_requests(execution, requests)
            survey.compare(comparer)
            if record.kind == "plan":
                self._estimate(execution, rule, pool, still_open)
        if not self._plans.matched(execution):
            what = "nothing at" if only is None else "none of what was asked for at"
            self._plans.warn(execution, f"rule {rule.name} matches {what} {rule.source}")

    def _welcome(
        self,
        execution: str,
        rule: SyncRule,
        destinations: list[tuple[str, ...]],
    ) -> list[tuple[str, ...]]:
        """Return the destinations that do not refuse us; each that does is one failed copy.

        Raises the refusal when there is no other destination, and that of the source.
        """
        requests: dict[str, int] = {}
        names = [name for members in destinations for name in members]

        def ping_source() -> None:
            with self._meter.collect(requests):
                self._clients.get(rule.source).ping()

        with Threads(self._settings.compare_threads, "welcome") as pool:
            answer = pool.submit(ping_source)
            refused = refusals(names, self._clients, self._meter, pool, requests)
        if not refused:
            self._state.add_requests(execution, requests)
            answer.result()
            return destinations
        if len(refused) == len(set(names)):
            self._state.add_requests(execution, requests)
            raise next(iter(refused.values()))
        self._plans.add_page(
            execution,
            rule.name,
            rule.source,
            ALL_TAGS,
            selected=[
                refused_copy(name, self._region_of(name), error) for name, error in refused.items()
            ],
            matched=0,
            left_out={},
            unchanged={},
            referrer_tags=(),
            cursor="",
            done=True,
            listed=False,
            referrers=False,
            requests=requests,
        )
        answer.result()
        return [tuple(name for name in members if name not in refused) for members in destinations]

    def _check_borders(self, rule: SyncRule) -> None:
        """Raise WrongRegion where this process may not look at the rule's images, and BorderClosed."""
        named = [d.registry for d in rule.destinations if d.registry]
        self._guard.check_place([rule.source, *named])
        members = members_of_groups(
            stored.endpoint for stored in self._registries.list(limit=10_000)
        )
        problems = check_borders(rule, self._guard.region_of, members, self._guard.borders())
        if problems:
            raise BorderClosed("; ".join(map(str, problems)), hint="")

    def _parents(
        self, execution: str, rule: SyncRule, destinations: list[tuple[str, ...]]
    ) -> dict[str, str]:
        """Return the destination that each destination is fed from; none for those fed from the source."""
        names = list(dict.fromkeys(name for members in destinations for name in members))
        if len(names) < 2:
            return {}
        senders = self._plans.routes().of(execution)
        if senders is None:
            route = plan_route(
                rule.source,
                names,
                lambda name: self._clients.endpoint(name).region,
                self._guard.borders(),
                self._links.all(),
                named={d.registry for d in rule.destinations if d.registry},
            )
            senders = self._plans.routes().keep(execution, route.fed_by)
        return {name: found.near[0] for name, found in senders.items()}

    def _at_once(self) -> int:
        """Return how many questions may be under way: more where answers are waited for."""
        threads = self._settings.compare_threads
        return FAR_TIMES * threads if self._clients.answers_within() >= FAR_SECONDS else threads

    def _estimate(
        self, execution: str, rule: SyncRule, pool: ThreadPoolExecutor, still_open: StillOpen
    ) -> None:
        """Say what the copies of a plan come to. Raises Cancelled when nobody wants to know."""
        saved = self._plans.saved()
        reads = Reads(self._clients, self._state, ManifestCache(ESTIMATE_CACHE_BYTES))
        requests: dict[str, int] = {}
        with BroughtBlobs() as brought:
            estimator = Estimator(rule, reads, self._meter, pool, brought, still_open)
            try:
                for rows in saved.rows(execution):
                    estimator.add(rows, requests)
            finally:
                self._state.add_requests(execution, requests)
        if not self._plans.open(execution):
            raise Cancelled  # its copies went with the stop: these figures are not the plan's
        saved.keep_figures(
            execution, sum_up(estimator.figures, rule, self._clients, self._links.all())
        )

    def _carry_out_plan(self, execution: str, still_open: StillOpen) -> None:
        """Take the copies of a plan over, unless the world has moved since.

        Raises WorldMoved, before anything is dispatched, at the first page of copies that has, and
        Cancelled. Begun again, it goes on behind the last page that had not.
        """
        saved = self._plans.saved()
        plan = saved.plan_of(execution)
        self._executions.get(plan)  # retention may have taken it
        if saved.is_adopted(execution):
            return
        with Threads(self._settings.compare_threads, "compare") as pool:
            for rows in saved.rows(plan, saved.looked_at(execution)):
                requests: dict[str, int] = {}
                try:
                    moved = moved_since(
                        rows, self._clients, self._meter, pool, requests, still_open
                    )
                finally:
                    self._state.add_requests(execution, requests)
                if moved:
                    raise WorldMoved(
                        f"the world has moved since plan {plan}: {'; '.join(moved[:3])}"
                        + (f", and {len(moved) - 3} more at least" if len(moved) > 3 else "")
                    )
                saved.keep_looked_at(execution, rows[-1].id)
        saved.adopt(plan, execution)

    def _failed(self, execution: str, boot: str, source: str, error: TransshipError) -> None:
        reason = told(error, source)
        if error.hint:
            reason = f"{reason} ({error.hint})"
        if isinstance(error, WrongRegion):
            self._plans.postpone(
                execution,
                WRONG_REGION_SECONDS,
                reason=reason,
                failure_class="",
                counted=False,
                boot=boot,
            )
            return
        if isinstance(error, RegistryPaused):
            self._plans.postpone(
                execution, PAUSED_SECONDS, reason=reason, failure_class="", counted=False, boot=boot
            )
            return
        if isinstance(error, RegistryAway) and is_waited_for(error, self._settings):
            pause = random.uniform(1.0, 1.5) * error.pause_seconds  # noqa: S311 - no secret
            log.warning("planning_postponed", execution=execution, reason=reason, pause=pause)
            self._plans.postpone(
                execution, pause, reason=reason, failure_class="", counted=False, boot=boot
            )
            return
        attempts = self._plans.attempts(execution)
        if error.retryable and attempts < MAX_PLAN_ATTEMPTS:
            wished = min(getattr(error, "retry_after_seconds", None) or 0.0, MAX_TOLD_SECONDS)
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            pause = wished or jitter * self._settings.retry_seconds * 2**attempts
            log.warning("planning_postponed", execution=execution, reason=reason, pause=pause)
            self._plans.postpone(execution, pause, reason=reason, failure_class="", boot=boot)
            return
        log.warning("planning_failed", execution=execution, reason=reason)
        self._plans.fail(execution, reason=reason, failure_class=error.failure_class, boot=boot)

    def _region_of(self, registry: str) -> str:
        if self._settings.one_machine:
            return self._settings.region
        return self._clients.endpoint(registry).region


def children_of(rule: SyncRule, entry: int) -> Children:
    """Return what an entry of the rule wants of an index at its destinations."""
    platforms = rule.select[entry].platforms
    return PlatformFilter(platforms).children if platforms else Manifest.children
