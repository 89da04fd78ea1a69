"""Releases as those who ask for them see them: made, looked at, flipped, rolled back, forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, text

from service.errors import Conflict, NotFoundInStore
from service.model.release import (
    ACTIONS,
    MOVING,
    ROLLBACK,
    ReleaseImage,
    ReleaseState,
    ReleaseTag,
    TagState,
    unchecked,
)
from service.model.rule import SyncRule
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.release_steps import advance, lock
from service.store.tables_releases import release_tags, releases

MOVES_LOCK = 0x7472616E72656C73
"""The advisory lock under which it is decided whose turn it is to move a tag."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release as saved. `window_seconds`: from the first to the last tag of its last flip or rollback."""

    name: str
    rule: SyncRule
    images: tuple[ReleaseImage, ...]
    state: ReleaseState
    fence: int
    execution: str
    reason: str
    window_seconds: float | None
    created_at: float
    changed_at: float


Tags = list[ReleaseTag]


class ReleaseStore:
    """The table of releases, and what may be asked of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, rule: SyncRule, images: Sequence[ReleaseImage], *, region: str
    ) -> Release:
        """Save a release to be staged; workers of `region`, its source's, say what it is made of.

        Without images it is of all that the rule takes. Raises Conflict when there is one of the name.
        """

        def work(connection: Connection) -> None:
            if connection.execute(select(releases.c.name).where(releases.c.name == name)).first():
                raise Conflict(
                    f"there is a release {name} already", hint="delete it, or choose another name"
                )
            connection.execute(
                insert(releases).values(
                    name=name,
                    rule=rule.name,
                    project=rule.project,
                    images=codec.dump([asdict(image) for image in images]),
                    spec=codec.dump(rule),
                    state=ReleaseState.RESOLVING,
                    fence=0,
                    created_at=now_epoch(),
                    changed_at=now_epoch(),
                )
            )
            advance(connection, lock(connection, name), ReleaseState.RESOLVING, regions=[region])

        self._database.write(work)
        return self.get(name)

    def get(self, name: str) -> Release:
        """Return one release. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(releases).where(releases.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no release named {name}")
        return as_release(row)

    def list(
        self,
        *,
        project: str | None = None,
        rule: str | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> list[Release]:
        """Return releases by name, from the first one after `after`."""
        query = select(releases).order_by(releases.c.name).limit(limit)
        for column, wanted in (("project", project), ("rule", rule)):
            if wanted is not None:
                query = query.where(releases.c[column] == wanted)
        if after is not None:
            query = query.where(releases.c.name > after)
        with self._database.read() as connection:
            return [as_release(row) for row in connection.execute(query)]

    def act(self, name: str, action: str, *, region: str, force: bool = False) -> Release:
        """Take one of ACTIONS; `region` is the source's. Raises NotFoundInStore, and Conflict.

        A Conflict says what is in the way: the state, or another release that moves the same tags now.
        `force`: a rollback does not look first whether all can go back; one may be forced while it looks.
        """
        allowed, step = ACTIONS[action]
        if force and action == ROLLBACK:
            allowed |= {ReleaseState.CHECKING}

        def work(connection: Connection) -> None:
            if (
                connection.dialect.name == "postgresql"
            ):  # SQLite's BEGIN IMMEDIATE has locked already
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MOVES_LOCK})"))
            row = lock(connection, name)
            if row is None:
                raise NotFoundInStore(f"there is no release named {name}")
            if row.state not in allowed:
                raise Conflict(
                    f"release {name} is {row.state}: {action} wants it {_either(allowed)}",
                    hint=f"transship release show {name}",
                )
            following = unchecked(step, ReleaseState(row.state), force=force)
            other = None if following not in MOVING else _mover(connection, name)
            if other is not None:
                raise Conflict(f"release {other} moves some of the same tags now", hint="wait")
            regions = [region] if following is ReleaseState.RESOLVING else None
            advance(connection, row, following, regions=regions)

        self._database.write(work)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Forget a release, and let its rule move its tags again.

        Raises NotFoundInStore, and Conflict while it moves tags.
        """

        def work(connection: Connection) -> None:
            row = lock(connection, name)
            if row is None:
                raise NotFoundInStore(f"there is no release named {name}")
            if row.state in MOVING:
                raise Conflict(f"release {name} is {row.state}", hint="wait until it is through")
            connection.execute(delete(releases).where(releases.c.name == name))

        self._database.write(work)

    def tags(self, name: str, *, after: int = 0, limit: int = 10_000) -> Tags:
        """Return what a release has at each destination, from the first one after number `after`."""
        query = (
            select(release_tags)
            .where(release_tags.c.release == name, release_tags.c.id > after)
            .order_by(release_tags.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [as_tag(row) for row in connection.execute(query)]

    def counts(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return for each release how many of its tags are in which state."""
        query = (
            select(release_tags.c.release, release_tags.c.state, func.count())
            .where(release_tags.c.release.in_(list(names)), release_tags.c.tag != "")
            .group_by(release_tags.c.release, release_tags.c.state)
        )
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for name, state, count in connection.execute(query):
                found.setdefault(name, {})[state] = int(count)
        return found


def as_release(row: Row[Any]) -> Release:
    """Return a row of releases as a value."""
    return Release(
        name=row.name,
        rule=codec.load_rule(row.spec),
        images=tuple(codec.load(ReleaseImage, one) for one in json.loads(row.images)),
        state=ReleaseState(row.state),
        fence=row.fence,
        execution=row.execution_id,
        reason=row.reason,
        window_seconds=row.window_seconds,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def as_tag(row: Row[Any]) -> ReleaseTag:
    """Return a row of release_tags as a value."""
    return ReleaseTag(
        id=row.id,
        source_repository=row.source_repository,
        registry=row.registry,
        region=row.region,
        repository=row.repository,
        tag=row.tag,
        digest=row.digest,
        platforms=tuple(json.loads(row.platforms)),
        previous=row.previous,
        state=TagState(row.state),
        reason=row.reason,
        flipped_from=row.flipped_from,
        flipped_at=row.flipped_at,
    )


def _either(states: Iterable[ReleaseState]) -> str:
    return " or ".join(sorted(state.value.replace("_", " ") for state in states))


def _mover(connection: Connection, name: str) -> str | None:
    """Return another release that moves tags of this one right now."""
    own, other = release_tags.alias("own"), release_tags.alias("other")
    query = (
        select(releases.c.name)
        .join(other, other.c.release == releases.c.name)
        .join(
            own,
            (own.c.registry == other.c.registry)
            & (own.c.repository == other.c.repository)
            & (own.c.tag == other.c.tag),
        )
        .where(
            own.c.release == name,
            own.c.tag != "",
            releases.c.name != name,
            releases.c.state.in_(MOVING),
        )
        .limit(1)
    )
    return connection.execute(query).scalar()
