"""What runs ahead of copies that are held back (docs/adr/0016): a part of SqlState."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, select

from service.model.states import OPEN_COPIES
from service.model.work import CopyWork, Follower, Holder
from service.store import routes
from service.store.conditions import rule_is_paused
from service.store.database import Database
from service.store.tables import copies
from service.store.work_rows import RuleCache, copy_work, label


class AheadState:
    """Who waits for a copy, and whose blobs may be placed before it begins."""

    _database: Database
    _rules: RuleCache

    def followers(self, copy: int, *, beyond: str = "") -> list[Follower]:
        """Return the copies of the same reference that are held back and are best fed from where this one ends."""

        def is_fed(row: Any, near: tuple[str, ...]) -> bool:
            if row.here not in near or row.destination_registry == beyond:
                return False
            return not beyond or (row.via_registry == row.here and beyond not in near)

        with self._database.read() as connection:
            found = connection.execute(routes.beside(), {"b_copy": copy}).all()
            if not found:
                return []
            _, _, senders = self._rules.of(connection, found[0].execution_id)
        return [
            _follower(row)
            for row in found
            if is_fed(row, senders.get(row.destination_registry, routes.ALONE).near)
        ]

    def still_held(self, ids: Sequence[int]) -> list[Follower]:
        """Return those of some copies that are held back, in their order."""
        with self._database.read() as connection:
            rows = connection.execute(routes.among(), {"b_ids": list(ids)}).all()
        return sorted(map(_follower, rows), key=lambda follower: ids.index(follower.copy))

    def begin_ahead(self, copy: int, holder: int) -> CopyWork | None:
        """Return a copy that is held back, to place blobs of it that are where another copy puts things."""
        with self._database.read() as connection:
            row = connection.execute(routes.held(), {"b_copy": copy}).first()
            if row is None:
                return None
            there = connection.execute(select(copies).where(copies.c.id == holder)).first()
            rule, trigger, senders = self._rules.of(connection, row.execution_id)
        fed_by = senders.get(row.destination_registry, routes.ALONE).names
        same = ("execution_id", "source_repository", "source_reference")
        if there is None or there.destination_registry not in fed_by:
            return None
        if any(getattr(there, name) != getattr(row, name) for name in same):
            return None
        place = Holder(
            there.destination_registry, there.destination_repository, there.destination_reference
        )
        work = copy_work(row, rule, trigger, holders=(place,), routed=True)
        return replace(work, holder=place, ahead=True)

    def is_open(self, copy: int) -> bool:
        """Whether a copy has not ended, and its rule is not paused."""
        with self._database.read() as connection:
            return connection.execute(_OPEN, {"b_id": copy}).first() is not None


def _follower(row: Any) -> Follower:
    served = row.region if row.is_served else ""
    return Follower(row.id, row.destination_registry, served, label(row))


_OPEN = select(copies.c.id).where(
    copies.c.id == bindparam("b_id"),
    copies.c.state.in_(OPEN_COPIES),
    ~rule_is_paused(copies.c.rule),
)
