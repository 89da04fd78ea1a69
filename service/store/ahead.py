"""What runs ahead of copies (docs/adr/0016): a part of SqlState."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import bindparam, select

from service.model.board import Need
from service.model.states import OPEN_COPIES
from service.model.work import CopyWork, Holder
from service.store import routes
from service.store.conditions import rule_is_paused
from service.store.database import Database
from service.store.tables import copies
from service.store.work_rows import RuleCache, copy_work, label


class AheadState:
    """Who waits for a copy, and whose blobs may be placed before it begins."""

    _database: Database
    _rules: RuleCache

    def needs(self, copy: int) -> dict[int, Need]:
        """Return the other copies of the same reference that have not ended and are best fed from destinations."""
        with self._database.read() as connection:
            found = connection.execute(routes.beside(), {"b_copy": copy}).all()
            if not found:
                return {}
            _, _, senders = self._rules.of(connection, found[0].execution_id)
        near = {row.id: senders.get(row.destination_registry, routes.ALONE).near for row in found}
        return {
            row.id: Need(
                row.destination_registry,
                row.region if row.is_served else "",
                label(row),
                tuple(near[row.id]),
            )
            for row in found
            if near[row.id]
        }

    def begin_ahead(self, copy: int, holder: int) -> CopyWork | None:
        """Return a copy that has not ended, to place blobs of it that are where another copy puts things."""
        with self._database.read() as connection:
            row = connection.execute(routes.going_on(), {"b_copy": copy}).first()
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

    def let_go(self, copy: int, near: Sequence[str]) -> bool:
        """Let a copy begin whose blobs are there, if its image is committed where it is best fed from."""
        return self._database.write(lambda c: routes.let_go_beside(c, copy, near))

    def is_open(self, copy: int) -> bool:
        """Whether a copy has not ended, and its rule is not paused."""
        with self._database.read() as connection:
            return connection.execute(_OPEN, {"b_id": copy}).first() is not None


_OPEN = select(copies.c.id).where(
    copies.c.id == bindparam("b_id"),
    copies.c.state.in_(OPEN_COPIES),
    ~rule_is_paused(copies.c.rule),
)
