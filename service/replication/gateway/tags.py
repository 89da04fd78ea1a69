"""Tags behind a gateway's names: what their source says they are, and what they were last where it does not answer."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from service.errors import (
    AuthenticationFailed,
    Denied,
    InvalidDigest,
    NotFound,
    NotFoundInStore,
    RegistryError,
    StoreUnavailable,
    TransshipError,
)
from service.model.digest import Digest
from service.model.gateway import ImagePlace
from service.model.reference import is_digest_tag
from service.replication.gateway.places import Pauses
from service.replication.gateway.reading import Away, Reading

TAG_SECONDS = 1.0
"""So long what a tag is stays without another question to its source: many pulls of one moment ask it once."""

OLD_SECONDS = 5.0
"""So long a tag's last known digest is served without asking a source again that did not answer."""


@dataclass(frozen=True, slots=True)
class Tag:
    """What a tag is; `known_only`: its source did not say so just now."""

    digest: Digest
    known_only: bool = False


class Tags:
    """Thread-safe; one a process."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._kept: dict[tuple[ImagePlace, str], tuple[float, Tag | None]] = {}
        self._sources = Pauses()  # those that did not say lately what a tag is
        self._lock = threading.Lock()

    def resolve(self, source: ImagePlace, tag: str) -> Tag | None:
        """Return what a tag is: as its source says; as was last known where that does not answer; None: there is none.

        Raises Away where the source does not answer, and nothing is known.
        """
        key = (source, tag)
        found = self._fresh(key)
        if found is not None:
            return found[1]
        with self._reading.alone(key):
            found = self._fresh(key)
            if found is not None:
                return found[1]
            tag_now = self._asked(source, tag)
            with self._lock:
                if len(self._kept) > 100_000:
                    self._kept.clear()
                self._kept[key] = (time.monotonic(), tag_now)
            return tag_now

    def page(self, source: ImagePlace, last: str, count: int) -> tuple[list[str], bool] | None:
        """Return up to `count` tags after one, in their order, and whether there are more; None: no such repository.

        From the source; where it does not answer, those that are known.
        """
        try:
            return self._listed(source, last, count)
        except NotFound:
            return None
        except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
            self._reading.passed_over(source[0], error)
        known = set(self._reading.memory.tags(source))
        with suppress(StoreUnavailable):
            known.update(self._reading.gate.ask(lambda: self._reading.pulled.tags(*source)))
        if not known:
            raise Away(f"{source[0]} does not answer, and no tag of {source[1]} is known")
        ordered = sorted(name for name in known if name > last)
        return ordered[:count], len(ordered) > count

    def _listed(self, source: ImagePlace, last: str, count: int) -> tuple[list[str], bool]:
        """List a page at the source; some registries neither page nor sort: that is done here."""
        names: set[str] = set()
        pages = self._reading.clients.get(source[0]).list_tags(
            source[1], page_size=min(count + 1, 1000), last=last or None
        )
        for page in pages:
            names.update(name for name in page.tags if name > last)
            if len(names) > count and page.next is not None:
                break
        ordered = sorted(names)
        return ordered[:count], len(ordered) > count

    def _asked(self, source: ImagePlace, tag: str) -> Tag | None:
        known = self._reading.memory.tag(source, tag)
        if known is not None and self._sources.holds(source[0]):
            return Tag(known[0], known_only=True)
        try:
            digest = self._reading.pulls(source[0]).resolve(source[1], tag)
        except (RegistryError, NotFoundInStore, StoreUnavailable) as error:
            self._sources.failed(source[0])
            self._reading.passed_over(source[0], error)
            return self._known(source, tag, error)
        self._sources.answered(source[0])
        self._reading.places.pauses.answered(source[0])
        if digest is None:
            self._reading.memory.forget_tag(source, tag)
            return None
        self._reading.memory.remember_tag(source, tag, digest)
        return Tag(digest)

    def _known(self, source: ImagePlace, tag: str, why: TransshipError) -> Tag | None:
        """Return what a tag was last, where its source does not say what it is."""
        known = self._reading.memory.tag(source, tag)
        if known is not None:
            return Tag(known[0], known_only=True)
        with suppress(StoreUnavailable):
            last = self._reading.gate.ask(lambda: self._reading.pulled.last_digest(*source, tag))
            if last:
                return Tag(Digest.parse(last), known_only=True)
        attached = self._attached(source, tag)
        if attached is not None:
            return Tag(attached, known_only=True)
        if isinstance(why, Denied | AuthenticationFailed):
            return None  # how some registries say that there is no such repository
        raise Away(f"{source[0]} does not answer, and nothing is known of the tag")

    def _attached(self, source: ImagePlace, tag: str) -> Digest | None:
        """Find a signature and the like where the image went that its tag names, if that is one of the repository."""
        if not is_digest_tag(tag):
            return None
        try:
            subject = Digest.parse(tag.partition(".")[0].replace("-", ":", 1))
        except InvalidDigest:
            return None  # of a sha512 that was cut: it cannot be told whose it is
        if not self._reading.belongs(source, subject):
            return None
        for registry, repository in self._reading.mapped(source):
            with suppress(RegistryError, NotFoundInStore, StoreUnavailable):
                digest = self._reading.pulls(registry).resolve(repository, tag)
                if digest is not None:
                    return digest
        return None

    def _fresh(self, key: tuple[ImagePlace, str]) -> tuple[float, Tag | None] | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        old = kept[1] is not None and kept[1].known_only
        age = time.monotonic() - kept[0]
        return kept if age < (OLD_SECONDS if old else TAG_SECONDS) else None
