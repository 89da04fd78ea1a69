"""What references of the source are: read by digest, once, for rules that look at more than names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from service.errors import InvalidInput, RegistryError, Rejected
from service.model.content import (
    CREATED,
    IMAGE,
    UNKNOWN,
    Facts,
    PlatformFilter,
    facts_of_config,
    parse_time,
    platforms_of,
    types_of,
)
from service.model.manifest import Manifest
from service.model.media_types import MANIFEST_TYPES
from service.model.newest import Newest as Kept
from service.model.newest import by_version, creation_order, version_order
from service.model.rule import Newest, Selection, SyncRule
from service.registry.client import RegistryClient
from service.replication.clients import Meter
from service.replication.compare import Ask
from service.store.facts import FactStore
from service.telemetry import get_logger

MAX_CONFIG_BYTES = 4 << 20
OTHER_PLATFORMS = "other platforms"

log = get_logger("content")


class ContentReader:
    """Reads facts about manifests from one source; what was read is kept in SQL by digest."""

    def __init__(
        self, source: RegistryClient, facts: FactStore, pool: ThreadPoolExecutor, meter: Meter
    ) -> None:
        self._source = source
        self._facts = facts
        self._pool = pool
        self._meter = meter

    def misfit(self, selection: Selection, repository: str, digest: str) -> str | None:
        """Return what a manifest is when an entry's types and platforms do not take it, else None.

        Raises RegistryError and InvalidInput as reading it does.
        """
        known = self._facts.get([digest]).get(digest)
        facts = known or self._shallow(repository, digest)
        if selection.types and not set(selection.types) & set(facts.types):
            return facts.word
        if selection.platforms and facts.types[0] == IMAGE:
            if not facts.index and not facts.deep:
                facts = self._deep(repository, digest)
            wanted = PlatformFilter(selection.platforms)
            if facts.platforms and not wanted.takes_any(facts.platforms):
                return OTHER_PLATFORMS
        return None

    def digests(self, repository: str, tags: Iterable[str]) -> dict[str, str]:
        """Return what tags name, many at once; those that are gone, or that are none, are left out.

        Raises RegistryError for what may be read later: a choice without it would be another one.
        """
        into = self._meter.into()

        def head(tag: str) -> tuple[str, str]:
            with self._meter.collect(into):
                try:
                    found = self._source.head_manifest(repository, tag)
                except (RegistryError, InvalidInput) as error:
                    if error.retryable:
                        raise
                    log.warning("tag_unread", repository=repository, tag=tag, reason=error.message)
                    found = None
            return tag, "" if found is None else str(found.digest)

        return {tag: digest for tag, digest in self._pool.map(head, tags) if digest}

    def created(self, repository: str, digests: Iterable[str]) -> dict[str, float | None]:
        """Return creation times by digest, None for what tells none, many at once."""
        wanted = list(dict.fromkeys(digests))
        into = self._meter.into()
        known = self._facts.get(wanted)
        missing = [
            digest
            for digest in wanted
            if digest not in known or (known[digest].created is None and not known[digest].deep)
        ]

        def read(digest: str) -> tuple[str, float | None]:
            with self._meter.collect(into):
                try:
                    return digest, self._created(repository, digest)
                except (RegistryError, InvalidInput) as error:
                    if error.retryable:
                        raise
                    return digest, None

        times = {digest: facts.created for digest, facts in known.items()}
        times.update(self._pool.map(read, missing))
        return times

    # ---- reading ---------------------------------------------------------------------------------

    def _created(self, repository: str, digest: str) -> float | None:
        facts = self._shallow(repository, digest)
        if facts.created is None:
            facts = self._deep(repository, digest)
        return facts.created

    def _shallow(self, repository: str, digest: str) -> Facts:
        return self._keep(digest, _told(self._source.get_manifest(repository, digest)))

    def _deep(self, repository: str, digest: str) -> Facts:
        manifest = self._source.get_manifest(repository, digest)
        facts = _told(manifest)
        if manifest.kind == "index":
            created = facts.created or self._first_created(repository, manifest)
            platforms = facts.platforms
        elif facts.types[0] == IMAGE:
            platform, created = self._config(repository, manifest)
            created = facts.created or created
            platforms = (platform or UNKNOWN,)
        else:
            created, platforms = facts.created, ()
        return self._keep(digest, Facts(facts.types, facts.index, platforms, created, deep=True))

    def _first_created(self, repository: str, index: Manifest) -> float | None:
        """Return the time of the first image of an index: all of them are of one build."""
        for entry in index.children():
            if entry.media_type in MANIFEST_TYPES and not (
                entry.platform is not None and entry.platform.unknown
            ):
                child = self._source.get_manifest(repository, str(entry.digest))
                told = parse_time(child.annotations.get(CREATED))
                return told or (
                    None if child.kind == "index" else self._config(repository, child)[1]
                )
        return None

    def _config(self, repository: str, manifest: Manifest) -> tuple[str | None, float | None]:
        config = manifest.config
        if config is None:
            return None, None
        try:
            raw = self._source.read_blob(repository, config.digest, config.size, MAX_CONFIG_BYTES)
        except Rejected:
            return None, None  # no config of an image is that large
        platform, created = facts_of_config(raw)
        return platform, parse_time(created)

    def _keep(self, digest: str, facts: Facts) -> Facts:
        self._facts.put({digest: facts})
        return facts


def _told(manifest: Manifest) -> Facts:
    """Return what a manifest itself tells."""
    index = manifest.kind == "index"
    return Facts(
        types_of(manifest),
        index,
        platforms_of(manifest) if index else (),
        parse_time(manifest.annotations.get(CREATED)),
    )


class Choice:
    """Which tags of one repository each entry keeps, when all were shown."""

    def __init__(
        self,
        rule: SyncRule,
        repository: str,
        newest: Mapping[int, Newest],
        content: ContentReader | None,
    ) -> None:
        self._rule = rule
        self._repository = repository
        self._newest = newest
        self._reader = content
        self._kept = {entry: Kept(wish.count) for entry, wish in newest.items()}
        self._versions: dict[int, list[str]] = {}

    def show(self, asks: Iterable[Ask]) -> None:
        """Show some of the repository's references."""
        page = [ask for ask in asks if ":" not in ask.reference]
        for entry, wish in self._newest.items():
            tags = [ask.reference for ask in page if entry in ask.entries]
            if wish.by == "created":
                self._show_created(entry, tags)
            elif self._conditional(entry):
                self._versions.setdefault(entry, []).extend(
                    tag for tag in tags if version_order(tag) is not None
                )
            else:
                for tag in tags:
                    order = version_order(tag)
                    if order is not None:
                        self._kept[entry].add(order, tag)

    def chosen(self) -> dict[int, frozenset[str]]:
        """Return what each entry keeps."""
        for entry, tags in self._versions.items():
            self._take_versions(entry, tags)
        return {entry: kept.tags() for entry, kept in self._kept.items()}

    def _show_created(self, entry: int, tags: list[str]) -> None:
        content = self._content()
        digests = content.digests(self._repository, tags)
        times = content.created(self._repository, digests.values())
        for tag, digest in digests.items():
            if not self._conditional(entry) or self._fits(entry, digest):
                self._kept[entry].add(creation_order(times.get(digest)), tag)

    def _take_versions(self, entry: int, tags: list[str]) -> None:
        """Look at versions from the newest on until there are enough whose content fits."""
        count, taken = self._newest[entry].count, 0
        for tag in by_version(tags):
            if taken == count:
                return
            digest = self._content().digests(self._repository, [tag]).get(tag)
            if digest is not None and self._fits(entry, digest):
                self._kept[entry].add(version_order(tag), tag)
                taken += 1

    def _fits(self, entry: int, digest: str) -> bool:
        selection = self._rule.select[entry]
        try:
            return self._content().misfit(selection, self._repository, digest) is None
        except (RegistryError, InvalidInput) as error:
            if error.retryable:
                raise
            return False

    def _conditional(self, entry: int) -> bool:
        selection = self._rule.select[entry]
        return bool(selection.types or selection.platforms)

    def _content(self) -> ContentReader:
        if self._reader is None:
            raise TypeError("this rule needs a ContentReader")
        return self._reader
