"""Which repository moves in which wave: by the waves' globs and sizes, in their order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, exists, func, select, update

from service.model.migration import MAX_IN_WAVE, Migration, Wave
from service.store.database import Database
from service.store.migration_surveys import SurveyStore
from service.store.survey_values import Finding, SeenRepository
from service.store.tables_migrations import (
    migration_blobs,
    migration_repositories,
    migration_waves,
)

NOT_YET = -1
AT_ONCE = 500


class WaveAssignment:
    """Deals the repositories of one inventory, or of one freeze, out to waves."""

    def __init__(self, database: Database, surveys: SurveyStore) -> None:
        self._database = database
        self._surveys = surveys

    def by_size(self, migration: Migration, survey: int) -> list[Finding]:
        """Give every repository of an inventory its wave; returns waves that are too large."""
        self._forget(survey)
        for position, wave in enumerate(migration.waves):
            if wave.max_bytes is None:
                self._take(survey, wave, position)
                continue
            taken = 0
            for one in self._surveys.every_repository(survey, NOT_YET):
                if wave.takes(one.repository):
                    more = self._more_bytes(survey, one.repository)
                    if taken and taken + more > wave.max_bytes:
                        break
                    taken += more
                    self._assign(survey, [one.repository], position)
        self._keep_figures(migration, survey)
        return self._too_large(migration, survey)

    def as_before(self, migration: Migration, survey: int, inventory: int) -> list[Finding]:
        """Give every repository of a freeze the wave that it had; new ones go by globs, or with the rest."""
        self._forget(survey)
        known = migration_repositories.alias("known")
        mine = migration_repositories
        old = (
            select(known.c.wave)
            .where(known.c.survey == inventory, known.c.repository == mine.c.repository)
            .scalar_subquery()
        )
        self._database.write(
            lambda connection: connection.execute(
                update(mine).where(mine.c.survey == survey).values(wave=func.coalesce(old, NOT_YET))
            )
        )
        for position, wave in enumerate(migration.waves):
            if wave.max_bytes is None:
                self._take(survey, wave, position)
        return self._too_large(migration, survey)

    def _forget(self, survey: int) -> None:
        statement = update(migration_repositories).where(migration_repositories.c.survey == survey)
        self._database.write(lambda connection: connection.execute(statement.values(wave=NOT_YET)))

    def _take(self, survey: int, wave: Wave, position: int) -> None:
        """Give a wave without a size all that its globs take of what is left."""
        for page in batched(self._surveys.every_repository(survey, NOT_YET), AT_ONCE):
            names = [one.repository for one in page if wave.takes(one.repository)]
            if names:
                self._assign(survey, names, position)

    def _assign(self, survey: int, names: Sequence[str], position: int) -> None:
        statement = update(migration_repositories).where(
            migration_repositories.c.survey == survey,
            migration_repositories.c.repository.in_(names),
        )
        self._database.write(lambda connection: connection.execute(statement.values(wave=position)))

    def _more_bytes(self, survey: int, repository: str) -> int:
        """Return the bytes that a repository adds to those that have a wave already."""
        mine, other = migration_blobs.alias("mine"), migration_blobs.alias("other")
        theirs = migration_repositories
        there = exists().where(
            other.c.survey == survey,
            other.c.digest == mine.c.digest,
            theirs.c.survey == survey,
            theirs.c.repository == other.c.repository,
            theirs.c.wave != NOT_YET,
        )
        query = select(func.sum(mine.c.size)).where(
            mine.c.survey == survey, mine.c.repository == repository, ~there
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    def _keep_figures(self, migration: Migration, survey: int) -> None:
        """Note how much each wave moves: a blob is of the first wave that needs it."""
        one, blob = migration_repositories.c, migration_blobs.c
        sums = (
            select(one.wave, func.count(), func.sum(one.tags), func.sum(one.bytes))
            .where(one.survey == survey)
            .group_by(one.wave)
        )
        first = (
            select(func.max(blob.size).label("size"), func.min(one.wave).label("wave"))
            .select_from(
                migration_blobs.join(
                    migration_repositories,
                    (one.survey == blob.survey) & (one.repository == blob.repository),
                )
            )
            .where(blob.survey == survey)
            .group_by(blob.digest)
            .subquery()
        )
        unique = select(first.c.wave, func.sum(first.c.size)).group_by(first.c.wave)
        with self._database.read() as connection:
            new = {wave: int(size) for wave, size in connection.execute(unique)}
            rows = {row[0]: row for row in connection.execute(sums)}

        def work(connection: Connection) -> None:
            for position in range(len(migration.waves)):
                _, count, tags, size = rows.get(position, (position, 0, 0, 0))
                figures: dict[str, Any] = {
                    "repositories": int(count),
                    "tags": int(tags or 0),
                    "bytes": int(size or 0),
                    "unique_bytes": new.get(position, 0),
                }
                connection.execute(
                    update(migration_waves)
                    .where(
                        migration_waves.c.migration == migration.name,
                        migration_waves.c.position == position,
                    )
                    .values(figures=json.dumps(figures))
                )

        self._database.write(work)

    def _too_large(self, migration: Migration, survey: int) -> list[Finding]:
        one = migration_repositories.c
        query = select(one.wave, func.count()).where(one.survey == survey).group_by(one.wave)
        with self._database.read() as connection:
            counts = {wave: int(count) for wave, count in connection.execute(query)}
        return [
            Finding(
                f"wave {wave.name}",
                "",
                "too_large",
                reason=f"{counts[position]} repositories; at most {MAX_IN_WAVE} move in one wave: "
                "write more waves",
            )
            for position, wave in enumerate(migration.waves)
            if counts.get(position, 0) > MAX_IN_WAVE
        ]


def batched(items: Iterable[SeenRepository], size: int) -> Iterator[list[SeenRepository]]:
    """Yield the items in lists of `size`, the last one shorter."""
    left = iter(items)
    while page := list(islice(left, size)):
        yield page
