"""Looks at a fleet that is to move: page by page, each with the cursor behind it, so that any process goes on.

An inventory tells what there is and how large it is; a freeze what is to be there in the end; a proof
whether it is. No row of one is in memory for longer than its page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, case, delete, exists, func, insert, select, update

from service.errors import Cancelled, Conflict
from service.model.migration import FREEZE, INVENTORY, PROOF, Migration, SurveyState
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.fleet_migrations import load_migration
from service.store.tables_migrations import (
    migration_blobs,
    migration_findings,
    migration_repositories,
    migration_surveys,
    migration_tags,
    migrations,
)

REPOSITORIES, TAGS, DESTINATION, CLOSING = "repositories", "tags", "destination", "closing"
"""The phases of a look; a proof begins with the destination, so that it sees the source last."""

OPEN = (SurveyState.PENDING, SurveyState.RUNNING)
MAX_FINDINGS = 10_000
"""Of one look; the totals tell that there are more."""
_AT_ONCE = 500
_FORGET_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Survey:
    """One look, as saved. `figures`: what it came to, once it has ended."""

    id: int
    migration: str
    kind: str
    state: SurveyState
    phase: str
    cursor: str
    attempts: int
    figures: dict[str, Any]
    reason: str
    created_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class SeenRepository:
    """A repository with what it holds; `wave` is a position, -1 for none yet."""

    repository: str
    wave: int
    tags: int
    bytes: int
    unique_bytes: int


@dataclass(frozen=True, slots=True)
class SeenTag:
    """A tag of the source, what it names, and its name at the destination."""

    repository: str
    tag: str
    digest: str
    bytes: int
    destination_repository: str
    destination_tag: str
    entry: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one tag, or with a repository (`tag` is "" then)."""

    repository: str
    tag: str
    kind: str
    destination: str = ""
    wanted: str = ""
    found: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SeenBlob:
    """A blob or manifest that a repository needs; `image_bytes`: of an image's manifest, all of the image."""

    digest: str
    size: int
    image_bytes: int = 0


Findings = Sequence[Finding]


