"""What SQL knows of images that somebody pulls, for a gateway whose source does not answer."""

from __future__ import annotations

from sqlalchemy import or_, select

from service.model.gateway import ImagePlace
from service.model.states import CopyState
from service.store.database import Database
from service.store.tables import copies

_GOOD = (CopyState.COPIED, CopyState.UNCHANGED)
_MOST = 10_000


class PulledStore:
    """Reads by the index of a copy's source."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last_digest(self, registry: str, repository: str, reference: str) -> str:
        """Return the digest that a tag of a source was last copied with, ""; never."""
        query = (
            select(copies.c.digest)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_reference == reference,
                copies.c.source_registry == registry,
                copies.c.state.in_(_GOOD),
                copies.c.digest != "",
            )
            .order_by(copies.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return str(connection.execute(query).scalar() or "")

    def copied(self, registry: str, repository: str, digest: str) -> tuple[ImagePlace, ...]:
        """Return where an image of a source repository was copied to, the last time first."""
        query = (
            select(copies.c.destination_registry, copies.c.destination_repository)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_registry == registry,
                copies.c.digest == digest,
                copies.c.state.in_(_GOOD),
            )
            .order_by(copies.c.id.desc())
            .limit(100)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return tuple(dict.fromkeys((row[0], row[1]) for row in rows))

    def mapped(self, registry: str, repository: str) -> tuple[ImagePlace, ...]:
        """Return to which repositories something of a source repository was copied, 100 at most.

        Without those that something of another repository was to be copied to: that one's blobs may lie there.
        """
        places = (
            select(copies.c.destination_registry, copies.c.destination_repository)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_registry == registry,
                copies.c.state.in_(_GOOD),
            )
            .distinct()
            .limit(100)
            .subquery()
        )
        other = copies.alias()
        query = select(places).where(
            ~select(other.c.id)
            .where(
                other.c.destination_registry == places.c.destination_registry,
                other.c.destination_repository == places.c.destination_repository,
                or_(other.c.source_repository != repository, other.c.source_registry != registry),
            )
            .exists()
        )
        with self._database.read() as connection:
            return tuple((row[0], row[1]) for row in connection.execute(query))

    def tags(self, registry: str, repository: str) -> list[str]:
        """Return the tags of a source repository that were copied, 10,000 at most."""
        query = (
            select(copies.c.source_reference)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_registry == registry,
                copies.c.state.in_(_GOOD),
                ~copies.c.source_reference.contains(":"),
            )
            .distinct()
            .limit(_MOST)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def digests(self, registry: str, repository: str, limit: int) -> list[str]:
        """Return the digests of a source repository that were copied last, the newest first."""
        query = (
            select(copies.c.digest)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_registry == registry,
                copies.c.state.in_(_GOOD),
                copies.c.digest != "",
            )
            .order_by(copies.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return list(dict.fromkeys(connection.execute(query).scalars()))
