"""Look at a fleet that is to move: what there is, what is to be there, whether it is (issue 8 point 3).

A look is done in slices of some seconds by whoever holds its lease, from cursors in SQL: a process that dies
loses a page. What one slice holds does not grow with the fleet.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from service.errors import (
    Cancelled,
    InvalidInput,
    NotFound,
    RegistryAway,
    RegistryError,
    RegistryPaused,
    StoreUnavailable,
    TransshipError,
    WrongRegion,
)
from service.model.digest import Digest
from service.model.migration import FREEZE, INVENTORY, PROOF, Migration
from service.model.project import Project
from service.model.rule import SyncRule
from service.replication.borders import BorderGuard
from service.replication.clients import Clients, Meter
from service.replication.compare import Ask, LeftOut, Unnamed, told
from service.replication.content import ContentReader
from service.replication.image_sizes import image_sizes
from service.replication.migration_proof import DestinationProof
from service.replication.patience import is_waited_for
from service.replication.plan import children_of
from service.replication.select import Page, Selector
from service.replication.still_open import StillOpen
from service.settings import Settings
from service.store.migration_surveys import SurveyStore
from service.store.migration_waves import WaveAssignment
from service.store.planning import Cursor, PlanStore
from service.store.projects import ProjectStore
from service.store.survey_values import (
    CLOSING,
    DESTINATION,
    REPOSITORIES,
    TAGS,
    Finding,
    SeenBlob,
    SeenTag,
    Survey,
)
from service.telemetry import get_logger

SLICE_SECONDS = 5.0
"""How long one look keeps the others waiting."""
REPOSITORIES_AT_ONCE = 8
MAX_ATTEMPTS = 8
PAUSED_SECONDS = 1.0

log = get_logger("migration")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one tag has come to."""

    tag: SeenTag | None = None
    blobs: tuple[SeenBlob, ...] = ()
    findings: tuple[Finding, ...] = ()


