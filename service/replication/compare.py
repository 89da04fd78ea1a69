"""Compare: what differs at the destinations. Two HEADs a tag at most, many at once; an equal tag leaves no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import InvalidInput, RegistryError, TransshipError
from service.model.reference import is_digest_tag
from service.model.states import CopyState
from service.model.work import Selected
from service.registry.client import RegistryClient
from service.replication.clients import Clients, Meter
from service.replication.conflict import HINT, KEEP, OVERWRITE, kept, refused
from service.replication.destination_tags import DestinationTags
from service.replication.listed_digests import ListedDigests


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source reference and one name that it is to have at one destination."""

    source_repository: str
    source_reference: str
    registry: str
    repository: str
    reference: str
    entry: int = 0  # of the rule's select, that takes it


@dataclass(frozen=True, slots=True)
class Ask:
    """A source reference, and the entries of the rule that its names suit, the first one first."""

    repository: str
    reference: str
    entries: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A name at a destination that cannot be, and why; `wanted` has a name that tells it apart."""

    wanted: Wanted
    error: InvalidInput
    waits: bool = False  # for the digest, which a template holds


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A source reference that no entry takes for what it is; `kind` says what that is."""

    kind: str


class Namer(Protocol):
    """Which entry takes a reference, and what it is to be called."""

    def conditional(self, entry: int) -> bool:
        """Whether an entry looks at what a reference is, besides its names."""

    def decide(self, ask: Ask, digest: str) -> int | LeftOut:
        """Return the first entry that takes what the digest names; raises as reading it does."""

    def names_at(self, ask: Ask, entry: int, digest: str | None) -> list[Wanted | Unnamed]:
        """Return a name at every destination; without a digest, none where the name needs it."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """A name at a destination that holds what the source has under it."""

    wanted: Wanted
    digest: str

    @property
    def registry(self) -> str:
        """The destination."""
        return self.wanted.registry

    @property
    def repository(self) -> str:
        """The repository there."""
        return self.wanted.repository


@dataclass(frozen=True, slots=True)
class There:
    """What a destination has under a name; neither present nor an error: nothing."""

    present: bool = False
    digest: str = ""  # "" where what is there is no image
    error: RegistryError | None = None


NOTHING = There()

Found = Selected | InPlace | LeftOut | None


@dataclass(slots=True)
class Comparison:
    """What came out of a page: copies to make, and what is in place already."""

    selected: list[Selected] = field(default_factory=list)
    missing: list[tuple[str, str, str]] = field(default_factory=list)
    in_place: list[InPlace] = field(default_factory=list)
    followers: list[InPlace] = field(default_factory=list)  # referrer and cosign tags in place
    left_out: Counter[str] = field(default_factory=Counter)
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
        repair: Collection[tuple[str, str, str]] | None = None,
        tags: DestinationTags | None = None,
        digests: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`clean`: no earlier run was broken off, so what has no tag there has no blobs there either.

        `asked`: the references come from events or an earlier run, so one that is gone is no failure.
        `repair`: names at destinations (registry, repository, reference) that are copied again though
        they are in place by their digest, since something behind them is lost.
        `tags`: what is known of destinations without asking for each tag; None: each is asked for.
        `digests`: every copy is to say what it copies. Else one of a tag that was listed or asked
        for, and that its only destination lacks, says nothing: whoever carries it out reads the tag.
        `check` is called before each reference, and raises Cancelled when nobody wants to know any more.
        """
        self._check = check
        self._tags = tags
        self._digests = digests
        self._repair = repair
        self._on_conflict = on_conflict
        self._asked = asked
        self._clients = clients
        self._meter = meter
        self._listed = ListedDigests(clients.get)
        self._pool = pool
        self._region_of = region_of
        self._clean = clean

    def compare(
        self, source: str, page: Sequence[Ask], names: Namer, *, listed: bool
    ) -> Comparison:
        """Compare one page. What cannot be read of one reference is a row that says so."""
        named = [names.names_at(ask, ask.entries[0], None) for ask in page]

        def look(position: int) -> list[Found]:
            self._check()
            with self._meter.collect(result.requests):
                return self._ask(source, page[position], named[position], names, listed=listed)

        result = Comparison()
        with self._meter.collect(result.requests):
            if not self._asked:  # what an event tells of may be newer than a list
                self._listed.expect((source, ask.repository, ask.reference) for ask in page)
            self._listed.expect(place for names in named for place in _places_of(names))
        outcomes: dict[int, list[Found]] = {}
        first = set() if self._tags is None else self._tags.expect(map(_places_of, named))
        for some in (sorted(first), [one for one in range(len(page)) if one not in first]):
            outcomes.update(zip(some, self._pool.map(look, some), strict=True))
        self._gather(result, (outcomes[position] for position in range(len(page))))
        return result

    def compare_names(self, source: str, page: Sequence[Wanted]) -> Comparison:
        """Compare references of a list whose names are settled: referrer and cosign tags."""
        by_source: dict[tuple[str, str], list[Wanted]] = {}
        for wanted in page:
            if self._tags is not None and self._tags.is_gone(wanted.registry, wanted.repository):
                continue  # so is the image that it belongs to: its own copy brings it
            by_source.setdefault((wanted.source_repository, wanted.source_reference), []).append(
                wanted
            )

        def look(group: list[Wanted]) -> list[Found]:
            self._check()
            with self._meter.collect(result.requests):
                return self._group(source, group)

        result = Comparison()
        self._gather(result, self._pool.map(look, by_source.values()))
        return result

    @staticmethod
    def _gather(result: Comparison, outcomes: Iterable[list[Found]]) -> None:
        for item in (item for outcome in outcomes for item in outcome):
            if isinstance(item, InPlace):
                result.in_place.append(item)
            elif isinstance(item, LeftOut):
                result.left_out[item.kind] += 1
            elif item is not None:
                result.selected.append(item)
                if item.absent:
                    result.missing.append(
                        (
                            item.destination_registry,
                            item.destination_repository,
                            item.destination_reference,
                        )
                    )

    def _ask(
        self,
        source: str,
        ask: Ask,
        named: list[Wanted | Unnamed],
        names: Namer,
        *,
        listed: bool,
    ) -> list[Found]:
        """Compare one source reference with all of its destinations; `named` as its first entry does.

        What it is, is looked at only when that decides something: where one entry alone could take
        it and all of its names are in place, nothing has to be read, and where its only destination
        lacks it, not even its digest has to be known.
        """
        entry = ask.entries[0]
        conditional = names.conditional(entry)
        there: There | None = None
        met = listed or self._asked  # that it is gone meanwhile is found out by its copy
        if met and not self._digests and not conditional and ":" not in ask.reference:
            wanted = named[0] if len(named) == 1 else None
            if isinstance(wanted, Wanted):
                there = self._look(wanted)
                if there == NOTHING:
                    return [self._row(wanted, "", listed=listed, absent=True)]
        if not conditional and all(isinstance(one, Unnamed) and not one.waits for one in named):
            return self._compared(named, "", listed=listed)
        digest = ask.reference
        if ":" not in ask.reference:
            try:
                digest = self._digest_at(source, ask.repository, ask.reference) or ""
            except (RegistryError, InvalidInput) as error:
                return self._unread_ask(named, error, listed=listed)
            if not digest:
                return [
                    self._gone(item.wanted if isinstance(item, Unnamed) else item, listed=listed)
                    for item in named
                ]
        if any(isinstance(item, Unnamed) and item.waits for item in named):
            named = names.names_at(ask, entry, digest)
        if not conditional:
            return self._compared(named, digest, listed=listed, there=there)
        found = self._compared(named, digest, listed=listed) if len(ask.entries) == 1 else []
        if found and all(isinstance(item, InPlace) for item in found):
            return found
        try:
            decided = names.decide(ask, digest)
        except (RegistryError, InvalidInput) as error:
            return self._unread_ask(named, error, listed=listed)
        if isinstance(decided, LeftOut):
            return [decided]
        return found or self._compared(names.names_at(ask, decided, digest), digest, listed=listed)

    def _compared(
        self,
        named: list[Wanted | Unnamed],
        digest: str,
        *,
        listed: bool,
        there: There | None = None,
    ) -> list[Found]:
        """Compare a digest with what its names have; `there`: what its only one has, if that is known."""
        return [
            self.failed(item.wanted, item.error)
            if isinstance(item, Unnamed)
            else self._one(item, digest, there or self._look(item), listed=listed)
            for item in named
        ]

    def _unread_ask(
        self, named: list[Wanted | Unnamed], error: RegistryError | InvalidInput, *, listed: bool
    ) -> list[Found]:
        """Say of each name that its source cannot be read; what has no name cannot be left to a copy."""
        return [
            self.failed(item.wanted, error)
            if isinstance(item, Unnamed)
            else self._unread(item, error, listed=listed)
            for item in named
        ]

    def _group(self, source: str, group: list[Wanted]) -> list[Found]:
        """Compare one digest tag with all of its destinations; None: nothing to do with it.

        The source is asked only where a destination has the tag, or the image without it.
        """
        at = [(wanted, self._look(wanted)) for wanted in group]
        at = [(wanted, there) for wanted, there in at if self._is_wanted(wanted, there)]
        if not at:
            return []
        first = group[0]
        client = self._clients.get(source)
        try:
            head = client.head_manifest(first.source_repository, first.source_reference)
        except (RegistryError, InvalidInput) as error:
            return [self._unread(wanted, error, listed=True) for wanted, _ in at]
        if head is None:
            return [self._gone(wanted, listed=True) for wanted, _ in at]
        return [self._one(wanted, str(head.digest), there, listed=True) for wanted, there in at]

    def _is_wanted(self, wanted: Wanted, there: There) -> bool:
        """Whether a digest tag is to be compared: it is there, or its image is."""
        if there.present:
            return True
        try:
            return there.error is None and self._subject_is_there(
                self._clients.get(wanted.registry), wanted
            )
        except RegistryError:
            return False  # whether anybody wants it cannot be seen; its image's copy will say

    def _digest_at(self, registry: str, repository: str, reference: str) -> str | None:
        """Return what a tag points at: as its registry's list tells, else as it answers; None: nothing."""
        client = self._clients.get(registry)
        if told := self._listed.of(registry, repository, reference):
            return told
        head = client.head_manifest(repository, reference)
        return None if head is None else str(head.digest)

    def _look(self, wanted: Wanted) -> There:
        """Return what a destination has under a name: asked for, unless its listing lacks it."""
        registry, repository, reference = wanted.registry, wanted.repository, wanted.reference
        if self._tags is not None and self._tags.lacks(registry, repository, reference):
            return NOTHING
        try:
            destination = self._clients.get(registry)
            if destination.only_names(repository, reference):
                return NOTHING
            if told := self._listed.of(registry, repository, reference):
                return There(present=True, digest=told)
            head = destination.head_manifest(repository, reference)
        except InvalidInput:
            return There(present=True)
        except RegistryError as error:
            return There(error=error)
        if self._tags is not None:
            self._tags.saw(destination, repository, reference, there=head is not None)
        return NOTHING if head is None else There(present=True, digest=str(head.digest))

    def _one(
        self, wanted: Wanted, digest: str, there: There, *, listed: bool
    ) -> Selected | InPlace | None:
        if there.error is not None:
            return self._unseen(wanted, digest, there.error, listed=listed)
        if there.present and not there.digest:
            return self._row(wanted, digest, listed=listed)  # what is there is no image: replace it
        if there.digest == digest:
            name = (wanted.registry, wanted.repository, wanted.reference)
            if self._repair is not None and name in self._repair:
                return self._row(wanted, digest, listed=listed)
            return InPlace(wanted, digest)
        if there.present and self._on_conflict != OVERWRITE and not _is_referrer(wanted):
            return self._conflict(wanted, digest, there.digest, listed=listed)
        return self._row(
            wanted, digest, listed=listed, absent=not there.present, found=there.digest
        )

    def _unseen(
        self, wanted: Wanted, digest: str, error: RegistryError, *, listed: bool
    ) -> Selected:
        """Leave what a destination does not tell to the copy, or fail it when that is for good."""
        if error.retryable:  # the copy itself will try again, and say so if it cannot
            return self._unsure(wanted, digest, error, wanted.registry, listed=listed)
        return self._row(
            wanted,
            digest,
            listed=listed,
            state=CopyState.FAILED,
            failure_class=error.failure_class,
            reason=told(error, wanted.registry),
            hint=error.hint,
        )

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
            return self._unsure(wanted, "", error, "", listed=listed)
        return self.failed(wanted, error)

    def _unsure(
        self, wanted: Wanted, digest: str, error: TransshipError, registry: str, *, listed: bool
    ) -> Selected:
        """Return the copy of what could not be compared; it tells why until it has ended."""
        return self._row(
            wanted,
            digest,
            listed=listed,
            failure_class=error.failure_class,
            reason=told(error, registry),
        )

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

    def again(self, found: InPlace) -> Selected:
        """Return the copy of what is in place by its digest, and yet not whole."""
        return self._row(
            found.wanted,
            found.digest,
            listed=True,
            failure_class="hole",
            reason=f"{found.registry} lacks what lies behind its digest",
        )

    def _row(
        self,
        wanted: Wanted,
        digest: str,
        *,
        listed: bool,
        absent: bool = False,
        found: str = "",
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
            found=found,
            fresh=absent and self._clean,
            listed=listed,
            state=state,
            failure_class=failure_class,
            reason=reason,
            hint=hint,
            entry=wanted.entry,
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


def _places_of(named: Iterable[Wanted | Unnamed]) -> list[tuple[str, str, str]]:
    return [
        (one.registry, one.repository, one.reference) for one in named if isinstance(one, Wanted)
    ]


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
