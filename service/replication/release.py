"""Releases, carried out: proved, flipped in one pass, set back when that fails (issue 6 point 8).

A task does what one region has to do in the release's present state. All of it may be done twice: a
process that dies leaves its part to the next one, which looks at what is there. Registries have no
compare-and-swap: a process that stood still may put a tag after the release has turned back. It looks once
more afterwards, and undoes that (reliability.md P4); until it has let go or is dead, nobody else begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from service.crashpoints import crashpoint
from service.errors import (
    BorderClosed,
    Cancelled,
    Denied,
    StoreUnavailable,
    TransshipError,
    WrongRegion,
)
from service.model.borders import check_borders
from service.model.content import PlatformFilter
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.release import BACK, ReleaseState, ReleaseTag, TagState
from service.model.selection import members_of_groups
from service.replication.compare import told
from service.replication.engine import Engine
from service.replication.release_images import resolve
from service.replication.release_tags import Clock, put_tag, read_back, set_back
from service.replication.walk import Remembered, holes
from service.store.projects import ProjectStore
from service.store.registries import RegistryStore
from service.store.release_work import Part, PartWork, ReleaseWorkStore, TagResult
from service.telemetry import get_logger

AT_ONCE = 32
"""Tags under way at a time; each registry's own limits hold besides."""

LOOK_SECONDS = 0.5
TOLD = 3
"""So many failures are told of a release; its tags say the rest."""

log = get_logger("release")

T = TypeVar("T")
R = TypeVar("R")


