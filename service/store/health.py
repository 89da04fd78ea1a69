"""What is known of registries' health, and the pauses that it makes: those of people are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.model.health import HEALTHY, REFUSED, UNHEALTHY, Health, HealthState, Look, ToCheck
from service.model.selection import followers, members_of_groups
from service.store import codec
from service.store.clock import database_now, now_epoch
from service.store.database import Database, upsert
from service.store.pauses import take_back
from service.store.tables import registries, rules, tokens
from service.store.tables_health import registry_health

FAILED_LOOKS = 2
"""So many checks in a row have to fail before copies are held back: one may have met a restart.

A hold is ended by one good check, or by so many that are refused: what answers meanwhile may be a proxy.
"""


class HealthStore:
    """The table of registries' health."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def to_check(self) -> list[ToCheck]:
        """Return the registries of rules that are enabled and not paused, and all that are held back.

        Left out are those that somebody paused, and, unless they are held back, those of far regions.
        """
        far = select(tokens.c.region).where(
            tokens.c.role == "agent", tokens.c.region.is_not(None), tokens.c.revoked_at.is_(None)
        )
        query = (
            select(
                registries.c.endpoint,
                registry_health.c.state,
                registry_health.c.holds,
                registry_health.c.checked_at,
            )
            .select_from(_WITH_HEALTH)
            .where(or_(registries.c.paused_at.is_(None), registry_health.c.holds))
            .order_by(registries.c.name)
        )
        active = select(rules.c.spec).where(rules.c.enabled, rules.c.paused_at.is_(None))
        with self._database.read() as connection:
            distant = set(connection.execute(far).scalars())
            rows = [(codec.load_endpoint(row.endpoint), row) for row in connection.execute(query)]
            specs = [codec.load_rule(spec) for spec in connection.execute(active).scalars()]
        members = members_of_groups(endpoint for endpoint, _ in rows)
        used = {rule.source for rule in specs}
        used.update(name for rule in specs for name in followers(rule, members))
        return [
            ToCheck(
                endpoint.name,
                endpoint.region,
                failing=row.state not in (None, HEALTHY),
                holds=bool(row.holds),
                far=endpoint.region in distant,
                checked_at=row.checked_at,
            )
            for endpoint, row in rows
            if row.holds or (endpoint.name in used and endpoint.region not in distant)
        ]

    def note(self, look: Look, apart_seconds: float = 0.0) -> tuple[Health | None, Health | None]:
        """Keep what a check found; hold copies back, or let them go on.

        Only what was well before is held back: an address that never answered may be wrong, or out of this
        process's reach, and what meets it is to fail. Checks that are less than `apart_seconds` apart count once.

        Returns what was known before and what is known now; None: nothing, and the registry is gone, or
        was changed since it was asked.
        """

        def work(connection: Connection) -> tuple[Health | None, Health | None]:
            stored = connection.execute(
                select(registries.c.paused_at, registries.c.created_at, registries.c.version)
                .where(registries.c.name == look.registry)
                .with_for_update()
            ).first()
            if stored is None:
                return None, None
            if look.saved is not None and look.saved != (stored.created_at, stored.version):
                return None, None
            before = _row(connection, look.registry)
            held = before is not None and bool(before.holds)
            by_person = stored.paused_at is not None and not held
            found = _judge(look, before, database_now(connection), apart_seconds)
            holds = not by_person and found.holds
            if holds != held and not by_person:
                connection.execute(
                    update(registries)
                    .where(registries.c.name == look.registry)
                    .values(paused_at=now_epoch() if holds else None)
                )
                if holds:
                    take_back(connection, look.registry)
            _save(connection, look, before, found._replace(holds=holds))
            return _health(before), _health(_row(connection, look.registry))

        return self._database.write(work)

    def let_all_go(self) -> None:
        """Hold nothing back any more."""

        def work(connection: Connection) -> None:
            _let_go(connection, registry_health.c.holds)
            connection.execute(update(registry_health).values(failures=0))

        self._database.write(work)

    def let_go(self, names: Sequence[str]) -> None:
        """Hold these back no more; the next bad check of one does again."""
        mine = registry_health.c.registry.in_(names) & registry_health.c.holds
        self._database.write(lambda connection: _let_go(connection, mine))


def forget(connection: Connection, registry: str) -> None:
    """Forget how a registry was, and end the pause that was made for it."""
    mine = registry_health.c.registry == registry
    _let_go(connection, mine & registry_health.c.holds)
    connection.execute(delete(registry_health).where(mine))


_WITH_HEALTH = registries.outerjoin(
    registry_health, registry_health.c.registry == registries.c.name
)


class _Judgement(NamedTuple):
    state: HealthState
    failures: int
    """Checks in a row that failed, 1 at least from a good one to the next: 0 is a registry that was never well."""
    holds: bool


def _judge(look: Look, before: Row[Any] | None, now: float, apart_seconds: float) -> _Judgement:
    if before is None:
        return _Judgement(look.state, 0, holds=False)
    state = look.state
    if look.patience_seconds is not None and (
        before.state == REFUSED
        or (before.state == UNHEALTHY and now - before.since >= look.patience_seconds)
    ):
        state = REFUSED
    was_well = before.state == HEALTHY or before.failures > 0
    if state == HEALTHY or not was_well:
        return _Judgement(state, 0, holds=False)
    times = max(1, before.failures) if state == UNHEALTHY else 1
    # since the first one, not the last: looks in quick succession count in the end, too
    once_more = state == before.state and now - before.since < times * apart_seconds
    if state == REFUSED:
        ended = before.state == REFUSED and not once_more
        return _Judgement(state, max(1, before.failures), holds=bool(before.holds) and not ended)
    in_a_row = before.holds or before.state == UNHEALTHY
    failures = before.failures if in_a_row else 0
    failures += not once_more
    return _Judgement(state, failures, holds=failures >= FAILED_LOOKS)


def _let_go(connection: Connection, which: ColumnElement[bool]) -> None:
    held = select(registry_health.c.registry).where(which)
    connection.execute(update(registries).where(registries.c.name.in_(held)).values(paused_at=None))
    connection.execute(update(registry_health).where(which).values(holds=False))


def _row(connection: Connection, registry: str) -> Row[Any] | None:
    query = select(registry_health).where(registry_health.c.registry == registry)
    return connection.execute(query).first()


def _save(connection: Connection, look: Look, before: Row[Any] | None, found: _Judgement) -> None:
    same = before is not None and before.state == found.state
    values = {
        "state": found.state,
        "since": before.since if same and before is not None else now_epoch(),
        "checked_at": now_epoch(),
        "failures": found.failures,
        "holds": found.holds,
        "reason": look.reason,
    }
    connection.execute(
        upsert(connection, registry_health)
        .values(registry=look.registry, **values)
        .on_conflict_do_update(index_elements=["registry"], set_=values)
    )


def _health(row: Row[Any] | None) -> Health | None:
    if row is None:
        return None
    return Health(row.state, row.since, row.checked_at, row.reason, bool(row.holds))
