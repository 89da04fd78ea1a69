"""Delete: tags that Transship wrote go when their source went, and never for less (reliability.md P6).

A succeeded full run marks what it saw. What it did not see is looked for at the source: the whole list
of the repository, and the tag itself twice, some seconds apart, answered 404 with a code that says so.
Then a grace period runs, or an approval is waited for. When it is over the source is asked once more,
the destination has to have the very digest that Transship wrote, and the tag is deleted as a tag.
Whatever cannot be seen clearly is kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

from service.crashpoints import crashpoint
from service.errors import (
    BorderClosed,
    Corrupt,
    Denied,
    InvalidInput,
    ManifestNotFound,
    NotFound,
    NotFoundInStore,
    RegistryError,
    Rejected,
    ServerError,
    StoreUnavailable,
    TransshipError,
    Unsupported,
    WrongRegion,
)
from service.model.rule import SyncRule
from service.model.selection import destination_registries, members_of_groups
from service.protections import without
from service.registry.client import RegistryClient
from service.replication.clients import Clients
from service.replication.deletion_borders import DeletionBorders, Elsewhere, why
from service.settings import Settings
from service.store.deletion_values import (
    DELETED,
    FAILED,
    KEPT,
    Deletion,
    Scan,
    WrittenTag,
)
from service.store.deletions import DeletionStore
from service.store.projects import ProjectStore
from service.store.registries import RegistryStore
from service.store.rules import RuleStore
from service.telemetry import get_logger

ABSENT_CODES = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN"})
AGAIN_SECONDS = 60.0
"""After so long a deletion is looked at again that could not be carried out to its end."""
UNCLEAR_IN_A_ROW = 5
"""After so many tags that could not be looked at, the source is left alone for a while."""
LEASE = "deletions"
NO_TAGS = "the registry cannot delete a tag alone"
NO_TAGS_HINT = (
    "turn the rule's delete off, or delete there by hand: deleting by digest would take every tag "
    "of the image (docker-registry 2.8 knows nothing else; distribution 3 deletes tags)"
)

Piece = tuple[str, Callable[[], None], Deletion | None]
"""A piece of work: its name, the work, and the deletion that it is of."""

Send = Callable[[str, str, Sequence[str]], None]
"""Takes a region, the name of a piece, and the registries that are left of a rule's run."""

log = get_logger("delete")


