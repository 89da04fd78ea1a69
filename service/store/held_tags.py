"""Which names at destinations releases keep from everybody else (issue 6 point 8)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, tuple_

from service.model.release import BACK, ReleaseState
from service.store.tables_releases import release_tags, releases

Name = tuple[str, str, str]
"""Registry, repository and tag."""

_NAME = tuple_(release_tags.c.registry, release_tags.c.repository, release_tags.c.tag)
_TO_BE_PUT = frozenset({ReleaseState.FLIPPING, ReleaseState.FLIPPED, ReleaseState.CHECKING})

_HELD = select(*_NAME.clauses, release_tags.c.release).where(
    _NAME.in_(bindparam("b_names", expanding=True)), release_tags.c.tag != ""
)


def held_among(connection: Connection, names: Collection[Name]) -> dict[Name, str]:
    """Return those of the names that a release holds, each with the release's name."""
    found = connection.execute(_HELD, {"b_names": list(names)})
    return {(row[0], row[1], row[2]): row[3] for row in found}


@dataclass(frozen=True, slots=True)
class Hold:
    """A release that holds a name; `digest`: what it has to name now, "" nothing, None: nothing has moved yet."""

    release: str
    digest: str | None


def holds_on(connection: Connection, names: Collection[Name]) -> dict[Name, Hold]:
    """Return for names that releases hold which one has moved each last, or holds it last where none has."""
    query = (
        select(
            *_NAME.clauses,
            release_tags.c.release,
            release_tags.c.digest,
            release_tags.c.previous,
            releases.c.state,
        )
        .join(releases, releases.c.name == release_tags.c.release)
        .where(_NAME.in_(list(names)), release_tags.c.tag != "")
        .order_by(releases.c.changed_at)
    )
    found: dict[Name, Hold] = {}
    for row in connection.execute(query):
        name = (row[0], row[1], row[2])
        digest: str | None = row.digest if row.state in _TO_BE_PUT else None
        if row.state in BACK:
            digest = row.previous
        if digest is not None or name not in found:
            found[name] = Hold(row.release, digest)
    return found


def wanted_digest(connection: Connection, name: Name) -> str | None:
    """Return the digest that a name is to have by the release that moved it last.

    "": there is to be no such tag; None: no release has moved it.
    """
    query = (
        select(releases.c.state, release_tags.c.digest, release_tags.c.previous)
        .join(releases, releases.c.name == release_tags.c.release)
        .where(_NAME.in_([name]), releases.c.state.in_([*_TO_BE_PUT, *BACK]))
        .order_by(releases.c.changed_at.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    wanted: str | None = row.digest if row.state in _TO_BE_PUT else row.previous
    return wanted
