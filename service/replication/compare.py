"""Compare: what differs at the destinations. Two HEADs a tag, many at once; an equal tag leaves no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from service.errors import InvalidInput, RegistryError, TransshipError
from service.model.reference import is_digest_tag
from service.model.states import CopyState
from service.model.work import Selected
from service.registry.client import RegistryClient
from service.replication.clients import Clients, Meter
from service.replication.conflict import HINT, KEEP, OVERWRITE, kept, refused


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source reference and one name that it is to have at one destination."""

    source_repository: str
    source_reference: str
    registry: str
    repository: str
    reference: str


@dataclass(frozen=True, slots=True)
class InPlace:
    """A name at a destination that holds what the source has under it."""

    registry: str
    repository: str
    digest: str


@dataclass(slots=True)
class Comparison:
    """What came out of a page: copies to make, and what is in place already."""

    selected: list[Selected] = field(default_factory=list)
    missing: list[tuple[str, str, str]] = field(default_factory=list)
    in_place: list[InPlace] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)

    def unchanged(self) -> Counter[str]:
        """Count what is in place by destination registry."""
        return Counter(found.registry for found in self.in_place)


class Comparer:
    """HEADs sources and destinations on a pool of threads."""

    def __init__(
        self,
        clients: Clients,
        meter: Meter,
        pool: ThreadPoolExecutor,
        region_of: Callable[[str], str],
        *,
        clean: bool,
        on_conflict: str = OVERWRITE,
        asked: bool = False,
    ) -> None:
        """`clean`: no earlier run was broken off, so what has no tag there has no blobs there either.

        `asked`: the references come from events or an earlier run, so one that is gone is no failure.
        """
        self._on_conflict = on_conflict
        self._asked = asked
        self._clients = clients
        self._meter = meter
        self._pool = pool
        self._region_of = region_of
        self._clean = clean

    def compare(self, source: str, page: Sequence[Wanted], *, listed: bool) -> Comparison:
        """Compare one page. What cannot be read of one reference is a row that says so."""
        result = Comparison()
        by_source: dict[tuple[str, str], list[Wanted]] = {}
        for wanted in page:
            by_source.setdefault((wanted.source_repository, wanted.source_reference), []).append(
                wanted
            )

        def look(group: list[Wanted]) -> list[Selected | InPlace | None]:
            with self._meter.collect(result.requests):
                return self._group(source, group, listed=listed)

        for outcome in self._pool.map(look, by_source.values()):
            for item in outcome:
                if item is None:
                    continue
                if isinstance(item, InPlace):
                    result.in_place.append(item)
                    continue
                result.selected.append(item)
                if item.absent:
                    result.missing.append(
                        (
                            item.destination_registry,
                            item.destination_repository,
                            item.destination_reference,
                        )
                    )
        return result

    def _group(
        self, source: str, group: list[Wanted], *, listed: bool
    ) -> list[Selected | InPlace | None]:
        """Compare one source reference with all of its destinations; None: nothing to do with it."""
        first = group[0]
        reference = first.source_reference
        client = self._clients.get(source)
        if reference.startswith("sha") and ":" in reference:
            digest = reference
        else:
            try:
                head = client.head_manifest(first.source_repository, reference)
            except (RegistryError, InvalidInput) as error:
                return [self._unread(wanted, error, listed=listed) for wanted in group]
            if head is None:
                return [self._gone(wanted, listed=listed) for wanted in group]
            digest = str(head.digest)
        return [self._one(wanted, digest, listed=listed) for wanted in group]

    def _one(self, wanted: Wanted, digest: str, *, listed: bool) -> Selected | InPlace | None:
        try:
            destination = self._clients.get(wanted.registry)
            try:
                there = destination.head_manifest(wanted.repository, wanted.reference)
            except InvalidInput:
                return self._row(
                    wanted, digest, listed=listed
                )  # what is there is no image: replace it
            if there is not None and str(there.digest) == digest:
                return InPlace(wanted.registry, wanted.repository, digest)
            if _follows(wanted, listed=listed) and not self._subject_is_there(destination, wanted):
                return None  # its image's own copy brings it, or nobody wants that image
        except RegistryError as error:
            if _follows(wanted, listed=listed):
                return None  # whether anybody wants it cannot be seen; its image's copy will say
            if error.retryable:  # the copy itself will try again, and say so if it cannot
                return self._row(wanted, digest, listed=listed)
            return self._row(
                wanted,
                digest,
                listed=listed,
                state=CopyState.FAILED,
                failure_class=error.failure_class,
                reason=told(error, wanted.registry),
                hint=error.hint,
            )
        if there is not None and self._on_conflict != OVERWRITE and not _is_referrer(wanted):
            return self._conflict(wanted, digest, str(there.digest), listed=listed)
        return self._row(wanted, digest, listed=listed, absent=there is None)

    def _conflict(self, wanted: Wanted, digest: str, found: str, *, listed: bool) -> Selected:
        """Return the row of a name that is taken, by a rule that does not overwrite."""
        name = f"{wanted.repository}:{wanted.reference}"
        if self._on_conflict == KEEP:
            return self._row(
                wanted, digest, listed=listed, state=CopyState.SKIPPED, reason=kept(name, found)
            )
        return self._row(
            wanted,
            digest,
            listed=listed,
            state=CopyState.FAILED,
            failure_class="conflict",
            reason=refused(name, found),
            hint=HINT,
        )

    def _unread(self, wanted: Wanted, error: TransshipError, *, listed: bool) -> Selected | None:
        """Leave a source reference that cannot be read to its copy, or fail it when that is for good."""
        if _follows(wanted, listed=listed):
            try:
                if not self._subject_is_there(self._clients.get(wanted.registry), wanted):
                    return None
            except RegistryError:
                return None
        if error.retryable:  # without a digest: the copy reads the tag itself
            return self._row(wanted, "", listed=listed)
        return self.failed(wanted, error)

    def failed(self, wanted: Wanted, error: TransshipError) -> Selected:
        """Return the row of what cannot be copied for what its source, or its name, is like."""
        return self._row(
            wanted,
            "",
            listed=False,
            state=CopyState.FAILED,
            failure_class=error.failure_class,
            reason=told(error, ""),
            hint=error.hint,
        )

    def _gone(self, wanted: Wanted, *, listed: bool) -> Selected:
        """Skip a tag that vanished after it was listed; fail one that the rule names and that is not there."""
        if listed or self._asked:
            return self._row(wanted, "", listed=listed, state=CopyState.SKIPPED, reason=GONE)
        return self._row(
            wanted,
            "",
            listed=False,
            state=CopyState.FAILED,
            failure_class="gone",
            reason=f"the source has no {wanted.source_repository}:{wanted.source_reference}",
            hint="check the repository and the tag; the registry may also hide what is private",
        )

    def _subject_is_there(self, destination: RegistryClient, wanted: Wanted) -> bool:
        subject = subject_of(wanted.source_reference)
        try:
            return destination.head_manifest(wanted.repository, subject) is not None
        except InvalidInput:
            return False  # cut digests, as of sha512, name nothing; their image's copy brings them

    def _row(
        self,
        wanted: Wanted,
        digest: str,
        *,
        listed: bool,
        absent: bool = False,
        state: CopyState = CopyState.PENDING,
        failure_class: str = "",
        reason: str = "",
        hint: str = "",
    ) -> Selected:
        return Selected(
            source_repository=wanted.source_repository,
            source_reference=wanted.source_reference,
            destination_registry=wanted.registry,
            destination_repository=wanted.repository,
            destination_reference=wanted.reference,
            digest=digest,
            region=self._region_of(wanted.registry),
            absent=absent,
            fresh=absent and self._clean,
            listed=listed,
            state=state,
            failure_class=failure_class,
            reason=reason,
            hint=hint,
        )


GONE = "the source no longer has this tag"


def told(error: TransshipError, registry: str) -> str:
    """Return the error's message, a registry's with the name of that registry in front."""
    if not isinstance(error, RegistryError):
        return error.message
    name = error.registry or registry
    return error.message if error.message.startswith(name) else f"{name}: {error.message}"


def subject_of(tag: str) -> str:
    """Return the digest of the image that a referrer or cosign tag belongs to."""
    algorithm, _, rest = tag.partition("-")
    return f"{algorithm}:{rest.partition('.')[0]}"


def _is_referrer(wanted: Wanted) -> bool:
    return is_digest_tag(wanted.reference)


def _follows(wanted: Wanted, *, listed: bool) -> bool:
    return listed and is_digest_tag(wanted.source_reference)


def split_digest_tags(tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return ordinary tags, and referrer and cosign tags, which follow their image."""
    ordinary: list[str] = []
    digest_tags: list[str] = []
    for tag in tags:
        (digest_tags if is_digest_tag(tag) else ordinary).append(tag)
    return ordinary, digest_tags
