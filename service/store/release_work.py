"""Releases as workers and the scheduler's leader see them: parts to be done, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from service.model.release import BACK, ReleaseImage, ReleaseState, ReleaseTag, TagState
from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, CopyState, ExecutionState
from service.store import codec, relay
from service.store.clock import database_now, now_epoch
from service.store.creation import insert_tags
from service.store.database import Database
from service.store.processes import AGENT
from service.store.recovery import again
from service.store.release_steps import ENDED, PENDING, SENT, advance, lock, open_parts, reasons
from service.store.releases import Release, as_release, as_tag
from service.store.tables import copies, executions, processes
from service.store.tables_releases import release_parts, release_tags, releases

TRIGGER = "release"
RESEND_SECONDS = 2.0
NAMES_AT_ONCE = 200
HEARD_SECONDS = 3.0
"""An agent that asks so long after something was taken back has had the answer to an earlier question."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one region has to do in a release's present state."""

    release: str
    region: str
    fence: int


@dataclass(frozen=True, slots=True)
class PartWork:
    """A part that this process owns: the release as it stands, and its tags in the region."""

    part: Part
    release: Release
    tags: tuple[ReleaseTag, ...]


@dataclass(frozen=True, slots=True)
class TagResult:
    """What became of one tag; `values` are columns to be written besides."""

    id: int
    state: TagState
    reason: str = ""
    values: Mapping[str, Any] | None = None


