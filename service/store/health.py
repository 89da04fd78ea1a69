"""What is known of registries' health, and the pauses that it makes: those of people are left alone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from service.model.health import HEALTHY, UNHEALTHY, Health, Look, ToCheck
from service.model.selection import followers, members_of_groups
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.pauses import take_back
from service.store.tables import registries, rules, tokens
from service.store.tables_health import registry_health

FAILED_LOOKS = 2
"""So many checks in a row have to fail before copies are held back: one may have met a restart."""


class HealthStore:
    """The table of registries' health."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def to_check(self) -> list[ToCheck]:
        """Return the registries of rules that are enabled and not paused, and all that are held back.

        Left out are those that somebody paused, and those of far regions, whose workers have a database of
        their own.
        """
        far = select(tokens.c.region).where(
            tokens.c.role == "agent", tokens.c.region.is_not(None), tokens.c.revoked_at.is_(None)
        )
        query = (
            select(registries.c.endpoint, registry_health.c.state, registry_health.c.holds)
            .select_from(_WITH_HEALTH)
            .where(or_(registries.c.paused_at.is_(None), registry_health.c.holds))
            .order_by(registries.c.name)
        )
        active = select(rules.c.spec).where(rules.c.enabled, rules.c.paused_at.is_(None))
        with self._database.read() as connection:
            distant = set(connection.execute(far).scalars())
            rows = [
                (codec.load_endpoint(row.endpoint), row.state, row.holds)
                for row in connection.execute(query)
            ]
            specs = [codec.load_rule(spec) for spec in connection.execute(active).scalars()]
        members = members_of_groups(endpoint for endpoint, _, _ in rows)
        used = {rule.source for rule in specs}
        used.update(name for rule in specs for name in followers(rule, members))
        return [
            ToCheck(endpoint.name, endpoint.region, failing=state not in (None, HEALTHY))
            for endpoint, state, holds in rows
            if (endpoint.name in used or holds) and endpoint.region not in distant
        ]

    def note(self, look: Look) -> tuple[Health | None, Health | None]:
        """Keep what a check found; hold copies back, or let them go on.

        Only what was well before is held back: an address that never answered may be wrong, or out of this
        process's reach, and what meets it is to fail.

        Returns what was known before and what is known now; None: nothing, and the registry is gone.
        """

        def work(connection: Connection) -> tuple[Health | None, Health | None]:
            paused = connection.execute(
                select(registries.c.paused_at)
                .where(registries.c.name == look.registry)
                .with_for_update()
            ).first()
            if paused is None:
                return None, None
            before = _row(connection, look.registry)
            failures = 0
            if look.state == UNHEALTHY and before is not None:
                was_well = before.state == HEALTHY or before.failures > 0
                failures = before.failures + 1 if was_well else 0
            held = before is not None and bool(before.holds)
            by_person = paused.paused_at is not None and not held
            holds = not by_person and failures >= FAILED_LOOKS
            if holds != held and not by_person:
                connection.execute(
                    update(registries)
                    .where(registries.c.name == look.registry)
                    .values(paused_at=now_epoch() if holds else None)
                )
                if holds:
                    take_back(connection, look.registry)
            _save(connection, look, before, failures=failures, holds=holds)
            return _health(before), _health(_row(connection, look.registry))

        return self._database.write(work)

    def let_all_go(self) -> None:
        """Hold nothing back any more."""

        def work(connection: Connection) -> None:
            held = select(registry_health.c.registry).where(registry_health.c.holds)
            connection.execute(
                update(registries).where(registries.c.name.in_(held)).values(paused_at=None)
            )
            connection.execute(update(registry_health).values(holds=False, failures=0))

        self._database.write(work)


_WITH_HEALTH = registries.outerjoin(
    registry_health, registry_health.c.registry == registries.c.name
)


def _row(connection: Connection, registry: str) -> Row[Any] | None:
    query = select(registry_health).where(registry_health.c.registry == registry)
    return connection.execute(query).first()


def _save(
    connection: Connection, look: Look, before: Row[Any] | None, *, failures: int, holds: bool
) -> None:
    same = before is not None and before.state == look.state
    values = {
        "state": look.state,
        "since": before.since if same and before is not None else now_epoch(),
        "checked_at": now_epoch(),
        "failures": failures,
        "holds": holds,
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
