"""All that is known of one copy: its way, what it was tried for, and its blobs (issue 9, point 1)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from service.errors import NotFoundInStore
from service.model.states import BlobState, CopyState
from service.store.attempts import AttemptRecord, attempts_of
from service.store.database import Database
from service.store.executions import CopyRecord, as_copy
from service.store.tables import FAR, copies, copy_blobs

MOST_BLOBS = 1000
"""Blobs that one answer tells; the image of the most layers that is known has some hundreds."""

MOST_HOPS = 16


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """One blob of a copy that has fanned out; `size` in bytes, `updated_at` in seconds since 1970."""

    digest: str
    media_type: str
    size: int
    state: BlobState
    failure_class: str
    reason: str
    updated_at: float


@dataclass(frozen=True, slots=True)
class CopyDetail:
    """One copy whole.

    `read_from` is the name that its bytes are read at: the source, or the destination of another copy, which is
    `behind` (0: none). `route` are the registries from the source to the destination. `failures` count against its
    attempts, `throttles`, `replans` and `crashes` do not. `next_at`: when it is tried again; None where nothing says.
    `blobs_copied` and so on count blobs, `bytes_saved` what was not read thanks to sharing. `blobs` are those
    of a copy that has fanned out, at most MOST_BLOBS of `blobs_total`; a copy that one task carries out has none.
    `attempts` are its last ones, the oldest first; a copy that succeeded at once has none.
    """

    copy: CopyRecord
    region: str
    read_from: tuple[str, str, str]
    behind: int
    route: tuple[str, ...]
    failures: int
    throttles: int
    replans: int
    crashes: int
    next_at: float | None
    blobs_copied: int
    blobs_mounted: int
    blobs_present: int
    bytes_saved: int
    blobs: tuple[BlobRecord, ...]
    blobs_total: int
    attempts: tuple[AttemptRecord, ...]


class CopyDetails:
    """Reads single copies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, execution: str, identity: int) -> CopyDetail:
        """Return one copy of an execution. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(
                select(copies).where(copies.c.id == identity, copies.c.execution_id == execution)
            ).first()
            if row is None:
                raise NotFoundInStore(
                    f"execution {execution} has no copy {identity}",
                    hint=f"list them: transship executions log {execution}",
                )
            behind, between = _way(connection, row.id)
            blobs = connection.execute(
                select(copy_blobs)
                .where(copy_blobs.c.copy_id == identity)
                .order_by(copy_blobs.c.part, copy_blobs.c.digest)
                .limit(MOST_BLOBS)
            ).all()
            tried = attempts_of(connection, identity)
            total = connection.execute(
                select(func.count()).where(copy_blobs.c.copy_id == identity)
            ).scalar_one()
        via = (row.via_registry, row.via_repository, row.via_reference)
        source = (row.source_registry, row.source_repository, row.source_reference)
        waits = row.state == CopyState.PENDING and 0 < row.not_before < FAR
        return CopyDetail(
            copy=as_copy(row),
            region=row.region,
            read_from=via if row.via_registry else source,
            behind=behind,
            route=(row.source_registry, *between, row.destination_registry),
            failures=row.failures,
            throttles=row.throttles,
            replans=row.replans,
            crashes=row.crashes,
            next_at=row.not_before if waits else None,
            blobs_copied=row.blobs_copied,
            blobs_mounted=row.blobs_mounted,
            blobs_present=row.blobs_present,
            bytes_saved=row.bytes_saved,
            blobs=tuple(
                BlobRecord(
                    one.digest,
                    one.media_type,
                    one.size,
                    BlobState(one.state),
                    one.failure_class,
                    one.reason,
                    one.updated_at,
                )
                for one in blobs
            ),
            blobs_total=total,
            attempts=tried,
        )


def _way(connection: Connection, identity: int) -> tuple[int, list[str]]:
    """Return the copy that this one goes on from (0: none), and the registries between source and destination."""
    behind = 0
    between: list[str] = []
    at = identity
    for hop in range(MOST_HOPS):
        row = connection.execute(
            select(
                copies.c.execution_id,
                copies.c.via_registry,
                copies.c.via_repository,
                copies.c.via_reference,
            ).where(copies.c.id == at)
        ).one()
        if not row.via_registry:
            break
        between.insert(0, row.via_registry)
        at = connection.execute(
            select(func.coalesce(func.max(copies.c.id), 0)).where(
                copies.c.execution_id == row.execution_id,
                copies.c.destination_registry == row.via_registry,
                copies.c.destination_repository == row.via_repository,
                copies.c.destination_reference == row.via_reference,
            )
        ).scalar_one()
        behind = behind if hop else at
        if not at:  # it was in place before: how it came there is not known any more
            break
    return behind, between