class SurveyStore:
    """The tables of looks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- begun, found, ended ---------------------------------------------------------------------

    def begin(self, migration: str, kind: str) -> None:
        """Have a look taken; while one of its kind is open, that one goes on. Raises Conflict.

        A freeze wants an inventory, a proof a freeze.
        """
        needs = {FREEZE: INVENTORY, PROOF: FREEZE}.get(kind)

        def work(connection: Connection) -> bool:
            latest = _latest(connection, migration)
            if kind in latest and latest[kind].state in OPEN:
                return False
            if needs and (needs not in latest or latest[needs].state is not SurveyState.ENDED):
                raise Conflict(
                    f"migration {migration} has no {needs} that has ended",
                    hint=f"transship migrations {needs} {migration}",
                )
            connection.execute(
                insert(migration_surveys).values(
                    migration=migration,
                    kind=kind,
                    state=SurveyState.PENDING,
                    phase=DESTINATION if kind == PROOF else REPOSITORIES,
                    created_at=now_epoch(),
                )
            )
            return True

        self._database.write(work)

    def latest(self, migration: str) -> dict[str, Survey]:
        """Return the newest look of each kind."""
        with self._database.read() as connection:
            return _latest(connection, migration)

    def due(self) -> list[tuple[Survey, Migration]]:
        """Return the open looks that may go on now: their migration is not paused."""
        query = (
            select(migration_surveys, migrations.c.spec)
            .join(migrations, migrations.c.name == migration_surveys.c.migration)
            .where(
                migration_surveys.c.state.in_(OPEN),
                migration_surveys.c.not_before <= now_epoch(),
                migrations.c.paused_at.is_(None),
            )
            .order_by(migration_surveys.c.id)
        )
        with self._database.read() as connection:
            return [(_survey(row), load_migration(row.spec)) for row in connection.execute(query)]

    def is_open(self, survey: int) -> bool:
        """Whether a look is still wanted now."""
        query = (
            select(migration_surveys.c.id)
            .join(migrations, migrations.c.name == migration_surveys.c.migration)
            .where(
                migration_surveys.c.id == survey,
                migration_surveys.c.state.in_(OPEN),
                migrations.c.paused_at.is_(None),
            )
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def advance(self, survey: int, phase: str) -> None:
        """Go on to a phase, from its beginning."""
        self._set(survey, phase=phase, cursor="", state=SurveyState.RUNNING)

    def postpone(self, survey: int, seconds: float, reason: str, *, counted: bool) -> None:
        """Go on later; `counted`: it is a failure in a row, of which there may be some only."""
        self._set(
            survey,
            not_before=now_epoch() + seconds,
            reason=reason,
            attempts=migration_surveys.c.attempts + (1 if counted else 0),
        )

    def note(self, survey: int, reason: str) -> None:
        """Say why a look does not move, where it does not; whoever moves it takes that away."""
        self._set(survey, reason=reason)

    def end(self, survey: int, figures: dict[str, Any]) -> None:
        """Say what a look came to; older ones of its kind are forgotten."""

        def work(connection: Connection) -> None:
            row = connection.execute(
                _this(survey)
                .values(
                    state=SurveyState.ENDED,
                    figures=json.dumps(figures),
                    reason="",
                    ended_at=now_epoch(),
                )
                .returning(migration_surveys.c.migration, migration_surveys.c.kind)
            ).first()
            if row is None:
                return
            connection.execute(
                update(migration_surveys)
                .where(
                    migration_surveys.c.migration == row.migration,
                    migration_surveys.c.kind == row.kind,
                    migration_surveys.c.id < survey,
                )
                .values(kind="", state=SurveyState.FAILED)
            )

        self._database.write(work)

    def fail(self, survey: int, reason: str) -> None:
        """Say why a look has no end."""
        self._set(survey, state=SurveyState.FAILED, reason=reason, ended_at=now_epoch())

    def _set(self, survey: int, **values: Any) -> None:
        self._database.write(
            lambda connection: connection.execute(_this(survey).values(**values)).rowcount
        )

    def forget_old(self) -> None:
        """Take away some rows of looks that nobody needs; to be called again and again."""
        old = select(migration_surveys.c.id).where(migration_surveys.c.kind == "").limit(1)
        with self._database.read() as connection:
            identity = connection.execute(old).scalar()
        if identity is None:
            return

        def work(connection: Connection) -> None:
            for table, columns in (
                (migration_tags, ("repository", "tag")),
                (migration_blobs, ("digest", "repository")),
            ):
                some = connection.execute(
                    select(*[table.c[name] for name in columns])
                    .where(table.c.survey == identity)
                    .order_by(*[table.c[name] for name in columns])
                    .offset(_FORGET_AT_ONCE)
                    .limit(1)
                ).first()
                gone = delete(table).where(table.c.survey == identity)
                if some is not None:
                    connection.execute(gone.where(table.c[columns[0]] < some[0]))
                    same = gone.where(table.c[columns[0]] == some[0])
                    connection.execute(same.where(table.c[columns[1]] < some[1]))
                    return
                connection.execute(gone)
            for table in (migration_repositories, migration_findings):
                connection.execute(delete(table).where(table.c.survey == identity))
            connection.execute(delete(migration_surveys).where(migration_surveys.c.id == identity))

        self._database.write(work)

    # ---- pages -----------------------------------------------------------------------------------

    def add_repositories(
        self, survey: int, names: Sequence[str], *, cursor: str, done: bool
    ) -> None:
        """Save a page of the source's list of repositories, and the cursor behind it. Raises Cancelled."""

        def work(connection: Connection) -> None:
            self._move(connection, survey, cursor=cursor, **({"phase": TAGS} if done else {}))
            for name in names:
                connection.execute(
                    upsert(connection, migration_repositories)
                    .values(survey=survey, repository=name)
                    .on_conflict_do_nothing()
                )

        self._database.write(work)

    def cursors(self, survey: int, *, after: str = "", limit: int) -> list[tuple[str, str]]:
        """Return repositories whose tags are not listed to the end, and where each stands."""
        one = migration_repositories.c
        query = (
            select(one.repository, one.cursor)
            .where(one.survey == survey, one.done.is_(False), one.repository > after)
            .order_by(one.repository)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.repository, row.cursor) for row in connection.execute(query)]

    def known(self, survey: int, repository: str, digests: Sequence[str]) -> dict[str, int]:
        """Return the bytes of those images that were read in a repository already."""
        one = migration_blobs.c
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for start in range(0, len(digests), _AT_ONCE):
                query = select(one.digest, one.image_bytes).where(
                    one.survey == survey,
                    one.repository == repository,
                    one.digest.in_(digests[start : start + _AT_ONCE]),
                    one.image_bytes > 0,
                )
                found.update((row.digest, row.image_bytes) for row in connection.execute(query))
        return found

    def add_page(
        self,
        survey: int,
        repository: str,
        *,
        tags: Iterable[SeenTag],
        blobs: Iterable[SeenBlob] = (),
        findings: Iterable[Finding] = (),
        cursor: str,
        done: bool,
    ) -> None:
        """Save what a page of a repository's tags has come to, and the cursor behind it. Raises Cancelled."""
        here, needed, wrong = list(tags), list(blobs), list(findings)

        def work(connection: Connection) -> None:
            self._move(connection, survey)
            for tag in here:
                values = {
                    "digest": tag.digest,
                    "bytes": tag.bytes,
                    "destination_repository": tag.destination_repository,
                    "destination_tag": tag.destination_tag,
                    "entry": tag.entry,
                }
                connection.execute(
                    upsert(connection, migration_tags)
                    .values(survey=survey, repository=repository, tag=tag.tag, **values)
                    .on_conflict_do_update(
                        index_elements=["survey", "repository", "tag"], set_=values
                    )
                )
            for blob in needed:
                statement = upsert(connection, migration_blobs).values(
                    survey=survey,
                    digest=blob.digest,
                    repository=repository,
                    size=blob.size,
                    image_bytes=blob.image_bytes,
                )
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["survey", "digest", "repository"],
                        set_={"image_bytes": statement.excluded.image_bytes},
                        where=migration_blobs.c.image_bytes == 0,
                    )
                )
            _add_findings(connection, survey, wrong)
            here_sums = _sums(connection, survey, repository) if done else {}
            connection.execute(
                update(migration_repositories)
                .where(
                    migration_repositories.c.survey == survey,
                    migration_repositories.c.repository == repository,
                )
                .values(cursor=cursor, done=done, **here_sums)
            )

        self._database.write(work)

    def add_findings(self, survey: int, findings: Findings, *, cursor: str) -> None:
        """Save what a page of a proof has found, and the cursor behind it. Raises Cancelled."""

        def work(connection: Connection) -> None:
            self._move(connection, survey, cursor=cursor)
            _add_findings(connection, survey, findings)

        self._database.write(work)

    @staticmethod
    def _move(connection: Connection, survey: int, **values: Any) -> None:
        """Note that a look goes on. Raises Cancelled when it is over."""
        moved = connection.execute(
            _this(survey).values(state=SurveyState.RUNNING, attempts=0, reason="", **values)
        )
        if moved.rowcount != 1:
            raise Cancelled

    # ---- reading ---------------------------------------------------------------------------------

    def repositories(
        self, survey: int, *, after: str = "", wave: int | None = None, limit: int = 1000
    ) -> list[SeenRepository]:
        """Return repositories by name, from the first one after `after`."""
        one = migration_repositories.c
        query = (
            select(one.repository, one.wave, one.tags, one.bytes, one.unique_bytes)
            .where(one.survey == survey, one.repository > after)
            .order_by(one.repository)
            .limit(limit)
        )
        if wave is not None:
            query = query.where(one.wave == wave)
        with self._database.read() as connection:
            return [SeenRepository(*row) for row in connection.execute(query)]

    def every_repository(self, survey: int, wave: int | None = None) -> Iterator[SeenRepository]:
        """Yield what `repositories` returns to the end, with only some hundreds in memory."""
        after = ""
        while page := self.repositories(survey, after=after, wave=wave, limit=_AT_ONCE):
            yield from page
            after = page[-1].repository

    def tags(self, survey: int, after: tuple[str, str], limit: int) -> list[SeenTag]:
        """Return tags by name, from the first one after `after`."""
        one = migration_tags.c
        query = (
            select(
                one.repository,
                one.tag,
                one.digest,
                one.bytes,
                one.destination_repository,
                one.destination_tag,
                one.entry,
            )
            .where(
                one.survey == survey,
                (one.repository > after[0]) | ((one.repository == after[0]) & (one.tag > after[1])),
            )
            .order_by(one.repository, one.tag)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [SeenTag(*row) for row in connection.execute(query)]

    def findings(
        self,
        survey: int,
        *,
        after: tuple[str, str, str] = ("", "", ""),
        kinds: Iterable[str] = (),
        limit: int = 1000,
    ) -> Findings:
        """Return what is wrong, by repository, tag and kind; `kinds`: only these."""
        one = migration_findings.c
        behind = (one.repository > after[0]) | (
            (one.repository == after[0])
            & ((one.tag > after[1]) | ((one.tag == after[1]) & (one.kind > after[2])))
        )
        query = (
            select(
                one.repository,
                one.tag,
                one.kind,
                one.destination,
                one.wanted,
                one.found,
                one.reason,
            )
            .where(one.survey == survey, behind)
            .order_by(one.repository, one.tag, one.kind)
            .limit(limit)
        )
        if wanted := list(kinds):
            query = query.where(one.kind.in_(wanted))
        with self._database.read() as connection:
            return [Finding(*row) for row in connection.execute(query)]

    def counts(self, survey: int) -> dict[str, int]:
        """Return how many findings there are of each kind."""
        one = migration_findings.c
        query = select(one.kind, func.count()).where(one.survey == survey).group_by(one.kind)
        with self._database.read() as connection:
            return {kind: int(count) for kind, count in connection.execute(query)}

    def totals(self, survey: int) -> dict[str, int]:
        """Return how much there is: repositories, tags, bytes as images count them, bytes each once."""
        one = migration_repositories.c
        sums = select(func.count(), func.sum(one.tags), func.sum(one.bytes)).where(
            one.survey == survey
        )
        blobs = (
            select(func.max(migration_blobs.c.size).label("size"))
            .where(migration_blobs.c.survey == survey)
            .group_by(migration_blobs.c.digest)
            .subquery()
        )
        with self._database.read() as connection:
            count, tags, size = connection.execute(sums).one()
            unique = connection.execute(select(func.sum(blobs.c.size))).scalar()
        return {
            "repositories": int(count or 0),
            "tags": int(tags or 0),
            "bytes": int(size or 0),
            "unique_bytes": int(unique or 0),
        }

    def progress(self, survey: int) -> tuple[int, dict[str, int]]:
        """Return how many repositories are listed to the end, and what is known of the fleet by now."""
        one = migration_repositories.c
        query = select(
            func.count(),
            func.sum(case((one.done, 1), else_=0)),
            func.sum(one.tags),
            func.sum(one.bytes),
        ).where(one.survey == survey)
        with self._database.read() as connection:
            count, listed, tags, size = connection.execute(query).one()
        fleet = {"repositories": int(count), "tags": int(tags or 0), "bytes": int(size or 0)}
        return int(listed or 0), fleet

    # ---- comparing -------------------------------------------------------------------------------

    def collisions(self, survey: int) -> Findings:
        """Return names at the destination that more than one source would get."""
        one = migration_tags.c
        twice = (
            select(one.destination_repository, one.destination_tag)
            .where(one.survey == survey)
            .group_by(one.destination_repository, one.destination_tag)
            .having(func.count() > 1)
            .limit(MAX_FINDINGS // 10)
        )
        found = []
        with self._database.read() as connection:
            for repository, tag in connection.execute(twice).all():
                query = (
                    select(one.repository, one.tag)
                    .where(
                        one.survey == survey,
                        one.destination_repository == repository,
                        one.destination_tag == tag,
                    )
                    .order_by(one.repository, one.tag)
                    .limit(2)
                )
                first, second = connection.execute(query).all()
                found.append(
                    Finding(
                        second.repository,
                        second.tag,
                        "collision",
                        f"{repository}:{tag}",
                        reason=f"{first.repository}:{first.tag} would get this name, too",
                    )
                )
        return found

    def changes(self, before: int, after: int) -> Findings:
        """Return what one look has found otherwise than an earlier one: tags pushed or removed since."""
        return [*self._pushed(before, after), *self._removed(before, after)]

    def _pushed(self, before: int, after: int) -> Iterator[Finding]:
        old, new = migration_tags.alias("old"), migration_tags.alias("new")
        query = (
            select(
                new.c.repository,
                new.c.tag,
                new.c.destination_repository,
                new.c.destination_tag,
                new.c.digest.label("found"),
                old.c.digest.label("wanted"),
            )
            .outerjoin(
                old,
                (old.c.survey == before)
                & (old.c.repository == new.c.repository)
                & (old.c.tag == new.c.tag),
            )
            .where(
                new.c.survey == after,
                old.c.digest.is_(None) | (old.c.digest != new.c.digest),
            )
            .limit(MAX_FINDINGS)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield Finding(
                    row.repository,
                    row.tag,
                    "pushed",
                    f"{row.destination_repository}:{row.destination_tag}",
                    row.wanted or "",
                    row.found,
                    "it was pushed to the source after the freeze",
                )

    def _removed(self, before: int, after: int) -> Iterator[Finding]:
        old, new, wrong = (
            migration_tags.alias("old"),
            migration_tags.alias("new"),
            migration_findings.alias("wrong"),
        )
        query = (
            select(
                old.c.repository,
                old.c.tag,
                old.c.destination_repository,
                old.c.destination_tag,
                old.c.digest,
            )
            .where(
                old.c.survey == before,
                ~exists().where(
                    new.c.survey == after,
                    new.c.repository == old.c.repository,
                    new.c.tag == old.c.tag,
                ),
                ~exists().where(  # what could not be read is told of as that
                    wrong.c.survey == after,
                    wrong.c.repository == old.c.repository,
                    wrong.c.tag.in_(["", old.c.tag]),
                    wrong.c.kind.in_(["unlisted", "unread"]),
                ),
            )
            .limit(MAX_FINDINGS)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield Finding(
                    row.repository,
                    row.tag,
                    "removed",
                    f"{row.destination_repository}:{row.destination_tag}",
                    row.digest,
                    reason="the source no longer has it",
                )


def _sums(connection: Connection, survey: int, repository: str) -> dict[str, int]:
    tags, blobs = migration_tags.c, migration_blobs.c
    count, size = connection.execute(
        select(func.count(), func.sum(tags.bytes)).where(
            tags.survey == survey, tags.repository == repository
        )
    ).one()
    unique = connection.execute(
        select(func.sum(blobs.size)).where(blobs.survey == survey, blobs.repository == repository)
    ).scalar()
    return {"tags": int(count), "bytes": int(size or 0), "unique_bytes": int(unique or 0)}


def _add_findings(connection: Connection, survey: int, findings: Iterable[Finding]) -> None:
    for one in findings:
        connection.execute(
            upsert(connection, migration_findings)
            .values(
                survey=survey,
                repository=one.repository,
                tag=one.tag,
                kind=one.kind,
                destination=one.destination,
                wanted=one.wanted,
                found=one.found,
                reason=one.reason,
            )
            .on_conflict_do_nothing()
        )


def _latest(connection: Connection, migration: str) -> dict[str, Survey]:
    query = select(migration_surveys).where(
        migration_surveys.c.migration == migration, migration_surveys.c.kind != ""
    )
    rows = connection.execute(query.order_by(migration_surveys.c.id))
    return {row.kind: _survey(row) for row in rows}


def _this(survey: int) -> Any:
    return update(migration_surveys).where(
        migration_surveys.c.id == survey, migration_surveys.c.state.in_(OPEN)
    )


def _survey(row: Row[Any]) -> Survey:
    return Survey(
        row.id,
        row.migration,
        row.kind,
        SurveyState(row.state),
        row.phase,
        row.cursor,
        row.attempts,
        json.loads(row.figures),
        row.reason,
        row.created_at,
        row.ended_at,
    )
