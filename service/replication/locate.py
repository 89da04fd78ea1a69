"""Locate: where one image is whole, on its way, stale, holed or blocked, and why.

Answered from SQL alone, or proved by asking the registries: the tag, then a byte of every blob
behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from service.errors import InvalidInput, NotFoundInStore, RegistryError, TransshipError
from service.model.content import PlatformFilter
from service.model.digest import Digest
from service.model.endpoint import RegistryEndpoint
from service.model.manifest import Manifest
from service.model.project import Project
from service.model.rule import SyncRule
from service.model.selection import (
    RuleSelector,
    destination_registries,
    is_digest,
    members_of_groups,
)
from service.model.states import CopyState
from service.replication.clients import Clients
from service.replication.compare import told
from service.replication.walk import Children, holes
from service.store.locations import Known, LocationStore, Place
from service.store.registries import RegistryStore

PROVERS = 16
_BAD = (CopyState.FAILED, CopyState.SUPERSEDED, CopyState.SKIPPED, CopyState.STOPPED)


class LocationState(StrEnum):
    """What an image is at one registry."""

    SOURCE = "source"
    WHOLE = "whole"
    COPYING = "copying"
    STALE = "stale"
    HOLE = "hole"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
    NOT_WANTED = "not wanted"


@dataclass(frozen=True, slots=True)
class Location:
    """One registry's row. `proved`: the registry was asked just now."""

    registry: str
    state: LocationState
    why: str
    repository: str = ""
    reference: str = ""
    digest: str = ""
    rule: str = ""
    proved: bool = False


@dataclass(frozen=True, slots=True)
class _Wish:
    """A name that a rule wants an image to have at a registry."""

    rule: SyncRule
    paused: bool
    place: Place
    entry: int
    source: str


class Locator:
    """Answers for one reference at every registry."""

    def __init__(
        self, registries: RegistryStore, locations: LocationStore, clients: Clients
    ) -> None:
        self._registries = registries
        self._locations = locations
        self._clients = clients

    def locate(
        self,
        repository: str,
        reference: str,
        *,
        source: str | None = None,
        digest: str = "",
        prove: bool = False,
        only: Collection[str] | None = None,
        project: Project | None = None,
    ) -> list[Location]:
        """Return one row a registry, by name; with several names there, the worst.

        `source` confines to rules of one source. `digest` is what is to be there; without it, what
        the source has (`prove`) or was last seen with. `only` names the registries to look at, and
        `project` whose rules to go by, and what may be looked at. Raises NotFoundInStore for a registry that is not there.
        """
        endpoints = {stored.endpoint.name: stored for stored in self._registries.list(limit=10_000)}
        for name in {source} - {None} | set(only or ()):
            if name not in endpoints:
                raise NotFoundInStore(f"there is no registry named {name}")
        plain = {name: stored.endpoint for name, stored in endpoints.items()}
        paused = {name for name, stored in endpoints.items() if stored.paused_at is not None}
        wishes = [
            wish
            for wish in self._wishes(repository, reference, source, digest, plain, project)
            if only is None or wish.place[0] in only
        ]
        expected = self._expected(wishes, repository, reference, digest, prove=prove)
        known = self._locations.known([wish.place for wish in wishes])
        successes = self._locations.last_successes({wish.rule.name for wish in wishes})
        rows = [
            _judged(
                wish,
                _settled(known[wish.place], successes.get(wish.rule.name, "")),
                expected[wish.source],
                paused,
            )
            for wish in wishes
        ]
        if prove:
            with ThreadPoolExecutor(PROVERS, "prove") as pool:
                asked = [
                    pool.submit(self._proved, row, wish, expected)
                    for row, wish in zip(rows, wishes, strict=True)
                ]
                rows = [one.result() for one in asked]
        return _one_each(rows, plain, {wish.source for wish in wishes}, source, only)

    def _wishes(
        self,
        repository: str,
        reference: str,
        source: str | None,
        digest: str,
        endpoints: dict[str, RegistryEndpoint],
        project: Project | None,
    ) -> Iterator[_Wish]:
        members = members_of_groups(endpoints.values())
        for rule, paused in self._locations.rules():
            if (source is not None and rule.source != source) or rule.source not in endpoints:
                continue
            if project is not None and (
                rule.project != project.name or not project.may_read(rule.source, repository)
            ):
                continue
            selector = RuleSelector(rule, host=endpoints[rule.source].host)
            entries = selector.entries_of(repository, reference)
            if not entries:
                continue
            try:
                targets = selector.targets(repository, reference, digest or None)
                for target in targets:
                    destination = rule.destinations[target.destination_index]
                    for registry in destination_registries(destination, rule.source, members):
                        place = (registry, target.repository, target.reference)
                        if project is not None and not project.may_write(*place[:2]):
                            continue
                        yield _Wish(rule, paused, place, entries[0], rule.source)
            except InvalidInput:
                continue  # a name that cannot be: the rule's own execution says so

    def _expected(
        self, wishes: list[_Wish], repository: str, reference: str, digest: str, *, prove: bool
    ) -> dict[str, tuple[str, str]]:
        """Return, for each source, the digest that is wanted, or why it is not known."""
        expected = {}
        for name in {wish.source for wish in wishes}:
            if digest or is_digest(reference):
                expected[name] = (digest or reference, "")
            elif prove:
                expected[name] = self._at_source(name, repository, reference)
            else:
                seen, _ = self._locations.source_digest(name, repository, reference)
                expected[name] = (
                    seen,
                    "" if seen else "in place before Transship, or not met yet; --prove asks",
                )
        return expected

    def _at_source(self, name: str, repository: str, reference: str) -> tuple[str, str]:
        try:
            head = self._clients.get(name).head_manifest(repository, reference)
        except (RegistryError, InvalidInput) as error:
            return "", told(error, name)
        if head is None:
            return "", f"{name} has no {repository}:{reference}"
        return str(head.digest), ""

    def _proved(self, row: Location, wish: _Wish, expected: dict[str, tuple[str, str]]) -> Location:
        """Ask the registry of a row what is true."""
        registry, repository, reference = wish.place
        wanted, why = expected[wish.source]
        if not wanted:
            return replace(row, state=LocationState.UNKNOWN, why=why, proved=True)
        try:
            client = self._clients.get(registry)
            there = client.head_manifest(repository, reference)
            if there is None or str(there.digest) != wanted:
                return _not_there(row, None if there is None else str(there.digest), wanted)
            lacks = holes(
                client, repository, Digest.parse(wanted), children=_children(wish.rule, wish.entry)
            )
        except TransshipError as error:
            return replace(row, state=_of(error), why=told(error, registry), proved=True)
        if lacks:
            return replace(
                row, state=LocationState.HOLE, why="; ".join(lacks), digest=wanted, proved=True
            )
        return replace(
            row,
            state=LocationState.WHOLE,
            why="every manifest was read and a byte of every blob",
            digest=wanted,
            proved=True,
        )


