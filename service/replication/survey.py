"""Survey: walk over the repositories of one execution, compare them, save copies of what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from threading import Lock

from service.crashpoints import crashpoint
from service.errors import Cancelled, InvalidInput, RegistryError, RegistryPaused, TransshipError
from service.model.rule import SyncRule
from service.model.states import CopyState
from service.model.work import LedgerDistrusted
from service.replication.clients import Clients, Meter
from service.replication.collisions import CollisionCheck
from service.replication.compare import GONE, Comparer, Comparison, Wanted, subject_of
from service.replication.route import with_hops
from service.replication.select import ALL_TAGS, Page, Selector, apart
from service.replication.side_by_side import FAR_SECONDS
from service.store.planning import Cursor, PlanStore
from service.store.work import SqlState
from service.telemetry import Threads, get_logger

REPOSITORIES_AT_ONCE = 8
FAR_REPOSITORIES_AT_ONCE = 32
"""Where answers are waited for: a repository is three to five of them, one after the other."""
IN_HAND = 2
"""So many times as many repositories are begun or wait for a thread."""
REPOSITORIES_IN_HAND = IN_HAND * FAR_REPOSITORIES_AT_ONCE
FAILURES_IN_A_ROW = 24
"""So many repositories that fail for a while, one after the other, are the registry's failure."""
MAX_NAME = 255

log = get_logger("survey")


@dataclass(slots=True)
class _Troubles:
    """Repositories that could not be listed for now; thread safe."""

    first: RegistryError | InvalidInput | None = None
    in_a_row: int = 0
    lock: Lock = field(default_factory=Lock)

    def add(self, error: RegistryError | InvalidInput) -> bool:
        """Count one; whether it looks as if all would fail."""
        with self.lock:
            self.first = self.first or error
            self.in_a_row += 1
            return self.in_a_row >= FAILURES_IN_A_ROW

    def over(self) -> None:
        """One repository could be listed."""
        with self.lock:
            self.in_a_row = 0


