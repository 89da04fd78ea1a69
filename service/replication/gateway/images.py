"""Tags and manifests behind a gateway's names, and what belongs to a repository."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from service.errors import (
    NotFound,
    NotFoundInStore,
    RegistryError,
    StoreUnavailable,
    TransshipError,
)
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.gateway import ImagePlace
from service.model.manifest import Manifest
from service.model.reference import digest_tag
from service.replication.gateway.memory import Member
from service.replication.gateway.nudges import Nudges
from service.replication.gateway.places import Found, Order
from service.replication.gateway.reading import Away, Reading
from service.replication.gateway.tags import Tags

SEARCHED = 200
"""Manifests of a repository that are looked through for a blob whose image another gateway has served."""

SEARCH_SECONDS = 30.0
VAIN_SEARCHES = 3


class Images:
    """Thread-safe; one a process."""

    def __init__(self, reading: Reading, nudges: Nudges) -> None:
        self.reading = reading
        self.tags = Tags(reading)
        self._nudges = nudges
        self._searched: dict[ImagePlace, list[float]] = {}

    def manifest(self, source: ImagePlace, reference: str) -> Manifest | None:
        """Return the manifest of a tag or digest, from the nearest registry that has it whole; None: there is none.

        Raises Away.
        """
        if ":" in reference:
            return self._by_digest(source, Digest.parse(reference), None)
        tag = self.tags.resolve(source, reference)
        if tag is None:
            return None
        found = self.reading.places.find(source, reference, tag.digest)
        if found.missing and not tag.known_only:
            self._nudges.wanted(found.missing, source[1], reference, str(tag.digest))
        return self._by_digest(source, tag.digest, found)

    def member(self, source: ImagePlace, digest: Digest) -> Member | None:
        """Return what a digest is in a repository; None where no manifest of it names it.

        A gateway that has not served the manifest itself looks through the newest ones of the repository.
        """
        found = self.reading.memory.member(source, digest)
        if found is not None:
            return found
        with self.reading.alone(("search", source)):
            found = self.reading.memory.member(source, digest)
            if found is None and self._may_search(source):
                self._search(source, digest)
                found = self.reading.memory.member(source, digest)
                if found is None:
                    self._searched[source].append(time.monotonic())
        return found

    def is_given(self, source: ImagePlace, digest: Digest) -> bool:
        """Whether a registry gives a blob by its repository's name: its source, or where its image is whole.

        Asked once; what then lies here may be sent to whoever may read that repository.
        """
        member = self.reading.memory.member(source, digest)
        if member is None or member.given:
            return member is not None
        for registry, repository in dict.fromkeys((source, *member.places)):
            try:
                there = self.reading.pulls(registry).has_blob(repository, digest)
            except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
                self.reading.passed_over(registry, error)
                continue
            if there:
                self.reading.memory.remember_given(source, digest, member)
                return True
        return False

    def around(self, source: ImagePlace, member: Member | None) -> Order:
        """Return where to ask for something of a repository, the best first."""
        return self.reading.places.ordered(
            source, member.places if member else (), self.reading.mapped(source)
        )

    def referrers(self, source: ImagePlace, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what is attached to a digest: as the first registry says that answers, the source first."""
        member = self.reading.memory.member(source, digest)
        order = Order(source, (source,))
        if self.reading.belongs(source, digest):
            others = [place for place in self.around(source, member) if place != source]
            order = Order(
                source, (source, *others), set(others) - set(member.places if member else ())
            )
        answered = False
        for registry, repository in order:
            try:
                found = self._attached(registry, repository, digest)
            except NotFound:
                order.has_not((registry, repository))
                answered = True
            except TransshipError as error:
                self.reading.passed_over(registry, error)
            else:
                places = member.places if member is not None else ()
                self.reading.memory.remember_members(source, found, places)
                return found
        if not answered:
            raise Away(f"no registry answers for what is attached to {digest}")
        return ()

    def _attached(self, registry: str, repository: str, digest: Digest) -> tuple[Descriptor, ...]:
        client = self.reading.clients.get(registry)
        listed = client.referrers(repository, digest)
        if listed is None:  # no such API there: the tag that stands for it
            return client.get_manifest(repository, digest_tag(digest)).manifests
        return listed

    def _by_digest(
        self, source: ImagePlace, digest: Digest, found: Found | None
    ) -> Manifest | None:
        member = self.reading.memory.member(source, digest)
        if member is not None and member.is_manifest and member.given:
            kept = self.reading.memory.manifest(digest)
            if kept is not None:
                if found is not None and found.known and self._is_elsewhere(source, member, found):
                    self._learn(source, kept, found, source)
                return kept
        with self.reading.alone((source, digest)):
            member = self.reading.memory.member(source, digest)
            given = member is not None and member.is_manifest and member.given
            kept = self.reading.memory.manifest(digest) if given else None
            if kept is not None:
                return kept
            # whose a digest is that was asked for by itself, its source says, or SQL: beside a copy of this
            # repository's images may lie another one's
            known = found is not None or member is not None
            perhaps = self.reading.mapped(source) if known else ()
            if found is None:
                found = self._found(source, digest, member)
            elif not found.whole:  # such as when the rule is gone that it was copied by
                perhaps = (*self._copied(source, digest), *perhaps)
            return self._fetched(source, digest, found, (*found.perhaps, *perhaps))

    def _is_elsewhere(self, source: ImagePlace, member: Member, found: Found) -> bool:
        """Whether an image is at other places than it was when its manifest was fetched."""
        before = _others(member, source)
        if found.whole:
            return found.whole != before
        return not all(self.reading.places.may_read(registry) for registry, _ in before)

    def _found(self, source: ImagePlace, digest: Digest, member: Member | None) -> Found:
        """Return where something may be that was asked for by its digest."""
        if member is not None and member.places:
            return Found(_others(member, source))
        copied = self._copied(source, digest)
        found = self.reading.places.find(source, str(digest), digest)
        return Found(tuple(dict.fromkeys((*copied, *found.whole))), (), (), found.known)

    def _copied(self, source: ImagePlace, digest: Digest) -> tuple[ImagePlace, ...]:
        """Return where SQL says that an image was copied to from here, as far as it may be read there."""
        try:
            copied = self.reading.gate.ask(lambda: self.reading.pulled.copied(*source, str(digest)))
        except StoreUnavailable:
            return ()
        return tuple(place for place in copied if self.reading.places.may_read(place[0]))

    def _fetched(
        self, source: ImagePlace, digest: Digest, found: Found, perhaps: tuple[ImagePlace, ...]
    ) -> Manifest | None:
        absent = False
        order = self.reading.places.ordered(source, found.whole, perhaps)
        for place in order:
            try:
                manifest = self.reading.pulls(place[0]).manifest(place[1], digest)
            except NotFound:
                order.has_not(place)
                absent = absent or place == source
                continue
            except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
                self.reading.passed_over(place[0], error)
                continue
            self.reading.places.pauses.answered(place[0])
            self._learn(source, manifest, found, place)
            return manifest
        if absent:
            return None
        raise Away(f"no registry that has {digest} answers")

    def _learn(
        self, source: ImagePlace, manifest: Manifest, found: Found, had_at: ImagePlace
    ) -> None:
        """Keep where a manifest and what it names are had: where SQL says, else where the manifest was."""
        places = found.whole or tuple(place for place in (had_at,) if place != source)
        self.reading.memory.remember_manifest(source, manifest, places)

    def _may_search(self, source: ImagePlace) -> bool:
        """Whether not too many searches of a repository were in vain lately: nobody has one searched all the time."""
        since = time.monotonic() - SEARCH_SECONDS
        if len(self._searched) > 10_000:
            self._searched.clear()
        vain = self._searched[source] = [at for at in self._searched.get(source, []) if at > since]
        return len(vain) < VAIN_SEARCHES

    def _search(self, source: ImagePlace, wanted: Digest) -> None:
        """Look through manifests of a repository for one that names a digest."""
        left = SEARCHED
        for reference in self._newest(source):
            if left <= 0:
                return
            left -= self._look_through(source, reference, left)
            if self.reading.memory.member(source, wanted) is not None:
                return

    def _newest(self, source: ImagePlace) -> Iterator[str]:
        with suppress(StoreUnavailable):
            yield from self.reading.gate.ask(lambda: self.reading.pulled.digests(*source, SEARCHED))
        try:
            for page in self.reading.clients.get(source[0]).list_tags(source[1]):
                yield from page.tags
        except (RegistryError, NotFoundInStore, StoreUnavailable):
            return

    def _look_through(self, source: ImagePlace, reference: str, most: int) -> int:
        """Learn what a manifest and its children name; returns how many were read."""
        try:
            manifest = self.manifest(source, reference)
        except (Away, RegistryError):
            return 1
        if manifest is None:
            return 1
        count = 1
        for child in manifest.children():
            if count >= most:
                break
            try:
                self.manifest(source, str(child.digest))
            except (Away, RegistryError):
                continue
            finally:
                count += 1
        return count


def _others(member: Member, source: ImagePlace) -> tuple[ImagePlace, ...]:
    return tuple(place for place in member.places if place != source)
