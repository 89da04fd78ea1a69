"""One slice of a look over the repositories of a fleet: what each tag names, weighs, and will be called."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from service.errors import (
    InvalidInput,
    NotFound,
    RegistryAway,
    RegistryError,
    RegistryPaused,
)
from service.model.digest import Digest
from service.model.migration import INVENTORY, Migration
from service.model.project import Project
from service.model.rule import SyncRule
from service.registry.client import RegistryClient
from service.replication.clients import Meter
from service.replication.compare import Ask, LeftOut, Unnamed, told
from service.replication.content import ContentReader
from service.replication.image_sizes import image_sizes
from service.replication.migration_attached import AttachedProof
from service.replication.plan import children_of
from service.replication.select import Page, Selector
from service.replication.still_open import StillOpen
from service.store.migration_surveys import SurveyStore
from service.store.planning import Cursor, PlanStore
from service.store.survey_values import (
    Finding,
    SeenBlob,
    SeenTag,
    Survey,
)

REPOSITORIES_AT_ONCE = 8
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one tag has come to."""

    tag: SeenTag | None = None
    blobs: tuple[SeenBlob, ...] = ()
    findings: tuple[Finding, ...] = ()


class SurveyWalk:
    """One slice over the repositories of a look."""

    def __init__(
        self,
        survey: Survey,
        migration: Migration,
        project: Project,
        pool: ThreadPoolExecutor,
        still_open: StillOpen,
        until: float,
        *,
        store: SurveyStore,
        plans: PlanStore,
        meter: Meter,
        source: RegistryClient,
        max_attempts: int,
        attached: AttachedProof | None = None,
    ) -> None:
        """`until`: when the slice is over, by the monotonic clock. `attached`: looks at tags named after images.

        `max_attempts`: what has failed in so many slices in a row in which nothing went on is left out.
        """
        self._store = store
        self._plans = plans
        self._meter = meter
        self._source = source
        self._max_attempts = max_attempts
        self._attached = attached
        self._survey = survey
        self._migration = migration
        self._project = project
        self._pool = pool
        self._still_open = still_open
        self._until = until
        self._begun = False

    def go_on(self) -> bool:
        """Bring repositories forward until the slice is over; whether all are at their end."""
        after = ""
        with ThreadPoolExecutor(REPOSITORIES_AT_ONCE, "survey-repositories") as outer:
            while page := self._store.cursors(self._survey.id, after=after, limit=AT_ONCE):
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
        attached: Sequence[Finding] = ()
        if self._attached is not None:
            attached = self._attached.tags(repository, page.digest_tags)
        self._store.add_page(
            self._survey.id,
            repository,
            tags=[one.tag for one in seen if one.tag is not None],
            blobs={blob.digest: blob for one in seen for blob in one.blobs}.values(),
            findings=[*attached, *(finding for one in seen for finding in one.findings)],
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