class Survey:
    """One attempt to plan one execution."""

    def __init__(
        self,
        execution: str,
        rule: SyncRule,
        selector: Selector,
        plans: PlanStore,
        state: SqlState,
        clients: Clients,
        meter: Meter,
        *,
        last: bool,
        parents: Mapping[str, str],
        look: Callable[[Comparison, Comparer], None] | None = None,
        watch: Callable[[Comparison], None] | None = None,
    ) -> None:
        """`last`: there will be no further attempt, so what fails for a while fails for good.

        `parents`: the destination that each destination is fed from, where that is not the source.
        `look` sees the comparison of each page before it is saved, and may change it; `watch` likewise,
        before a tag of ours that is gone is forgotten.
        """
        self._look = look
        self._watch = watch
        self._parents = parents
        self._execution = execution
        self._rule = rule
        self._selector = selector
        self._plans = plans
        self._state = state
        self._clients = clients
        self._meter = meter
        self._last = last
        self._troubles = _Troubles()

    def refuse_collisions(self, comparer: Comparer) -> None:
        """Raise InvalidConfiguration for a rule whose names collide, before it writes anything."""

        def give_up(cursor: Cursor, error: RegistryError) -> None:
            if isinstance(error, RegistryPaused) or (error.retryable and not self._last):
                raise error
            self._fail(comparer, cursor, error, {})

        CollisionCheck(
            self._selector,
            lambda: self._plans.every_cursor(self._execution),
            self._plans.open_repositories(self._execution),
            give_up,
        ).refuse()

    def compare(self, comparer: Comparer) -> None:
        """Bring every repository to its end, with few in memory at a time.

        One that cannot be listed is recorded as failed and the others go on; for a failure that may
        pass, the first of them is raised when the others are through.
        """
        far = self._clients.answers_within() >= FAR_SECONDS
        at_once = FAR_REPOSITORIES_AT_ONCE if far else REPOSITORIES_AT_ONCE
        with Threads(at_once, "select") as pool:
            running: set[Future[None]] = set()
            try:
                for cursor in self._cursors():
                    if len(running) >= IN_HAND * at_once:
                        ended, running = wait(running, return_when=FIRST_COMPLETED)
                        for job in ended:
                            job.result()
                    running.add(pool.submit(self._repository, comparer, cursor))
                for job in running:
                    job.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if self._troubles.first is not None and not self._last:
            raise self._troubles.first
        left_out = self._plans.left_out(self._execution)
        if left_out:
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
            self._plans.warn(
                self._execution,
                f"left out by types and platforms of rule {self._rule.name}: {told}",
            )

    def _cursors(self) -> Iterator[Cursor]:
        return self._plans.every_cursor(self._execution)

    # ---- one repository --------------------------------------------------------------------------

    def _repository(self, comparer: Comparer, cursor: Cursor) -> None:
        requests: dict[str, int] = {}
        try:
            with self._meter.collect(requests):
                for page in self._selector.pages(cursor):
                    if not self._plans.open(self._execution):
                        raise Cancelled
                    self._page(comparer, cursor.repository, page, requests)
                    requests.clear()
        except RegistryPaused:
            raise  # the operator's pause is nobody's failure: planning goes on when it is over
        except (RegistryError, InvalidInput) as error:
            log.warning(
                "repository_failed",
                execution=self._execution,
                repository=cursor.repository,
                reason=error.message,
            )
            if error.retryable:
                hopeless = self._troubles.add(error)
                if hopeless:
                    raise
                if not self._last:
                    self._state.add_requests(self._execution, requests)
                    return
            self._fail(comparer, cursor, error, requests)
        else:
            self._troubles.over()

    def _page(
        self, comparer: Comparer, repository: str, page: Page, requests: dict[str, int]
    ) -> None:
        result = comparer.compare(self._rule.source, page.asks, self._selector, listed=page.listed)
        self._complete(comparer, result)
        digest_tags = page.digest_tags if self._rule.referrers else []
        if digest_tags:
            self._followers(comparer, repository, digest_tags, result)
        if self._watch is not None:
            self._watch(result)
        self._notice_losses(result)
        if self._look is not None:
            self._look(result, comparer)
        for registry, count in result.requests.items():
            requests[registry] = requests.get(registry, 0) + count
        self._plans.add_page(
            self._execution,
            self._rule.name,
            self._rule.source,
            repository,
            selected=with_hops(
                result.selected, [*result.in_place, *result.followers], self._parents
            ),
            matched=len(page.asks) - result.left_out.total(),
            left_out=result.left_out,
            unchanged=result.unchanged(),
            referrer_tags=digest_tags,
            cursor=page.position,
            done=page.done,
            listed=page.listed and page.complete,
            referrers=self._rule.referrers,
            requests=requests,
            seen=_seen(result) if self._rule.delete.enabled else (),
        )
        crashpoint("plan.page_written")

    def _complete(self, comparer: Comparer, result: Comparison) -> None:
        """Copy again what has the right digest at a destination, but not all platforms of its entry."""
        places = {(found.registry, found.repository) for found in result.in_place}
        sparse = self._plans.sparse_tags(places)
        if not sparse:
            return
        whole = []
        for found in result.in_place:
            name = (found.registry, found.repository, found.wanted.reference)
            there = sparse.get(name)
            wished = self._rule.select[found.wanted.entry].platforms
            if there is None or there[0] != found.digest or (wished and set(wished) <= there[1]):
                whole.append(found)
            else:
                result.selected.append(comparer.again(found))
        result.in_place[:] = whole

    def _followers(
        self, comparer: Comparer, repository: str, digest_tags: list[str], result: Comparison
    ) -> None:
        """Compare referrer and cosign tags whose image is at the destination already.

        Those of an image that is copied now travel with it, before its tag moves (promise 1). Where
        the name of the repository depends on the tag, they are looked for beside the images of
        the same page.
        """
        homes = self._selector.homes(repository)
        beside: dict[str, set[tuple[str, str]]] = {}
        for found in result.in_place:
            beside.setdefault(found.digest, set()).add((found.registry, found.repository))
        followers = [
            Wanted(repository, tag, registry, name, tag)
            for tag in digest_tags
            for registry, name in sorted(homes | beside.get(subject_of(tag), set()))
        ]
        found_there = comparer.compare_names(self._rule.source, followers)
        result.followers.extend(found_there.in_place)
        result.selected.extend(
            item for item in found_there.selected if item.state is not CopyState.SKIPPED
        )
        if self._look is not None:
            result.in_place.extend(found_there.in_place)
        for registry, count in found_there.requests.items():
            result.requests[registry] = result.requests.get(registry, 0) + count

    def _notice_losses(self, result: Comparison) -> None:
        """Hold it against all that a registry has when a tag that we committed there is gone."""
        lost = self._plans.lost_tags(result.missing)
        for registry in sorted({name for name, _, _ in lost}):
            log.warning("destination_lost_tags", registry=registry, execution=self._execution)
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
                self._execution,
                f"{registry} lost tags that were committed to it: nothing proved there before is believed",
            )
        self._plans.forget_tags(lost)

    def _fail(
        self,
        comparer: Comparer,
        cursor: Cursor,
        error: TransshipError,
        requests: dict[str, int],
    ) -> None:
        """Record that a repository cannot be listed: a failed copy of all its tags, at each destination."""
        repository = cursor.repository
        homes = self._selector.homes(repository) or {
            (registry, template) for registry, template, _ in self._selector.places()
        }
        kept_apart = self._selector.keeps_apart()
        rows = [
            comparer.failed(
                Wanted(
                    repository,
                    ALL_TAGS,
                    registry,
                    name if kept_apart else apart(name, repository),
                    ALL_TAGS,
                ),
                error,
            )
            for registry, name in sorted(homes)
        ]
        self._plans.add_page(
            self._execution,
            self._rule.name,
            self._rule.source,
            repository,
            selected=rows,
            matched=len(rows),
            left_out={},
            unchanged={},
            referrer_tags=(),
            cursor=cursor.position,
            done=True,
            listed=False,
            referrers=self._rule.referrers,
            requests=requests,
        )
        crashpoint("plan.page_written")


def _seen(result: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yield the names at destinations whose source is there."""
    for found in (*result.in_place, *result.followers):
        yield found.registry, found.repository, found.wanted.reference
    for item in result.selected:
        if item.state is not CopyState.SKIPPED or item.reason != GONE:
            yield (
                item.destination_registry,
                item.destination_repository,
                item.destination_reference,
            )