def _of(error: TransshipError) -> LocationState:
    """Return what an error of a registry says: wait for what may pass, see to what does not."""
    return LocationState.UNKNOWN if error.retryable else LocationState.BLOCKED


def _not_there(row: Location, found: str | None, wanted: str) -> Location:
    """Return the row of a registry that was asked and has something else, or nothing."""
    why = "there is no such tag" if found is None else f"the tag is {found}, not {wanted}"
    if row.state is LocationState.COPYING:
        return replace(row, digest=found or "", proved=True)
    if row.state is LocationState.BLOCKED:
        return replace(row, why=f"{why}; {row.why}", digest=found or "", proved=True)
    return replace(row, state=LocationState.STALE, why=why, digest=found or "", proved=True)


def _children(rule: SyncRule, entry: int) -> Children:
    platforms = rule.select[entry].platforms
    return PlatformFilter(platforms).children if platforms else Manifest.children


def _judged(wish: _Wish, known: Known, expected: tuple[str, str], paused: set[str]) -> Location:
    """Return what SQL says of a place."""
    registry, repository, reference = wish.place
    state, why = _state(wish, known, expected, paused)
    digest = known.hold.digest if known.hold is not None else None
    if digest is None:
        digest = known.digest
    return Location(registry, state, why, repository, reference, digest, wish.rule.name)


def _settled(known: Known, success: str) -> Known:
    """Return what is known, but for a failure that a later run of the whole rule has put right.

    An unchanged tag leaves no row: a full execution that succeeded found it in place.
    """
    if known.state in _BAD and known.execution < success:
        return replace(known, state=None, failure_class="", reason="")
    return known


def _state(
    wish: _Wish, known: Known, expected: tuple[str, str], paused: set[str]
) -> tuple[LocationState, str]:
    held = [name for name in (wish.source, wish.place[0]) if name in paused]
    if known.open_copy:
        if wish.paused or held:
            return LocationState.BLOCKED, _pause(wish, held)
        return LocationState.COPYING, f"execution {known.execution}"
    if known.failure_class in ("hole", "missing", "stale"):
        state = LocationState.HOLE if known.failure_class == "hole" else LocationState.STALE
        return state, known.reason
    wanted, unknown = expected
    if known.hold is not None and known.hold.digest is not None:
        return _released(known.hold.release, known.hold.digest, wanted)
    if known.state in _BAD:
        return LocationState.BLOCKED, known.reason or f"execution {known.execution} was stopped"
    if known.digest and known.digest == wanted:
        return LocationState.WHOLE, f"as of execution {known.execution}" if known.execution else ""
    if wish.paused or held:
        return LocationState.BLOCKED, _pause(wish, held)
    if not wish.rule.enabled:
        return LocationState.BLOCKED, f"rule {wish.rule.name} is disabled"
    if known.digest and wanted:
        return LocationState.STALE, f"the source has {wanted}"
    return LocationState.UNKNOWN, unknown or "in place before Transship, or not copied yet"


def _released(release: str, digest: str, wanted: str) -> tuple[LocationState, str]:
    """Return what is to be said of a tag that a release has moved: nothing else moves it until that is deleted."""
    if not digest:
        return LocationState.STALE, f"release {release} has taken it away again"
    if wanted in ("", digest):
        return LocationState.WHOLE, f"release {release} has put it there"
    return LocationState.STALE, f"release {release} holds it there; the source has {wanted}"


def _pause(wish: _Wish, held: list[str]) -> str:
    return f"registry {held[0]} is paused" if held else f"rule {wish.rule.name} is paused"


_WORST_FIRST = (
    LocationState.HOLE,
    LocationState.BLOCKED,
    LocationState.STALE,
    LocationState.COPYING,
    LocationState.UNKNOWN,
    LocationState.WHOLE,
)


def _one_each(
    rows: list[Location],
    endpoints: dict[str, RegistryEndpoint],
    sources: set[str],
    source: str | None,
    only: Collection[str] | None,
) -> list[Location]:
    found: dict[str, Location] = {}
    for row in rows:
        known = found.get(row.registry)
        if known is None or _WORST_FIRST.index(row.state) < _WORST_FIRST.index(known.state):
            found[row.registry] = row
    for name in endpoints if only is None else only:
        if name in found:
            continue
        if name in sources or name == source:
            found[name] = Location(name, LocationState.SOURCE, "where it comes from")
        else:
            found[name] = Location(name, LocationState.NOT_WANTED, "no rule brings it here")
    return [found[name] for name in sorted(found)]
