"""Tags and manifests behind a gateway's names, and what belongs to a repository."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from service.errors import (
    AuthenticationFailed,
    Corrupt,
    Denied,
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
from service.model.reference import digest_tag, is_digest_tag
from service.registry.limiter import Limiter
from service.registry.pulls import Pulls
from service.replication.clients import Clients
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.memory import Member, Memory
from service.replication.gateway.nudges import Nudges
from service.replication.gateway.places import Found, Pauses, Places
from service.replication.gateway.steady import StoreGate
from service.store.pulled import PulledStore
from service.telemetry import get_logger

log = get_logger("gateway")

TAG_SECONDS = 1.0
"""So long what a tag is stays without another question to its source: many pulls of one moment ask it once."""

OLD_SECONDS = 5.0
"""So long a tag's last known digest is served without asking a source again that did not answer."""

MAPPED_SECONDS, UNMAPPED_SECONDS = 30.0, 1.0

SEARCHED = 200
"""Manifests of a repository that are looked through for a blob whose image another gateway has served."""

SEARCH_SECONDS = 30.0
VAIN_SEARCHES = 3


class Away(TransshipError):
    """No registry that has it answers now."""

    code = "gateway_away"
    failure_class = "network"
    retryable = True


@dataclass(frozen=True, slots=True)
class Tag:
    """What a tag is; `known_only`: its source did not say so just now."""

    digest: Digest
    known_only: bool = False


