"""What is attached to frozen images, at the destination: referrers, cosign's tags, the tags that stand for referrers.

A rule copies them with their images (`referrers`), so a proof asks for them, too, and reads them to their last blob.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.errors import InvalidInput, NotFound, RegistryError
from service.model.digest import Digest
from service.model.migration import Migration
from service.registry.client import RegistryClient
from service.replication.compare import told
from service.replication.walk import Remembered, holes
from service.store.migration_surveys import SurveyStore
from service.store.survey_values import Finding


class AttachedProof:
    """Looks at one proof's attachments; it writes nothing to any registry."""

    def __init__(
        self,
        store: SurveyStore,
        migration: Migration,
        freeze: int,
        source: RegistryClient,
        destination: RegistryClient,
        remembered: Remembered,
    ) -> None:
        self._store = store
        self._migration = migration
        self._freeze = freeze
        self._source = source
        self._destination = destination
        self.remembered = remembered

    def referrers(self, repository: str, place: str, digest: Digest) -> list[str]:
        """Return what the source's list says refers to an image, and cannot be read in `place`."""
        listed = self._source.referrers(repository, digest) or ()
        return [
            f"referrer {one.digest} ({one.artifact_type}): {lack}"
            for one in listed
            for lack in self._holes(place, one.digest)
        ]

    def tags(self, repository: str, names: Iterable[str]) -> list[Finding]:
        """Return what is wrong with tags of a repository that are named after frozen images.

        Raises RegistryError where a registry cannot be asked for a while.
        """
        found: list[Finding] = []
        for name in names:
            stem, _, suffix = name.partition(".")
            image = stem.replace("-", ":", 1)
            for place in self._store.places(self._freeze, repository, image):
                found += self._tag(repository, name, place, fallback=not suffix)
        return found

    def _tag(self, repository: str, name: str, place: str, *, fallback: bool) -> Sequence[Finding]:
        wanted = ""
        try:
            head = self._source.head_manifest(repository, name)
            if head is None:
                return ()
            wanted = str(head.digest)
            if fallback:
                lacks = self._listed(repository, name, place)
            else:
                there = self._destination.head_manifest(place, name)
                if there is None or there.digest != head.digest:
                    lacks = [
                        f"{place}:{name} is missing"
                        if there is None
                        else f"{place}:{name} is another one"
                    ]
                else:
                    lacks = self._holes(place, head.digest)
        except (RegistryError, InvalidInput) as error:
            if error.retryable:
                raise
            lacks = [told(error, self._migration.at)]
        reason = f"{self._migration.at}: {'; '.join(lacks[:3])}"
        return (
            [Finding(repository, name, "hole", f"{place}:{name}", wanted, reason=reason)]
            if lacks
            else ()
        )

    def _listed(self, repository: str, name: str, place: str) -> list[str]:
        """Return what a tag in place of a list of referrers names, and cannot be read in `place`.

        The tag itself need not be there: a registry that lists referrers by itself has none.
        """
        try:
            index = self._source.get_manifest(repository, name)
        except NotFound:
            return []
        return [lack for child in index.children() for lack in self._holes(place, child.digest)]

    def _holes(self, place: str, digest: Digest) -> list[str]:
        return holes(self._destination, place, digest, remembered=self.remembered)
