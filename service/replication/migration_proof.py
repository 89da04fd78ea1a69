"""The destination's side of a cut-over proof: each frozen tag, by its final name, read to its last blob."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from service.errors import InvalidInput, RegistryError
from service.model.digest import Digest
from service.model.migration import FREEZE, Migration
from service.replication.clients import Clients
from service.replication.compare import told
from service.replication.migration_attached import AttachedProof
from service.replication.plan import children_of
from service.replication.still_open import StillOpen
from service.replication.walk import Remembered, holes
from service.store.migration_surveys import SurveyStore
from service.store.survey_values import Finding, SeenTag, Survey

TAGS_AT_ONCE = 200
MAX_TOLD = 3


class DestinationProof:
    """Goes over the tags of a freeze; it writes nothing to any registry."""

    def __init__(
        self,
        store: SurveyStore,
        clients: Clients,
        *,
        proof_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`proof_seconds`: so long is believed what was read; a proof that stood still longer reads anew."""
        self._store = store
        self._clients = clients
        self._proof_seconds = proof_seconds
        self._clock = clock
        self._remembered: dict[int, tuple[float, Remembered]] = {}

    def forget(self, survey: int) -> None:
        """Forget what was read for a proof that has ended."""
        self._remembered.pop(survey, None)

    def go_on(
        self,
        survey: Survey,
        migration: Migration,
        pool: ThreadPoolExecutor,
        still_open: StillOpen,
        until: float,
    ) -> bool:
        """Go on from the proof's cursor until the slice is over; whether every tag was looked at.

        Raises RegistryError where a registry cannot be asked for a while: that is no finding.
        """
        frozen = int(survey.figures[FREEZE])
        first, second = json.loads(survey.cursor) if survey.cursor else ("", "")
        after: tuple[str, str] = (first, second)
        look = partial(self._look, migration, self.attached(survey, migration))

        def one(tag: SeenTag) -> Finding | None:
            still_open.check()
            return look(tag)

        while page := self._store.tags(frozen, after, TAGS_AT_ONCE):
            findings = [found for found in pool.map(one, page) if found is not None]
            after = (page[-1].repository, page[-1].tag)
            self._store.add_findings(survey.id, findings, cursor=json.dumps(after))
            if time.monotonic() > until:
                return False
        return True

    def attached(self, survey: Survey, migration: Migration) -> AttachedProof:
        """Return what looks at attachments for a proof."""
        return AttachedProof(
            self._store,
            migration,
            int(survey.figures[FREEZE]),
            self._clients.get(migration.source),
            self._clients.get(migration.at),
            self._remembered_of(survey),
        )

    def _remembered_of(self, survey: Survey) -> Remembered:
        now = self._clock()
        for identity, (since, _) in list(self._remembered.items()):
            if (
                now - since > self._proof_seconds
            ):  # of those that failed, too: nobody ends them here
                del self._remembered[identity]
        return self._remembered.setdefault(survey.id, (now, Remembered()))[1]

    def _look(self, migration: Migration, attached: AttachedProof, tag: SeenTag) -> Finding | None:
        """Return what is wrong with one tag at the destination."""
        client = self._clients.get(migration.at)
        name = f"{tag.destination_repository}:{tag.destination_tag}"
        wrong: Callable[..., Finding] = partial(
            Finding, tag.repository, tag.tag, destination=name, wanted=tag.digest
        )
        try:
            head = client.head_manifest(tag.destination_repository, tag.destination_tag)
            if head is None:
                return wrong(kind="missing", reason=f"{migration.at} has no {name}")
            if str(head.digest) != tag.digest:
                reason = f"{migration.at} has another digest under {name} than the freeze"
                return wrong(kind="moved", found=str(head.digest), reason=reason)
            digest = Digest.parse(tag.digest)
            rule = migration.rule("proof", [tag.repository])
            lacks = holes(
                client,
                tag.destination_repository,
                digest,
                remembered=attached.remembered,
                children=children_of(rule, tag.entry),
            )
            if not lacks and migration.referrers:
                lacks = attached.referrers(tag.repository, tag.destination_repository, digest)
        except (RegistryError, InvalidInput) as error:
            if error.retryable:
                raise
            return wrong(kind="unreadable", reason=told(error, migration.at))
        if not lacks:
            return None
        more = f", and {len(lacks) - MAX_TOLD} more" if len(lacks) > MAX_TOLD else ""
        return wrong(kind="hole", reason=f"{migration.at}: {'; '.join(lacks[:MAX_TOLD])}{more}")
