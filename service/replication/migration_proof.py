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
from service.replication.plan import children_of
from service.replication.still_open import StillOpen
from service.replication.walk import Remembered, holes
from service.store.migration_surveys import SurveyStore
from service.store.survey_values import Finding, SeenTag, Survey

TAGS_AT_ONCE = 200
MAX_TOLD = 3


class DestinationProof:
    """Goes over the tags of a freeze; it writes nothing to any registry."""

    def __init__(self, store: SurveyStore, clients: Clients) -> None:
        self._store = store
        self._clients = clients
        self._remembered: dict[int, Remembered] = {}

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
        frozen = self._store.latest(migration.name)[FREEZE]
        first, second = json.loads(survey.cursor) if survey.cursor else ("", "")
        after: tuple[str, str] = (first, second)
        look = partial(self._look, migration, self._remembered.setdefault(survey.id, Remembered()))

        def one(tag: SeenTag) -> Finding | None:
            still_open.check()
            return look(tag)

        while page := self._store.tags(frozen.id, after, TAGS_AT_ONCE):
            findings = [found for found in pool.map(one, page) if found is not None]
            after = (page[-1].repository, page[-1].tag)
            self._store.add_findings(survey.id, findings, cursor=json.dumps(after))
            if time.monotonic() > until:
                return False
        return True

    def _look(self, migration: Migration, remembered: Remembered, tag: SeenTag) -> Finding | None:
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
                remembered=remembered,
                children=children_of(rule, tag.entry),
            )
            if not lacks and migration.referrers:
                lacks = self._lost_referrers(migration, tag, digest)
        except (RegistryError, InvalidInput) as error:
            if error.retryable:
                raise
            return wrong(kind="unreadable", reason=told(error, migration.at))
        if not lacks:
            return None
        more = f", and {len(lacks) - MAX_TOLD} more" if len(lacks) > MAX_TOLD else ""
        return wrong(kind="hole", reason=f"{migration.at}: {'; '.join(lacks[:MAX_TOLD])}{more}")

    def _lost_referrers(self, migration: Migration, tag: SeenTag, digest: Digest) -> list[str]:
        """Return what refers to the image at the source and is not at the destination."""
        source, client = self._clients.get(migration.source), self._clients.get(migration.at)
        return [
            f"referrer {one.digest} ({one.artifact_type}) is missing"
            for one in source.referrers(tag.repository, digest) or ()
            if client.head_manifest(tag.destination_repository, str(one.digest)) is None
        ]