class Deleter:
    """Brings deletions forward; any process may, under a lease one does."""

    def __init__(
        self,
        settings: Settings,
        rules: RuleStore,
        registries: RegistryStore,
        projects: ProjectStore,
        store: DeletionStore,
        clients: Clients,
        borders: DeletionBorders,
    ) -> None:
        self._borders = borders
        self._send: Send | None = None
        self._done: set[tuple[str, str, str]] = set()
        """Of scans that are not through: rule, execution, and a registry that is."""
        self._settings = settings
        self._rules = rules
        self._registries = registries
        self._projects = projects
        self._store = store
        self._clients = clients
        self._not_before: dict[str, float] = {}

    def share(self, send: Send) -> None:
        """Have `send` bring to workers of a region what this process may not touch."""
        self._send = send

    def step(self) -> None:
        """Do what is due; one rule's trouble does not keep the others back."""
        for name, work, deletion in self._pieces():
            self._attempt(name, work, deletion)

    def take(self, piece: str, registries: Sequence[str]) -> bool:
        """Do a piece of work that was sent here; False when there is none of that name (any more).

        `registries`: those at which a rule's run is left to be looked at; none: all.
        """
        taken = False
        for name, work, deletion in self._pieces(registries):
            if name == piece:
                self._attempt(name, work, deletion)
                taken = True
        return taken

    def _pieces(self, only: Sequence[str] = ()) -> Iterator[Piece]:
        """Yield what is due by name; what is due when the pieces before have been done is among it."""
        for scan in self._store.due_scans():
            yield f"rule {scan.rule.name}", partial(self._scan, scan, only), None
        for found in self._store.to_check(self._settings.absence_seconds):
            yield found.id, partial(self._second_look, found), found
        for due in self._store.due():
            yield due.id, partial(self._carry_out, due), due

    def _attempt(
        self, name: str, work: Callable[[], None], deletion: Deletion | None = None
    ) -> None:
        if time.monotonic() < self._not_before.get(name, 0.0):
            return
        try:
            with self._borders.turn(name) as ours:
                if ours:
                    work()
        except StoreUnavailable:
            raise
        except Elsewhere as error:
            if self._send is not None:
                self._send(error.region, name, error.registries)
                log.info("deletion_sent", of=name, region=error.region)
            self._not_before[name] = time.monotonic() + AGAIN_SECONDS
        except TransshipError as error:
            at_border = isinstance(error, BorderClosed | WrongRegion)
            if deletion is not None and at_border:
                self._store.hold(deletion, why(error))
            reason = why(error) if at_border else error.message
            log.warning("deletion_postponed", of=name, reason=reason)
            self._not_before[name] = time.monotonic() + AGAIN_SECONDS
        else:
            self._not_before.pop(name, None)

    # ---- absence ---------------------------------------------------------------------------------

    def _scan(self, scan: Scan, only: Sequence[str] = ()) -> None:
        """Look a first time for what the run did not see, destination by destination.

        `only`: the registries that are left, others have been through with the rest; none: all. Raises what keeps
        this process from some, when it has been through with the others.
        """
        members = members_of_groups(one.endpoint for one in self._registries.list(limit=10_000))
        registries = {
            name
            for destination in scan.rule.destinations
            for name in destination_registries(destination, scan.rule.source, members)
        }
        self._store.drop_unfinished(scan)
        own = (scan.rule.name, scan.execution)
        self._done = {one for one in self._done if one[0] != own[0] or one[:2] == own}
        closed: dict[str, TransshipError] = {}
        for registry in sorted(registries & set(only) if only else registries):
            done = (*own, registry)
            if done in self._done:
                continue
            try:
                self._borders.check(scan.rule, registry)
            except (BorderClosed, WrongRegion) as error:
                closed[registry] = error
                continue
            identity = ""
            for group in self._store.candidates(scan, registry):
                absent, alarming = self._first_look(scan.rule, group)
                there = self._at_destination(registry, absent)
                if there:
                    identity = identity or self._store.begin(scan, registry)
                    self._store.add(identity, there, alarming=alarming)
            if identity:
                self._store.looked(identity)
                log.info("tags_gone_at_source", rule=scan.rule.name, registry=registry)
            self._done.add(done)
        for obstacle in sorted(closed.values(), key=lambda one: not isinstance(one, Elsewhere)):
            if isinstance(obstacle, Elsewhere):
                obstacle.registries = tuple(closed)
            raise obstacle
        self._store.scanned(scan)

    def _first_look(
        self, rule: SyncRule, group: Sequence[WrittenTag]
    ) -> tuple[list[WrittenTag], bool]:
        """Return what is absent of one source repository, and whether all of that is gone."""
        source = self._clients.get(rule.source)
        left = {tag.source_reference for tag in group}
        count = 0
        try:
            for page in source.list_tags(group[0].source_repository):
                count += len(page.tags)
                left.difference_update(page.tags)
        except RegistryError as error:
            if not _says_absent(error) and not without("complete-list"):
                log.info("absence_unknown", repository=group[0].source_repository)
                return [], False
        unlisted = [tag for tag in group if tag.source_reference in left]
        return [tag for tag, gone in self._look(source, unlisted) if gone], count == 0

    @staticmethod
    def _look(
        source: RegistryClient, tags: Iterable[WrittenTag]
    ) -> Iterator[tuple[WrittenTag, bool | None]]:
        """Yield each tag with whether it is absent; raises ServerError when none can be looked at."""
        unclear = 0
        for tag in tags:
            gone = absent(source, tag.source_repository, tag.source_reference)
            unclear = unclear + 1 if gone is None else 0
            yield tag, gone
            if unclear >= UNCLEAR_IN_A_ROW:
                raise ServerError(f"{source.name} does not say whether tags are there")

    def _at_destination(self, registry: str, tags: Sequence[WrittenTag]) -> list[WrittenTag]:
        """Return those that the destination's complete lists have; let go of the others."""
        destination = self._clients.get(registry)
        there: list[WrittenTag] = []
        ordered = sorted(tags, key=lambda tag: tag.repository)
        for repository, group in groupby(ordered, key=lambda tag: tag.repository):
            wanted = {tag.tag: tag for tag in group}
            listed: set[str] = set()
            try:
                for page in destination.list_tags(repository):
                    listed.update(wanted.keys() & set(page.tags))
            except RegistryError as error:
                if not _says_absent(error):
                    continue  # unknown: looked at after the next run
            there.extend(tag for name, tag in wanted.items() if name in listed)
            self._store.forget(
                registry, [tag for name, tag in wanted.items() if name not in listed]
            )
        return there

    def _second_look(self, found: Deletion) -> None:
        rule = self._rule(found)
        if rule is None:
            return
        self._borders.check(rule, found.registry)
        source = self._clients.get(rule.source)
        for tag, gone in self._look(source, self._store.pending(found.id)):
            if not gone:
                reason = "it could not be looked at" if gone is None else "the source has it again"
                self._store.settle(found, tag, KEPT, reason=reason)
        state = self._store.decide(found.id)
        log.info("deletion_decided", deletion=found.id, rule=found.rule, state=state)

    def _rule(self, found: Deletion) -> SyncRule | None:
        """Return the rule as it is now; a deletion that it no longer stands behind is cancelled."""
        try:
            rule = self._rules.get(found.rule).rule
        except NotFoundInStore:
            self._store.cancel(found.id, by="", reason="the rule is gone")
            return None
        if not rule.delete.enabled:
            self._store.cancel(found.id, by="", reason="the rule deletes no longer")
            return None
        return rule if rule.enabled else None

    # ---- deleting --------------------------------------------------------------------------------

    def _carry_out(self, due: Deletion) -> None:
        rule = self._rule(due)
        if rule is None:
            return
        source, destination = self._clients.get(rule.source), self._clients.get(due.registry)
        tags = self._store.pending(due.id)
        unclear = 0
        for position, tag in enumerate(tags):
            try:
                clear = self._delete(rule, due, tag, source, destination)
            except Unsupported as error:
                self._give_up(due, tags[position:], error, NO_TAGS, NO_TAGS_HINT)
                break
            except Rejected as error:
                self._give_up(due, [tag], error, "", "")
            except Denied as error:
                hint = "give the registry credentials that may delete"
                self._give_up(due, tags[position:], error, "", hint)
                break
            except _TookAll as error:
                self._give_up(due, tags[position + 1 :], error, "", NO_TAGS_HINT)
                break
            except RegistryError as error:
                log.warning("tag_not_deleted", deletion=due.id, tag=tag.tag, reason=error.message)
                break  # later again
            else:
                unclear = 0 if clear else unclear + 1
                if unclear >= UNCLEAR_IN_A_ROW:
                    break
        self._store.end(due, again_seconds=AGAIN_SECONDS)

    def _delete(
        self,
        rule: SyncRule,
        due: Deletion,
        tag: WrittenTag,
        source: RegistryClient,
        destination: RegistryClient,
    ) -> bool:
        """Delete one tag, if all that has to hold still holds; False when that cannot be told now."""
        self._borders.check(rule, due.registry)
        if tag.source_registry != rule.source:
            self._store.settle(due, tag, KEPT, reason="the rule has another source now")
            return True
        if not self._projects.access(rule.project).may_write(due.registry, tag.repository):
            self._store.settle(due, tag, KEPT, reason="the rule's project may not write there now")
            return True
        if release := self._store.held_by(due.registry, tag):
            self._store.settle(due, tag, KEPT, reason=f"release {release} holds it")
            return True
        gone = absent(source, tag.source_repository, tag.source_reference)
        if gone is None:
            return False
        if not gone:
            self._store.settle(due, tag, KEPT, reason="the source has it again")
            return True
        try:
            there = destination.head_manifest(tag.repository, tag.tag)
        except InvalidInput:
            self._store.settle(due, tag, KEPT, reason="it is no image any more", forget=True)
            return True
        if there is None:
            self._store.settle(due, tag, KEPT, reason="it was gone already", forget=True)
            return True
        if str(there.digest) != tag.digest or not self._store.owned(due.registry, tag):
            self._store.settle(
                due, tag, KEPT, reason="it is not at the digest that Transship wrote any more"
            )
            return True
        twin = self._store.twin(due.registry, tag)
        crashpoint("delete.confirmed")
        with contextlib.suppress(ManifestNotFound):  # somebody was faster
            destination.delete_manifest(tag.repository, tag.tag)
        crashpoint("delete.before_sql")
        note = self._borders.crossing(rule, due, tag)
        self._store.settle(due, tag, DELETED, forget=True, note=note)
        log.info("tag_deleted", registry=due.registry, repository=tag.repository, tag=tag.tag)
        if not absent(source, tag.source_repository, tag.source_reference):
            self._store.copy_again(rule, tag)
        if twin is not None and destination.head_manifest(tag.repository, twin) is None:
            raise _TookAll(
                f"{due.registry} took the tag {twin} along with {tag.tag}, which names the same image",
                registry=due.registry,
            )
        return True

    def _give_up(
        self,
        due: Deletion,
        tags: Sequence[WrittenTag],
        error: RegistryError,
        words: str,
        hint: str,
    ) -> None:
        """Fail what is left: the registry would say the same of every tag."""
        reason = f"{words}: {error.message}" if words else error.message
        log.warning("registry_cannot_delete", registry=due.registry, reason=reason)
        for tag in tags:
            self._store.settle(
                due, tag, FAILED, reason=reason, failure_class=error.failure_class, hint=hint
            )


class _TookAll(RegistryError):
    """The registry deletes a manifest where it was told to delete a tag."""

    failure_class = "policy"


def absent(source: RegistryClient, repository: str, reference: str) -> bool | None:
    """Say whether a tag is gone; None when that cannot be told.

    Only a 404 whose code names the manifest or the repository is absence: 401, 403, 429, 5xx, a
    time-out and a 404 of some proxy are none.
    """
    try:
        source.get_manifest(repository, reference)
    except (InvalidInput, Corrupt):
        return False  # something is there
    except RegistryError as error:
        return True if _says_absent(error) else None
    return False


def _says_absent(error: RegistryError) -> bool:
    return isinstance(error, NotFound) and error.status == 404 and error.oci_code in ABSENT_CODES