class Images:
    """Thread-safe; one a process."""

    def __init__(
        self,
        clients: Clients,
        memory: Memory,
        places: Places,
        pulled: PulledStore,
        gate: StoreGate,
        nudges: Nudges,
        figures: GatewayFigures,
    ) -> None:
        self.places = places
        self._clients = clients
        self._memory = memory
        self._pulled = pulled
        self._gate = gate
        self._nudges = nudges
        self._figures = figures
        self._tags: dict[tuple[ImagePlace, str], tuple[float, Tag | None]] = {}
        self._mappings: dict[ImagePlace, tuple[float, tuple[ImagePlace, ...]]] = {}
        self._sources = Pauses()  # those that did not say lately what a tag is
        self._searched: dict[ImagePlace, list[float]] = {}
        self._flights: dict[object, tuple[threading.Lock, list[int]]] = {}
        self._lock = threading.Lock()

    def pulls(self, registry: str) -> Pulls:
        """Return what reads from a registry. Raises NotFoundInStore, RegistryPaused, Unsupported."""
        return Pulls(self._clients.get(registry))

    def limiter(self, registry: str) -> Limiter | None:
        """Return this process's part of a registry's limits."""
        return self._clients.get(registry).http.limiter

    def resolve(self, source: ImagePlace, tag: str) -> Tag | None:
        """Return what a tag is: as its source says; as was last known where that does not answer; None: there is none.

        Raises Away where the source does not answer, and nothing is known.
        """
        key = (source, tag)
        found = self._fresh_tag(key)
        if found is not None:
            return found[1]
        with self._alone(key):
            found = self._fresh_tag(key)
            if found is not None:
                return found[1]
            tag_now = self._asked_tag(source, tag)
            with self._lock:
                if len(self._tags) > 100_000:
                    self._tags.clear()
                self._tags[key] = (time.monotonic(), tag_now)
            return tag_now

    def manifest(self, source: ImagePlace, reference: str) -> Manifest | None:
        """Return the manifest of a tag or digest, from the nearest registry that has it whole; None: there is none.

        Raises Away.
        """
        if ":" in reference:
            return self._by_digest(source, Digest.parse(reference), None)
        tag = self.resolve(source, reference)
        if tag is None:
            return None
        found = self.places.find(source, reference, tag.digest)
        if found.missing and not tag.known_only:
            self._nudges.wanted(found.missing, source[1], reference, str(tag.digest))
        return self._by_digest(source, tag.digest, found)

    def member(self, source: ImagePlace, digest: Digest) -> Member | None:
        """Return what a digest is in a repository; None where no manifest of it names it.

        A gateway that has not served the manifest itself looks through the newest ones of the repository.
        """
        found = self._memory.member(source, digest)
        if found is not None:
            return found
        with self._alone(("search", source)):
            found = self._memory.member(source, digest)
            if found is None and self._may_search(source):
                self._search(source, digest)
                found = self._memory.member(source, digest)
                if found is None:
                    self._searched[source].append(time.monotonic())
        return found

    def around(self, source: ImagePlace, member: Member | None) -> list[ImagePlace]:
        """Return where to ask for something of a repository, the best first."""
        return self.places.ordered(source, member.places if member else (), self._mapped(source))

    def tags(self, source: ImagePlace, last: str, count: int) -> tuple[list[str], bool] | None:
        """Return up to `count` tags after one, in their order, and whether there are more; None: no such repository.

        From the source; where it does not answer, those that are known.
        """
        try:
            return self._listed(source, last, count)
        except NotFound:
            return None
        except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
            self.passed_over(source[0], error)
        known = set(self._memory.tags(source))
        with suppress(StoreUnavailable):
            known.update(self._gate.ask(lambda: self._pulled.tags(*source)))
        if not known:
            raise Away(f"{source[0]} does not answer, and no tag of {source[1]} is known")
        ordered = sorted(name for name in known if name > last)
        return ordered[:count], len(ordered) > count

    def _listed(self, source: ImagePlace, last: str, count: int) -> tuple[list[str], bool]:
        """List a page at the source; some registries neither page nor sort: that is done here."""
        names: set[str] = set()
        pages = self._clients.get(source[0]).list_tags(
            source[1], page_size=min(count + 1, 1000), last=last or None
        )
        for page in pages:
            names.update(name for name in page.tags if name > last)
            if len(names) > count and page.next is not None:
                break
        ordered = sorted(names)
        return ordered[:count], len(ordered) > count

    def referrers(self, source: ImagePlace, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what is attached to a digest: as the first registry says that answers, the source first."""
        member = self._memory.member(source, digest)
        order = [source, *(place for place in self.around(source, member) if place != source)]
        answered = False
        for registry, repository in order:
            try:
                return self._attached(registry, repository, digest)
            except NotFound:
                answered = True
            except TransshipError as error:
                self.passed_over(registry, error)
        if not answered:
            raise Away(f"no registry answers for what is attached to {digest}")
        return ()

    def _attached(self, registry: str, repository: str, digest: Digest) -> tuple[Descriptor, ...]:
        client = self._clients.get(registry)
        listed = client.referrers(repository, digest)
        if listed is None:  # no such API there: the tag that stands for it
            return client.get_manifest(repository, digest_tag(digest)).manifests
        return listed

    def _mapped(self, source: ImagePlace) -> tuple[ImagePlace, ...]:
        """Return where images of a repository were ever copied to: asked last, for what SQL does not call whole."""
        kept = self._mappings.get(source)
        lasting = MAPPED_SECONDS if kept and kept[1] else UNMAPPED_SECONDS
        if kept is not None and time.monotonic() - kept[0] < lasting:
            return kept[1]
        key = f"mapped:{source[0]}/{source[1]}"
        try:
            everywhere = self._gate.ask(lambda: self._pulled.mapped(*source))
            found = tuple(place for place in everywhere if self.places.may_read(place[0]))
            if kept is None or kept[1] != found:
                self._memory.remember_fact(key, json.dumps(found).encode())
        except StoreUnavailable:
            value = self._memory.fact(key)
            found = kept[1] if kept else ()
            if not found and value is not None:
                found = tuple((name, repository) for name, repository in json.loads(value))
        with self._lock:
            if len(self._mappings) > 10_000:
                self._mappings.clear()
            self._mappings[source] = (time.monotonic(), found)
        return found

    def passed_over(self, registry: str, error: TransshipError) -> None:
        """Count a registry that did not give what it should have, and leave it alone for a while if it is away."""
        known = isinstance(error, RegistryError)
        self._figures.passed_over.labels(registry, error.failure_class).inc()
        if known and not isinstance(error, NotFound | Corrupt | AuthenticationFailed | Denied):
            self.places.pauses.failed(registry)
        log.warning("registry_passed_over", registry=registry, reason=str(error)[:300])

    def _by_digest(
        self, source: ImagePlace, digest: Digest, found: Found | None
    ) -> Manifest | None:
        member = self._memory.member(source, digest)
        if member is not None and member.is_manifest:
            kept = self._memory.manifest(digest)
            if kept is not None:
                if found is not None and found.known and found.whole != _others(member, source):
                    self._learn(source, kept, found)
                return kept
        with self._alone((source, digest)):
            member = self._memory.member(source, digest)
            kept = self._memory.manifest(digest) if member and member.is_manifest else None
            if kept is not None:
                return kept
            if found is None:
                found = self._found(source, digest, member)
            return self._fetched(source, digest, found)

    def _found(self, source: ImagePlace, digest: Digest, member: Member | None) -> Found:
        """Return where something may be that was asked for by its digest."""
        if member is not None and member.places:
            return Found(_others(member, source))
        try:
            copied = self._gate.ask(lambda: self._pulled.copied(*source, str(digest)))
        except StoreUnavailable:
            copied = ()
        found = self.places.find(source, str(digest), digest)
        return Found(tuple(dict.fromkeys((*copied, *found.whole))), found.perhaps, (), found.known)

    def _fetched(self, source: ImagePlace, digest: Digest, found: Found) -> Manifest | None:
        absent = False
        perhaps = (*found.perhaps, *self._mapped(source))
        for place in self.places.ordered(source, found.whole, perhaps):
            try:
                manifest = self.pulls(place[0]).manifest(place[1], digest)
            except NotFound:
                absent = absent or place == source
                continue
            except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
                self.passed_over(place[0], error)
                continue
            self.places.pauses.answered(place[0])
            self._learn(source, manifest, found)
            return manifest
        if absent:
            return None
        raise Away(f"no registry that has {digest} answers")

    def _learn(self, source: ImagePlace, manifest: Manifest, found: Found) -> None:
        places = found.whole or found.perhaps
        self._memory.remember_manifest(source, manifest, places)

    def _asked_tag(self, source: ImagePlace, tag: str) -> Tag | None:
        known = self._memory.tag(source, tag)
        if known is not None and self._sources.holds(source[0]):
            return Tag(known[0], known_only=True)
        try:
            digest = self.pulls(source[0]).resolve(source[1], tag)
        except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
            self._sources.failed(source[0])
            self.passed_over(source[0], error)
            return self._known_tag(source, tag, error)
        self._sources.answered(source[0])
        self.places.pauses.answered(source[0])
        if digest is None:
            self._memory.forget_tag(source, tag)
            return None
        self._memory.remember_tag(source, tag, digest)
        return Tag(digest)

    def _known_tag(self, source: ImagePlace, tag: str, why: TransshipError) -> Tag | None:
        """Return what a tag was last, where its source does not say what it is."""
        known = self._memory.tag(source, tag)
        if known is not None:
            return Tag(known[0], known_only=True)
        with suppress(StoreUnavailable):
            last = self._gate.ask(lambda: self._pulled.last_digest(*source, tag))
            if last:
                return Tag(Digest.parse(last), known_only=True)
        if is_digest_tag(
            tag
        ):  # a signature and the like: it is attached to what its name says, wherever that is
            for registry, repository in self._mapped(source):
                with suppress(RegistryError, NotFoundInStore, StoreUnavailable):
                    digest = self.pulls(registry).resolve(repository, tag)
                    if digest is not None:
                        return Tag(digest, known_only=True)
        if isinstance(why, Denied | AuthenticationFailed):
            return None  # how some registries say that there is no such repository
        raise Away(f"{source[0]} does not answer, and nothing is known of the tag")

    def _fresh_tag(self, key: tuple[ImagePlace, str]) -> tuple[float, Tag | None] | None:
        kept = self._tags.get(key)
        if kept is None:
            return None
        old = kept[1] is not None and kept[1].known_only
        age = time.monotonic() - kept[0]
        return kept if age < (OLD_SECONDS if old else TAG_SECONDS) else None

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
            if self._memory.member(source, wanted) is not None:
                return

    def _newest(self, source: ImagePlace) -> Iterator[str]:
        with suppress(StoreUnavailable):
            yield from self._gate.ask(lambda: self._pulled.digests(*source, SEARCHED))
        try:
            for page in self._clients.get(source[0]).list_tags(source[1]):
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

    @contextmanager
    def _alone(self, key: object) -> Iterator[None]:
        """Let one thread find out what several want to know."""
        with self._lock:
            flight, users = self._flights.setdefault(key, (threading.Lock(), [0]))
            users[0] += 1
        try:
            with flight:
                yield
        finally:
            with self._lock:
                users[0] -= 1
                if not users[0]:
                    self._flights.pop(key, None)


def _others(member: Member, source: ImagePlace) -> tuple[ImagePlace, ...]:
    return tuple(place for place in member.places if place != source)