class Releaser:
    """Carries out parts of releases in one process."""

    def __init__(
        self,
        engine: Engine,
        store: ReleaseWorkStore,
        registries: RegistryStore,
        projects: ProjectStore,
    ) -> None:
        if engine.guard is None:
            raise TypeError("releases are held to borders: the engine needs its guard")
        self._settings = engine.settings
        self._boot = engine.boot
        self._store = store
        self._registries = registries
        self._projects = projects
        self._clients = engine.clients
        self._guard = engine.guard

    def carry_out(self, part: Part) -> bool:
        """Do a part; False when it is somebody else's, or no longer to be done. Raises StoreUnavailable."""
        work = self._store.begin(part, self._boot)
        if work is None:
            return False
        try:
            self._do(work)
        except (StoreUnavailable, Cancelled):
            raise
        except WrongRegion as error:
            log.warning("release_waits", release=part.release, reason=error.message)
            return False
        except TransshipError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._broken(work, told(error, work.release.rule.source) + hint)
        except Exception as error:
            log.exception("release_broke", release=part.release)
            self._broken(work, f"{type(error).__name__}: {error}")
        finally:
            self._store.let_go(part, self._boot)
        return True

    def _do(self, work: PartWork) -> None:
        state = work.release.state
        if state in BACK:
            self._go_back(work)
            return
        if state is ReleaseState.CHECKING:
            self._look_back(work)
            return
        self._check(work)
        if state is ReleaseState.RESOLVING:
            self._resolve(work)
        elif state is ReleaseState.PROVING:
            if self._prove(work):
                self._store.end(work.part, ())
        elif state is ReleaseState.PREPARING:
            if self._prove(work):
                self._prepare(work)
        elif state is ReleaseState.FLIPPING:
            self._flip(work)

    def _broken(self, work: PartWork, reason: str) -> None:
        """Fail a release; what was to be set back is stuck."""
        if work.release.state in BACK:
            stuck = [TagResult(tag.id, TagState.STUCK, reason) for tag in work.tags]
            self._store.end(work.part, stuck)
        elif work.release.state is ReleaseState.CHECKING:
            self._store.end(work.part, (), f"region {work.part.region}: {reason}")
        else:
            self._store.fail(work.part, reason)

    # ---- whether it may ----------------------------------------------------------------------------

    def _check(self, work: PartWork) -> None:
        """Raise WrongRegion, BorderClosed, or Denied when the rule's project may not write there now."""
        rule = work.release.rule
        self._guard.check_place([rule.source, *{tag.registry for tag in work.tags}])
        problems = check_borders(
            rule, self._guard.region_of, self._members(), self._guard.borders()
        )
        if problems:
            raise BorderClosed("; ".join(map(str, problems)), hint="")
        project = self._projects.access(rule.project)
        for tag in work.tags:
            if not project.may_write(tag.registry, tag.repository):
                raise Denied(
                    f"project {rule.project} may not write {tag.registry}/{tag.repository}",
                    registry=tag.registry,
                )

    def _members(self) -> dict[str, tuple[str, ...]]:
        return members_of_groups(one.endpoint for one in self._registries.list(limit=10_000))

    def _region_of(self, registry: str) -> str:
        if self._settings.one_machine:
            return self._settings.region
        return self._clients.endpoint(registry).region

    # ---- before anything moves ---------------------------------------------------------------------

    def _resolve(self, work: PartWork) -> None:
        release = work.release
        source = self._clients.get(release.rule.source)
        found = resolve(release.rule, release.images, source, self._members(), self._region_of)
        self._store.resolved(work.part, found.images, found.tags, found.staging)

    def _prove(self, work: PartWork) -> bool:
        """Read every manifest and a byte of every blob at the destinations; False when some cannot be."""
        remembered = Remembered()
        unique = {(tag.registry, tag.repository, tag.digest): tag for tag in work.tags}

        def look(tag: ReleaseTag) -> tuple[str, bool]:
            try:
                lacks = self._lacks(tag, tag.digest, remembered)
            except StoreUnavailable:
                raise
            except TransshipError as error:
                return f"{tag.name}: {told(error, tag.registry)}", False
            return (f"{tag.name}: {lacks[0]}", True) if lacks else ("", False)

        found = _at_once(look, unique.values())
        lost = any(is_lost for _, is_lost in found)
        return self._all_well(work, [reason for reason, _ in found], lost=lost)

    def _lacks(self, tag: ReleaseTag, digest: str, remembered: Remembered) -> list[str]:
        """Return what cannot be read of a digest where a tag is to name it."""
        children = PlatformFilter(tag.platforms).children if tag.platforms else Manifest.children
        return holes(
            self._clients.get(tag.registry),
            tag.repository,
            Digest.parse(digest),
            remembered=remembered,
            children=children,
        )

    def _prepare(self, work: PartWork) -> None:
        """Write down what each tag is now, and let no flip begin that the rule does not allow."""
        policy = work.release.rule.on_conflict

        def look(tag: ReleaseTag) -> tuple[TagResult | None, str]:
            try:
                head = self._clients.get(tag.registry).head_manifest(tag.repository, tag.tag)
            except StoreUnavailable:
                raise
            except TransshipError as error:
                return None, f"{tag.name}: {told(error, tag.registry)}"
            previous = "" if head is None else str(head.digest)
            if policy != "overwrite" and previous not in ("", tag.digest):
                return None, f"{tag.name} is {previous}, and on_conflict is {policy}"
            values = {"previous": previous, "flipped_from": None, "flipped_at": None}
            return TagResult(tag.id, TagState.PREPARED, values=values), ""

        found = _at_once(look, _tagged(work))
        if self._all_well(work, [reason for _, reason in found]):
            crashpoint("release.prepared")
            self._store.end(work.part, [result for result, _ in found if result is not None])

    def _all_well(self, work: PartWork, reasons: Iterable[str], *, lost: bool = False) -> bool:
        wrong = [reason for reason in reasons if reason]
        if wrong:
            self._store.fail(work.part, _some(wrong), lost=lost)
        return not wrong

    # ---- the flip ----------------------------------------------------------------------------------

    def _flip(self, work: PartWork) -> None:
        """Put all tags of the region, the manifests being at hand; at the first failure nothing more begins."""
        tags = _tagged(work)
        manifests = self._manifests(tags)
        clock = self._begin_moving(work.part)
        if clock is None:
            return
        fence = _Fence(partial(self._store.holds, work.part), self._settings.dead_after_seconds / 2)
        stopped = threading.Event()

        def move(tag: ReleaseTag) -> TagResult:
            if stopped.is_set() or not fence.holds():
                return TagResult(tag.id, TagState.PREPARED)
            if tag.previous == tag.digest:
                return TagResult(tag.id, TagState.FLIPPED)
            try:
                client = self._clients.get(tag.registry)
                put_tag(client, tag, manifests[tag.registry, tag.repository, tag.digest])
                at = clock()
                crashpoint("release.after_put")
                read_back(client, tag)
            except StoreUnavailable:
                raise
            except TransshipError as error:
                stopped.set()
                return TagResult(tag.id, TagState.FAILED, told(error, tag.registry))
            return TagResult(tag.id, TagState.FLIPPED, values={"flipped_at": at})

        results = _at_once(move, tags)
        names = {tag.id: tag.name for tag in tags}
        wrong = [f"{names[one.id]}: {one.reason}" for one in results if one.reason]
        if wrong:
            self._store.fail(work.part, _some(wrong), results)
        elif all(one.state is TagState.FLIPPED for one in results):
            if not self._store.end(work.part, results):
                self._undo_late_puts(work, results, clock)
        else:
            self._undo_late_puts(work, results, clock)

    def _manifests(self, tags: Sequence[ReleaseTag]) -> dict[tuple[str, str, str], Manifest]:
        """Fetch what the tags are to name, by digest, from where they are to name it."""
        unique = list({(tag.registry, tag.repository, tag.digest): tag for tag in tags}.values())
        fetched = _at_once(
            lambda tag: self._clients.get(tag.registry).get_manifest(tag.repository, tag.digest),
            unique,
        )
        return {
            (tag.registry, tag.repository, tag.digest): manifest
            for tag, manifest in zip(unique, fetched, strict=True)
        }

    def _undo_late_puts(self, work: PartWork, results: Sequence[TagResult], clock: Clock) -> None:
        """Set back what this process moved after the release had turned back."""
        if not self._store.goes_back(work.part.release):
            return
        moved = {one.id for one in results if one.state is not TagState.PREPARED}
        log.warning("late_flip_undone", release=work.part.release, tags=len(moved))
        self._set_back([tag for tag in work.tags if tag.id in moved], clock)

    # ---- and back ----------------------------------------------------------------------------------

    def _look_back(self, work: PartWork) -> None:
        """Look whether each tag of the region can be what it was, and say of each why not; nothing moves."""
        self._guard.check_place([work.release.rule.source, *{tag.registry for tag in work.tags}])
        remembered = Remembered()

        def look(tag: ReleaseTag) -> str:
            try:
                head = self._clients.get(tag.registry).head_manifest(tag.repository, tag.tag)
                found = "" if head is None else str(head.digest)
                if not tag.previous or found not in ("", tag.digest):
                    return ""  # it was not there, is what it was, or is somebody else's now
                lacks = self._lacks(tag, tag.previous, remembered)
            except StoreUnavailable:
                raise
            except TransshipError as error:
                return told(error, tag.registry)
            return f"what it was before is gone: {lacks[0]}" if lacks else ""

        tags = _tagged(work)
        found = list(zip(tags, _at_once(look, tags), strict=True))
        wrong = _some([f"{tag.name}: {reason}" for tag, reason in found if reason])
        results = [TagResult(tag.id, tag.state, reason) for tag, reason in found]
        self._store.end(work.part, results, wrong)

    def _go_back(self, work: PartWork) -> None:
        self._guard.check_place([work.release.rule.source, *{tag.registry for tag in work.tags}])
        clock = self._begin_moving(work.part)
        if clock is None:
            return
        results = self._set_back(_tagged(work), clock)
        crashpoint("release.set_back")
        self._store.end(work.part, results)

    def _begin_moving(self, part: Part) -> Clock | None:
        """Note that tags move from now on, and return the database's clock as it goes on from there.

        It is ahead by what the note took: a window is told too long rather than too short.
        """
        asked = time.monotonic()
        began = self._store.begin_moving(part)
        return None if began is None else lambda: began + time.monotonic() - asked

    def _set_back(self, tags: Sequence[ReleaseTag], clock: Clock) -> list[TagResult]:
        return _at_once(
            lambda tag: set_back(partial(self._clients.get, tag.registry), tag, clock), tags
        )


class _Fence:
    """Whether a release still stands where its part began; asked at most so often, between threads."""

    def __init__(self, ask: Callable[[], bool], patience_seconds: float) -> None:
        """`patience_seconds`: an answer that is older, or took longer, counts for nothing."""
        self._ask = ask
        self._patience = patience_seconds
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._held = True

    def holds(self) -> bool:
        """Answer from what was seen a moment ago; False when nobody could say."""
        with self._lock:
            now = time.monotonic()
            if self._held and now - self._asked >= min(LOOK_SECONDS, self._patience):
                self._held = self._ask()
                self._asked = now
            return self._held and time.monotonic() - self._asked <= self._patience


def _tagged(work: PartWork) -> list[ReleaseTag]:
    return [tag for tag in work.tags if tag.tag]


def _at_once(do: Callable[[T], R], items: Iterable[T]) -> list[R]:
    todo = list(items)
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(todo))), "release") as pool:
        return list(pool.map(do, todo))


def _some(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - TOLD} more" if len(reasons) > TOLD else ""
    return "; ".join(reasons[:TOLD]) + more