class ReleaseWorkStore:
    """Parts of releases. Every write of a worker holds only while the release is at the part's fence."""

    def __init__(
        self,
        database: Database,
        dead_after_seconds: float,
        agent_dead_after_seconds: float = 90.0,
    ) -> None:
        self._database = database
        self._dead_after = dead_after_seconds
        self._agent_dead_after = agent_dead_after_seconds

    # ---- the scheduler's leader --------------------------------------------------------------------

    def to_send(self) -> list[Part]:
        """Return parts that nobody is at, marked as sent: new ones, and those whose message was lost.

        No tag is looked at for a flip before each far region has heard whose it is.
        """
        wanted = _UNSENT.where(self._idle(), ~self._unheard())
        with self._database.read() as connection:
            if connection.execute(wanted.limit(1)).first() is None:
                return []

        def work(connection: Connection) -> list[Part]:
            found = [Part(*row) for row in connection.execute(wanted).all()]
            for part in found:
                connection.execute(
                    update(release_parts)
                    .where(_is(part), release_parts.c.state.in_([PENDING, SENT]))
                    .values(state=SENT, sent_at=now_epoch())
                )
            return found

        return self._database.write(work)

    def end_stagings(self) -> list[str]:
        """Have releases proved whose execution has succeeded, and fail those where it has not."""
        query = (
            select(releases.c.name, executions.c.state, executions.c.reason)
            .outerjoin(executions, executions.c.id == releases.c.execution_id)
            .where(
                releases.c.state == ReleaseState.STAGING,
                or_(executions.c.state.is_(None), executions.c.state.in_(ENDED_EXECUTIONS)),
            )
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
        for name, state, reason in found:
            self._database.write(partial(_end_staging, name, state, reason))
        return [row.name for row in found]

    # ---- workers -----------------------------------------------------------------------------------

    def begin(self, part: Part, boot: str) -> PartWork | None:
        """Own a part; None when its fence is old, it has ended, or a live process has it in hand."""

        def work(connection: Connection) -> PartWork | None:
            row = lock(connection, part.release)
            if row is None or row.fence != part.fence:
                return None
            taken = connection.execute(
                update(release_parts)
                .where(_is(part), release_parts.c.state != ENDED, self._unowned())
                .values(owner=boot, state=SENT, sent_at=now_epoch())
            )
            if taken.rowcount != 1:
                return None
            found = connection.execute(
                select(release_tags)
                .where(release_tags.c.release == part.release, release_tags.c.region == part.region)
                .order_by(release_tags.c.id)
            ).all()
            return PartWork(part, as_release(row), tuple(map(as_tag, found)))

        return self._database.write(work)

    def let_go(self, part: Part, boot: str) -> None:
        """Have nothing more in hand, whatever has become of the part."""
        statement = (
            update(release_parts)
            .where(
                release_parts.c.release == part.release,
                release_parts.c.region == part.region,
                release_parts.c.owner == boot,
            )
            .values(owner="")
        )
        self._database.write(lambda connection: connection.execute(statement).rowcount)

    def holds(self, part: Part) -> bool:
        """Whether the release is still at the part's fence: asked right before a tag moves."""
        query = select(releases.c.name).where(
            releases.c.name == part.release, releases.c.fence == part.fence
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def begin_moving(self, part: Part) -> float | None:
        """Write down that tags of a part move from now on; returns when that is, None when its fence is old."""
        statement = (
            update(release_tags)
            .where(
                release_tags.c.release == part.release,
                release_tags.c.region == part.region,
                release_tags.c.flipped_from.is_(None),
                or_(
                    release_tags.c.previous.is_(None),
                    release_tags.c.previous != release_tags.c.digest,
                ),
            )
            .values(flipped_from=now_epoch())
        )

        def work(connection: Connection) -> float | None:
            row = lock(connection, part.release)
            if row is None or row.fence != part.fence:
                return None
            connection.execute(statement)
            return database_now(connection)

        return self._database.write(work)

    def goes_back(self, release: str) -> bool:
        """Whether the tags of a release are to be what they were; False for one that is gone."""
        query = select(releases.c.state).where(releases.c.name == release)
        with self._database.read() as connection:
            return connection.execute(query).scalar() in BACK

    def resolved(
        self,
        part: Part,
        images: Sequence[ReleaseImage],
        tags: Sequence[ReleaseTag],
        staging: SyncRule,
    ) -> bool:
        """Save what a release is made of, keep its tags from everybody else, and have it staged.

        Returns False when the part's fence is old.
        """
        references = list(dict.fromkeys((image.repository, image.digest) for image in images))

        def work(connection: Connection) -> bool:
            row = lock(connection, part.release)
            if row is None or row.fence != part.fence:
                return False
            connection.execute(delete(release_tags).where(release_tags.c.release == part.release))
            connection.execute(insert(release_tags), [_row_of(part.release, tag) for tag in tags])
            _take_from_syncs(connection, tags)
            execution = insert_tags(connection, staging, references, trigger=TRIGGER)
            advance(
                connection,
                row,
                ReleaseState.STAGING,
                execution_id=execution,
                images=codec.dump([asdict(image) for image in images]),
            )
            return True

        return self._database.write(work)

    def end(self, part: Part, results: Iterable[TagResult], reason: str = "") -> bool:
        """Write down what became of a part's tags; the last part brings the release to its next state.

        `reason`: what a rollback that is being checked finds in its way; it is told with those of all regions.
        Returns False, and writes nothing, when the part's fence is old.
        """

        def work(connection: Connection) -> bool:
            row = lock(connection, part.release)
            if row is None or row.fence != part.fence:
                return False
            _write_results(connection, results)
            connection.execute(
                update(release_parts).where(_is(part)).values(state=ENDED, owner="", reason=reason)
            )
            if open_parts(connection, part.release, part.fence) == 0:
                state, outcome = _following(connection, row)
                if row.state != ReleaseState.CHECKING:
                    _tell_followers(connection, part.release, state)
                advance(connection, row, state, reason=outcome)
            return True

        return self._database.write(work)

    def fail(
        self, part: Part, reason: str, results: Iterable[TagResult] = (), *, lost: bool = False
    ) -> bool:
        """End a release's state in failure; what a flip has moved is set back from here on.

        A flip that could not begin leaves it staged, unless content was `lost`: that is to be staged again.
        """

        def work(connection: Connection) -> bool:
            row = lock(connection, part.release)
            if row is None or row.fence != part.fence:
                return False
            _write_results(connection, results)
            state = ReleaseState.FAILED
            if row.state == ReleaseState.FLIPPING:
                state = ReleaseState.SETTING_BACK
            elif row.state == ReleaseState.PREPARING and not lost:
                state = ReleaseState.STAGED
            advance(connection, row, state, reason=reason)
            return True

        return self._database.write(work)

    # ---- conditions --------------------------------------------------------------------------------

    def _unowned(self) -> ColumnElement[bool]:
        alive = select(processes.c.boot).where(processes.c.seen_at > now_epoch() - self._dead_after)
        return or_(release_parts.c.owner == "", release_parts.c.owner.not_in(alive))

    def _unheard(self) -> ColumnElement[bool]:
        """Return the condition that a flip would begin while some agent may not know that its tags were taken.

        That was when its staging was made. Each answer to an agent says so (recalls.py); one that is not heard of
        any more moves no tag when it counts as dead (docs/adr/0017).
        """
        taken = select(executions.c.created_at).where(executions.c.id == releases.c.execution_id)
        unaware = exists().where(
            processes.c.kind == AGENT,
            processes.c.region.in_(
                select(release_tags.c.region).where(release_tags.c.release == releases.c.name)
            ),
            processes.c.seen_at > now_epoch() - self._agent_dead_after,
            processes.c.seen_at < taken.scalar_subquery() + HEARD_SECONDS,
        )
        return and_(releases.c.state == ReleaseState.PREPARING, unaware)

    def _idle(self) -> ColumnElement[bool]:
        late = release_parts.c.sent_at < now_epoch() - RESEND_SECONDS
        return or_(release_parts.c.state == PENDING, late & self._unowned())


_UNSENT = (
    select(release_parts.c.release, release_parts.c.region, release_parts.c.fence)
    .join(releases, releases.c.name == release_parts.c.release)
    .where(release_parts.c.fence == releases.c.fence, release_parts.c.state != ENDED)
    .order_by(release_parts.c.release, release_parts.c.region)
)


def _is(part: Part) -> ColumnElement[bool]:
    return (
        (release_parts.c.release == part.release)
        & (release_parts.c.region == part.region)
        & (release_parts.c.fence == part.fence)
    )


def _row_of(release: str, tag: ReleaseTag) -> dict[str, Any]:
    return {
        "release": release,
        "source_repository": tag.source_repository,
        "registry": tag.registry,
        "region": tag.region,
        "repository": tag.repository,
        "tag": tag.tag,
        "digest": tag.digest,
        "platforms": codec.dump(list(tag.platforms)),
        "state": TagState.PENDING,
    }


def _take_from_syncs(connection: Connection, tags: Sequence[ReleaseTag]) -> None:
    """Have copies to the same names begun anew: they find then whose the names are."""
    names = [(tag.registry, tag.repository, tag.tag) for tag in tags if tag.tag]
    place = tuple_(
        copies.c.destination_registry,
        copies.c.destination_repository,
        copies.c.destination_reference,
    )
    for start in range(0, len(names), NAMES_AT_ONCE):
        connection.execute(
            update(copies)
            .where(
                copies.c.state.in_([CopyState.DISPATCHED, CopyState.RUNNING]),
                place.in_(names[start : start + NAMES_AT_ONCE]),
            )
            .values(again())
        )


def _write_results(connection: Connection, results: Iterable[TagResult]) -> None:
    for result in results:
        connection.execute(
            update(release_tags)
            .where(release_tags.c.id == result.id)
            .values(state=result.state, reason=result.reason, **(result.values or {}))
        )


def _end_staging(name: str, state: str | None, reason: str | None, connection: Connection) -> None:
    row = lock(connection, name)
    if row is None or row.state != ReleaseState.STAGING:
        return
    if state == ExecutionState.SUCCEEDED:
        advance(connection, row, ReleaseState.PROVING)
        return
    told = "is gone" if state is None else f"has {state}" if not reason else f"{state}: {reason}"
    advance(
        connection,
        row,
        ReleaseState.FAILED,
        reason=f"execution {row.execution_id}, which stages it, {told}",
    )


def _following(connection: Connection, row: Row[Any]) -> tuple[ReleaseState, str]:
    """Return the state that follows when all parts of the present one have ended, and what is to be said."""
    state = ReleaseState(row.state)
    simply = {
        ReleaseState.PROVING: ReleaseState.STAGED,
        ReleaseState.PREPARING: ReleaseState.FLIPPING,
        ReleaseState.FLIPPING: ReleaseState.FLIPPED,
    }
    if state in simply:
        return simply[state], ""
    if state is ReleaseState.CHECKING:
        wrong = "; ".join(reasons(connection, row.name, row.fence))
        if wrong:
            return ReleaseState.FLIPPED, f"not rolled back: {wrong}"
        return ReleaseState.ROLLING_BACK, ""
    counts = {
        found: int(count)
        for found, count in connection.execute(
            select(release_tags.c.state, func.count())
            .where(release_tags.c.release == row.name, release_tags.c.tag != "")
            .group_by(release_tags.c.state)
        )
    }
    said = [row.reason] if row.reason else []
    said += [f"{counts[found]} {words}" for found, words in _SAID if counts.get(found)]
    if counts.get(TagState.STUCK):
        return ReleaseState.MIXED, "; ".join(said)
    back = state is ReleaseState.SETTING_BACK
    return (ReleaseState.SET_BACK if back else ReleaseState.ROLLED_BACK), "; ".join(said)


def _tell_followers(connection: Connection, release: str, state: ReleaseState) -> None:
    """Have rules that go on from the registries of a release's tags hear that these have moved."""
    moved = {ReleaseState.FLIPPED: TagState.FLIPPED, ReleaseState.ROLLED_BACK: TagState.RESTORED}
    if state not in moved:
        return
    found = connection.execute(
        select(release_tags).where(
            release_tags.c.release == release,
            release_tags.c.tag != "",
            release_tags.c.state == moved[state],
        )
    ).all()
    for row in found:
        digest = row.digest if state is ReleaseState.FLIPPED else row.previous
        if digest:
            relay.tell(connection, row.registry, row.repository, row.tag, digest)


_SAID = (
    (TagState.STUCK, "could not be set back"),
    (TagState.MOVED, "were moved by somebody else meanwhile, and left alone"),
    (TagState.STAYS, "were not there before and stay: their registry cannot delete tags"),
)