class Surveyor:
    """Brings looks forward; any process may, each look is in the hands of one at a time."""

    def __init__(
        self,
        settings: Settings,
        store: SurveyStore,
        waves: WaveAssignment,
        plans: PlanStore,
        projects: ProjectStore,
        clients: Clients,
        meter: Meter,
        guard: BorderGuard,
        *,
        turn: Callable[[str], bool] = lambda _name: True,
        resign: Callable[[str], None] = lambda _name: None,
        slice_seconds: float = SLICE_SECONDS,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        """`turn` takes the lease of a look by its name, False while another process has it; `resign` lets it go."""
        self._settings = settings
        self._store = store
        self._waves = waves
        self._plans = plans
        self._projects = projects
        self._clients = clients
        self._meter = meter
        self._guard = guard
        self._turn = turn
        self._resign = resign
        self._slice = slice_seconds
        self.max_attempts = max_attempts
        self._proof = DestinationProof(store, clients)
        self._stop = threading.Event()

    def step(self) -> None:
        """Give every look that is due a slice of time."""
        self._store.forget_old()
        for survey, migration in self._store.due():
            try:
                self._guard.check_place(
                    [migration.source, *([migration.at] if survey.kind == PROOF else ())]
                )
            except WrongRegion as error:  # a process of another jurisdiction takes the note away
                self._store.note(survey.id, error.message)
                continue
            lease = f"migration survey {survey.id}"
            if self._turn(lease):
                try:
                    self._attempt(survey, migration)
                finally:
                    self._resign(lease)

    def _attempt(self, survey: Survey, migration: Migration) -> None:
        """Do one slice of a look; whatever a registry answers is written to it. Raises StoreUnavailable."""
        try:
            self._do(survey, migration)
        except StoreUnavailable:
            raise
        except Cancelled:
            return
        except RegistryPaused as error:
            self._store.postpone(survey.id, PAUSED_SECONDS, error.message, counted=False)
        except TransshipError as error:
            self._failed(survey, migration, error)
        except Exception as error:
            log.exception("survey_broke", migration=survey.migration, kind=survey.kind)
            self._store.fail(survey.id, f"{type(error).__name__}: {error}")

    def _failed(self, survey: Survey, migration: Migration, error: TransshipError) -> None:
        reason = told(error, migration.source)
        if isinstance(error, RegistryAway) and is_waited_for(error, self._settings):
            self._store.postpone(survey.id, error.pause_seconds, reason, counted=False)
        elif error.retryable and survey.attempts + 1 < self.max_attempts:
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            pause = jitter * self._settings.retry_seconds * 2.0**survey.attempts
            self._store.postpone(survey.id, pause, reason, counted=True)
        else:
            hint = f" ({error.hint})" if error.hint else ""
            self._store.fail(survey.id, f"{reason}{hint}")
            log.warning("survey_failed", migration=survey.migration, kind=survey.kind)

    def _do(self, survey: Survey, migration: Migration) -> None:
        until = time.monotonic() + self._slice
        still_open = StillOpen(partial(self._store.is_open, survey.id), self._stop)
        phase = survey.phase
        with ThreadPoolExecutor(self._settings.compare_threads, "survey") as pool:
            if phase == DESTINATION:
                if not self._proof.go_on(survey, migration, pool, still_open, until):
                    return
                self._store.advance(survey.id, REPOSITORIES)
                phase, survey = REPOSITORIES, self._again(survey)
            project = self._projects.access(migration.project)
            if phase == REPOSITORIES:
                if not self._list(survey, migration, project, still_open, until):
                    return
                phase = TAGS
            if phase == TAGS:
                walk = _Walk(self, survey, migration, project, pool, still_open, until)
                if not walk.go_on():
                    return
                self._store.advance(survey.id, CLOSING)
        self._close(survey, migration)

    def _again(self, survey: Survey) -> Survey:
        return self._store.latest(survey.migration)[survey.kind]

    def _list(
        self,
        survey: Survey,
        migration: Migration,
        project: Project,
        still_open: StillOpen,
        until: float,
    ) -> bool:
        """Go on with the list of repositories; whether it is at its end."""
        named = migration.named_repositories()

        def readable(names: Sequence[str]) -> list[str]:
            return [name for name in names if project.may_read(migration.source, name)]

        if named is not None:
            self._store.add_repositories(survey.id, readable(named), cursor="", done=True)
            return True
        source = self._clients.get(migration.source)
        for page in source.list_repositories(cursor=survey.cursor or None):
            still_open.check()
            wanted = readable([name for name in page.repositories if migration.wants(name)])
            self._store.add_repositories(
                survey.id, wanted, cursor=page.next or "", done=page.next is None
            )
            if page.next is not None and time.monotonic() > until:
                return False
        return True

    # ---- the end ---------------------------------------------------------------------------------

    def _close(self, survey: Survey, migration: Migration) -> None:
        store, latest = self._store, self._store.latest(survey.migration)
        if survey.kind == PROOF:
            frozen = latest[FREEZE]
            changes = store.changes(frozen.id, survey.id)
            store.add_findings(survey.id, changes, cursor="")
            tags = frozen.figures.get("tags", 0)
            store.end(
                survey.id,
                {"tags": tags, "freeze": frozen.id, "findings": store.counts(survey.id)},
            )
            self._proof.forget(survey.id)
            return
        store.add_findings(survey.id, store.collisions(survey.id), cursor="")
        if survey.kind == INVENTORY:
            wrong = self._waves.by_size(migration, survey.id)
        else:
            wrong = self._waves.as_before(migration, survey.id, latest[INVENTORY].id)
        store.add_findings(survey.id, wrong, cursor="")
        counts = store.counts(survey.id)
        if survey.kind == FREEZE and (counts.get("unlisted") or counts.get("unread")):
            store.fail(
                survey.id,
                "part of the source could not be read, and nothing could be proved of it: "
                f"transship migrations findings {survey.migration} --of freeze",
            )
            return
        store.end(survey.id, {**store.totals(survey.id), "findings": counts})
        log.info("survey_ended", migration=survey.migration, kind=survey.kind)


class _Walk:
    """One slice over the repositories of a look."""

    def __init__(
        self,
        owner: Surveyor,
        survey: Survey,
        migration: Migration,
        project: Project,
        pool: ThreadPoolExecutor,
        still_open: StillOpen,
        until: float,
    ) -> None:
        self._max_attempts = owner.max_attempts
        self._store = owner._store  # noqa: SLF001 - a part of it
        self._plans = owner._plans  # noqa: SLF001
        self._meter = owner._meter  # noqa: SLF001
        self._survey = survey
        self._migration = migration
        self._project = project
        self._source = owner._clients.get(migration.source)  # noqa: SLF001
        self._pool = pool
        self._still_open = still_open
        self._until = until
        self._begun = False

    def go_on(self) -> bool:
        """Bring repositories forward until the slice is over; whether all are at their end."""
        after = ""
        with ThreadPoolExecutor(REPOSITORIES_AT_ONCE, "survey-repositories") as outer:
            while page := self._store.cursors(self._survey.id, after=after, limit=64):
                for ended in outer.map(self._repository, page):
                    if not ended:
                        return False
                after = page[-1][0]
        return True

    def _repository(self, place: tuple[str, str]) -> bool:
        """Bring one repository forward; whether it is at its end."""
        repository, cursor = place
        rule = self._migration.rule("survey", [repository])
        if not rule.select:
            return True
        if self._begun and time.monotonic() > self._until:
            return False
        self._begun = True  # a slice does something, however late it came to it
        reader = ContentReader(self._source, self._plans.facts(), self._pool, self._meter)
        selector = Selector(
            rule,
            self._source,
            [(self._migration.destination,)],
            self._plans,
            "",
            content=reader,
        )
        try:
            for page in selector.pages(Cursor(repository, cursor)):
                self._page(repository, rule, selector, page)
                if not page.done and time.monotonic() > self._until:
                    return False
        except NotFound:
            self._end(repository, ())  # the catalog lists what is gone
        except (RegistryError, InvalidInput) as error:
            if self._may_pass(error):
                raise
            reason = told(error, self._migration.source)
            self._end(repository, [Finding(repository, "", "unlisted", reason=reason)])
        return True

    def _may_pass(self, error: RegistryError | InvalidInput) -> bool:
        """Whether to try again later: once nothing has gone on for so often, what still fails is left out."""
        last = self._survey.attempts + 1 >= self._max_attempts
        return error.retryable and (not last or isinstance(error, RegistryAway | RegistryPaused))

    def _end(self, repository: str, findings: Sequence[Finding]) -> None:
        self._store.add_page(
            self._survey.id, repository, tags=(), findings=findings, cursor="", done=True
        )

    def _page(self, repository: str, rule: SyncRule, selector: Selector, page: Page) -> None:
        self._still_open.check()
        seen = list(self._pool.map(partial(self._look, selector), page.asks))
        if self._survey.kind == INVENTORY:
            seen = self._with_sizes(repository, rule, seen)
        self._store.add_page(
            self._survey.id,
            repository,
            tags=[one.tag for one in seen if one.tag is not None],
            blobs={blob.digest: blob for one in seen for blob in one.blobs}.values(),
            findings=[finding for one in seen for finding in one.findings],
            cursor=page.position,
            done=page.done,
        )

    def _look(self, selector: Selector, ask: Ask) -> _Seen:
        """Read what a tag names, and what it will be called; nothing for one that is gone meanwhile."""
        self._still_open.check()
        try:
            head = self._source.head_manifest(ask.repository, ask.reference)
            if head is None:
                return _Seen()
            digest = str(head.digest)
            entry = ask.entries[0]
            if any(map(selector.conditional, ask.entries)):
                decided = selector.decide(ask, digest)
                if isinstance(decided, LeftOut):
                    return _Seen()
                entry = decided
        except (RegistryError, InvalidInput) as error:
            if self._may_pass(error):
                raise
            reason = told(error, self._migration.source)
            return _Seen(
                findings=(Finding(ask.repository, ask.reference, "unread", reason=reason),)
            )
        (named,) = selector.names_at(ask, entry, digest)
        if isinstance(named, Unnamed):
            reason = f"{named.error.message}; write another template"
            return _Seen(
                findings=(Finding(ask.repository, ask.reference, "unnamed", reason=reason),)
            )
        if not self._project.may_write(named.registry, named.repository):
            reason = (
                f"project {self._project.name} may not write {named.registry}/{named.repository}"
            )
            return _Seen(
                findings=(Finding(ask.repository, ask.reference, "denied", reason=reason),)
            )
        return _Seen(
            SeenTag(
                ask.repository, ask.reference, digest, 0, named.repository, named.reference, entry
            )
        )

    def _with_sizes(self, repository: str, rule: SyncRule, seen: Sequence[_Seen]) -> list[_Seen]:
        """Add what each image weighs; a digest is read once in its repository."""
        digests = list(dict.fromkeys(one.tag.digest for one in seen if one.tag is not None))
        known = self._store.known(self._survey.id, repository, digests)
        entries = {one.tag.digest: one.tag.entry for one in seen if one.tag is not None}

        def read(digest: str) -> _Seen | RegistryError | InvalidInput:
            self._still_open.check()
            try:
                sizes = image_sizes(
                    self._source,
                    repository,
                    Digest.parse(digest),
                    children=children_of(rule, entries[digest]),
                )
            except (RegistryError, InvalidInput) as error:
                if self._may_pass(error):
                    raise
                return error
            whole = sum(sizes.values())
            return _Seen(
                blobs=tuple(
                    SeenBlob(name, size, whole if name == digest else 0)
                    for name, size in sizes.items()
                )
            )

        fresh = [digest for digest in digests if digest not in known]
        read_now = dict(zip(fresh, self._pool.map(read, fresh), strict=True))
        return [self._weighed(one, known, read_now) for one in seen]

    def _weighed(
        self,
        one: _Seen,
        known: dict[str, int],
        read_now: dict[str, _Seen | RegistryError | InvalidInput],
    ) -> _Seen:
        tag = one.tag
        if tag is None:
            return one
        found = read_now.get(tag.digest)
        if isinstance(found, _Seen):
            size = next(blob.image_bytes for blob in found.blobs if blob.digest == tag.digest)
            return _Seen(_sized(tag, size), found.blobs)
        if found is not None:
            reason = told(found, self._migration.source)
            broken = Finding(tag.repository, tag.tag, "broken", wanted=tag.digest, reason=reason)
            return _Seen(tag, findings=(broken,))
        return _Seen(_sized(tag, known[tag.digest]))


def _sized(tag: SeenTag, size: int) -> SeenTag:
    return SeenTag(
        tag.repository,
        tag.tag,
        tag.digest,
        size,
        tag.destination_repository,
        tag.destination_tag,
        tag.entry,
    )
