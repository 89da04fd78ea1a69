"""What looks at a fleet have found, read page by page; and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import case, exists, func, select

from service.store.database import Database
from service.store.survey_values import Finding, Findings, SeenRepository, SeenTag
from service.store.tables_migrations import (
    migration_blobs,
    migration_findings,
    migration_repositories,
    migration_tags,
)

MAX_FINDINGS = 10_000
"""So many changes of the source are told of one by one."""
MAX_COLLISIONS = 1000
_AT_ONCE = 500


class SurveyReads:
    """What is read of the tables of looks."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def places(self, survey: int, repository: str, digest: str) -> list[str]:
        """Return the repositories at the destination that a look has an image of a repository for."""
        one = migration_tags.c
        query = (
            select(one.destination_repository)
            .where(one.survey == survey, one.repository == repository, one.digest == digest)
            .distinct()
            .order_by(one.destination_repository)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

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
            .limit(MAX_COLLISIONS)
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
