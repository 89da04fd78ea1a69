"""Looks at a fleet that is to move: page by page, each with the cursor behind it, so that any process goes on.

An inventory tells what there is and how large it is; a freeze what is to be there in the end; a proof
whether it is. No row of one is in memory for longer than its page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from service.errors import Cancelled, Conflict
from service.model.migration import FREEZE, INVENTORY, PROOF, Migration, SurveyState
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.migration_values import load_migration
from service.store.survey_reads import SurveyReads
from service.store.survey_values import (
    DESTINATION,
    OPEN,
    REPOSITORIES,
    TAGS,
    Finding,
    Findings,
    SeenBlob,
    SeenTag,
    Survey,
)
from service.store.tables_migrations import (
    migration_blobs,
    migration_findings,
    migration_repositories,
    migration_surveys,
    migration_tags,
    migrations,
)

_AT_ONCE = 500
_FORGET_AT_ONCE = 2000


class SurveyStore(SurveyReads):
    """The tables of looks."""

    # ---- begun, found, ended ---------------------------------------------------------------------

    def begin(self, migration: str, kind: str) -> None:
        """Have a look taken; while one of its kind is open, that one goes on. Raises Conflict.

        A freeze wants an inventory, a proof a freeze, and each stands on that one to its end: so none begins while one of
        another kind is open.
        """
        needs = {FREEZE: INVENTORY, PROOF: FREEZE}.get(kind)

        def work(connection: Connection) -> bool:
            mine = select(migrations.c.name).where(migrations.c.name == migration)
            connection.execute(mine.with_for_update()).first()  # who begins another one waits here
            latest = _latest(connection, migration)
            if kind in latest and latest[kind].state in OPEN:
                return False
            for other in latest.values():
                if other.state in OPEN:
                    raise Conflict(
                        f"the {other.kind} of migration {migration} is not at its end, and stands on what there is",
                        hint=f"wait until it has ended: transship migrations show {migration}",
                    )
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
                    figures=json.dumps({needs: latest[needs].id} if needs else {}),
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
            if names:
                connection.execute(
                    upsert(connection, migration_repositories).on_conflict_do_nothing(),
                    [{"survey": survey, "repository": name} for name in names],
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
            _put(connection, migration_tags, _TAG_KEY, [_tag_row(survey, one) for one in here])
            _put_blobs(connection, survey, repository, needed)
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


_TAG_KEY = ("survey", "repository", "tag")


def _tag_row(survey: int, tag: SeenTag) -> dict[str, Any]:
    return {
        "survey": survey,
        "repository": tag.repository,
        "tag": tag.tag,
        "digest": tag.digest,
        "bytes": tag.bytes,
        "destination_repository": tag.destination_repository,
        "destination_tag": tag.destination_tag,
        "entry": tag.entry,
    }


def _put(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Insert rows at once, over those that are there under their key."""
    if not rows:
        return
    statement = upsert(connection, table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(key), set_=others), list(rows)
    )


def _put_blobs(
    connection: Connection, survey: int, repository: str, blobs: Sequence[SeenBlob]
) -> None:
    """Insert what a repository needs at once; an image's manifest stays known as one."""
    if not blobs:
        return
    statement = upsert(connection, migration_blobs)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["survey", "digest", "repository"],
            set_={"image_bytes": statement.excluded.image_bytes},
            where=migration_blobs.c.image_bytes == 0,
        ),
        [
            {
                "survey": survey,
                "digest": blob.digest,
                "repository": repository,
                "size": blob.size,
                "image_bytes": blob.image_bytes,
            }
            for blob in blobs
        ],
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
