"""How a release goes from state to state: one row that is locked, and a fence that rises with each step.

What the regions' workers have to do in a state are its parts; when the last one has ended, the next state
follows in the same transaction. A part keeps its owner over steps until that process lets go or is dead:
nobody sets a tag back that somebody else may still be putting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from service.errors import Conflict
from service.model.release import WORKING, ReleaseState, TagState
from service.store import outbox
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.tables_releases import release_parts, release_tags, releases

PENDING, SENT, ENDED = "pending", "sent", "ended"

_WINDOWS = {
    ReleaseState.FLIPPED: TagState.FLIPPED,
    ReleaseState.ROLLED_BACK: TagState.RESTORED,
    ReleaseState.MIXED: TagState.RESTORED,
}


def lock(connection: Connection, name: str) -> Row[Any] | None:
    """Return a release's row, which nobody else changes until the transaction ends."""
    return connection.execute(
        select(releases).where(releases.c.name == name).with_for_update()
    ).first()


def advance(
    connection: Connection,
    row: Row[Any] | None,
    state: ReleaseState,
    *,
    reason: str = "",
    regions: Sequence[str] | None = None,
    **values: Any,
) -> None:
    """Bring a locked release into a state, under a new fence, with a part for each region.

    `regions`: whose workers have something to do; None: those of its tags. Tells the webhooks when it rests.
    """
    if row is None:
        raise Conflict("the release is gone")
    fence = row.fence + 1
    if state is ReleaseState.ROLLING_BACK:  # its window is measured anew
        connection.execute(
            update(release_tags)
            .where(release_tags.c.release == row.name)
            .values(flipped_from=None, flipped_at=None)
        )
    if state in _WINDOWS:
        values["window_seconds"] = _window(connection, row.name, _WINDOWS[state])
    connection.execute(
        update(releases)
        .where(releases.c.name == row.name)
        .values(state=state, fence=fence, reason=reason, changed_at=now_epoch(), **values)
    )
    if state not in WORKING:
        unbegun = state in (ReleaseState.STAGED, ReleaseState.FLIPPED) and reason
        outbox.release_told(connection, row, ReleaseState.FAILED if unbegun else state, reason)
        return
    if regions is None:
        found = select(release_tags.c.region).where(release_tags.c.release == row.name).distinct()
        regions = [] if state is ReleaseState.STAGING else list(connection.execute(found).scalars())
    for region in sorted(regions):
        part = {"fence": fence, "state": PENDING, "sent_at": 0.0, "reason": ""}
        connection.execute(
            upsert(connection, release_parts)
            .values(release=row.name, region=region, **part)
            .on_conflict_do_update(index_elements=["release", "region"], set_=part)
        )


def open_parts(connection: Connection, name: str, fence: int) -> int:
    """Return how many parts of a release's present state have not ended."""
    query = select(func.count()).where(
        release_parts.c.release == name,
        release_parts.c.fence == fence,
        release_parts.c.state != ENDED,
    )
    return int(connection.execute(query).scalar_one())


def reasons(connection: Connection, name: str, fence: int) -> list[str]:
    """Return what the parts of a release's present state have found in the way, by region."""
    query = (
        select(release_parts.c.reason)
        .where(
            release_parts.c.release == name,
            release_parts.c.fence == fence,
            release_parts.c.reason != "",
        )
        .order_by(release_parts.c.region)
    )
    return list(connection.execute(query).scalars())


def _window(connection: Connection, name: str, state: TagState) -> float | None:
    """Return the seconds from the first PUT of a tag that was begun to the last that was answered."""
    first, last = connection.execute(
        select(func.min(release_tags.c.flipped_from), func.max(release_tags.c.flipped_at)).where(
            release_tags.c.release == name, release_tags.c.state == state
        )
    ).one()
    return None if first is None or last is None else max(0.0, float(last) - float(first))
