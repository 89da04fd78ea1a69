"""Hints from registries: written before they are answered for, merged, and handed to rules.

A hint is "look at this reference": one row however often it is told, consumed by all rules whose
source is the registry. Losing one costs latency only: schedules look at everything anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

from service.errors import StoreUnavailable
from service.model.events.values import Delivery, RegistryEvent
from service.model.reference import is_digest_tag
from service.model.rule import SyncRule
from service.model.selection import RuleSelector, is_digest
from service.protections import without
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.flows import causes_of, going_round, note_causes
from service.store.pipeline_pushes import note_pushes
from service.store.tables import registries, rules, written_tags
from service.store.tables_events import event_keys, hooks, registry_events
from service.telemetry import get_logger

log = get_logger("events")

MAX_WAITING = 100_000  # hints of one registry that nobody took yet
KEEP_KEYS_SECONDS = 3 * 86400.0  # longer than any sender repeats a delivery
PRUNE_SECONDS = 60.0
_ROWS = 400  # of one statement: SQLite takes 32,766 values

Refs = Sequence[tuple[str, str]]
Make = Callable[[Connection, SyncRule, Refs, float], object]


class EventStore:
    """The tables of hints and of what was seen before."""

    def __init__(
        self,
        database: Database,
        *,
        debounce_seconds: float = 0.3,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`debounce_seconds`: how long the first hint of a registry waits for others."""
        self._database = database
        self._max_waiting = max_waiting
        self._debounce = debounce_seconds
        self._selectors: dict[str, tuple[int, RuleSelector]] = {}
        self._next_prune = 0.0

    # ---- in ----------------------------------------------------------------------------------

    def accept(
        self, registry: str, nonces: Sequence[str], delivery: Delivery
    ) -> tuple[int, int] | None:
        """Save a notification durably; returns how many hints it had and how many were ignored.

        None: one of the nonces was seen before, nothing was saved. An event whose key was seen
        before is ignored. Raises StoreUnavailable when too many hints wait already.
        """

        def work(connection: Connection) -> tuple[int, int] | None:
            if len(_fresh(connection, registry, nonces)) < len(nonces):
                return None
            fresh = _fresh(connection, registry, {e.key for e in delivery.events if e.key})
            taken = [e for e in delivery.events if not e.key or e.key in fresh]
            _save(connection, registry, taken)
            connection.execute(
                update(hooks)
                .where(hooks.c.registry == registry)
                .values(
                    received_at=now_epoch(),
                    **({"notice": delivery.notice} if delivery.notice else {}),
                )
            )
            return len(taken), delivery.ignored + len(delivery.events) - len(taken)

        if delivery.events and self._is_full(registry):
            raise StoreUnavailable(
                f"{self._max_waiting} hints of {registry} wait to be looked at",
                hint="check that the scheduler runs",
            )
        return self._database.write(work)

    def _is_full(self, registry: str) -> bool:
        query = (
            select(registry_events.c.repository)
            .where(registry_events.c.registry == registry)
            .offset(self._max_waiting)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    # ---- out ---------------------------------------------------------------------------------

    def consume(self, make: Make, *, limit: int = 1000) -> int:
        """Hand what is due to the rules that want it; returns how many hints were consumed.

        One write transaction: `make(connection, rule, [(repository, reference), ...], since)` is
        called once for each rule, must do SQL only, and may return an execution; then the hints are gone. `since`: when the oldest came. Hints of a paused
        registry, and those for a paused rule, wait.
        """
        self._prune()
        with self._database.read() as connection:
            if connection.execute(_waiting(self._debounce).limit(1)).first() is None:
                return 0

        def work(connection: Connection) -> int:
            due = connection.execute(
                _waiting(self._debounce).limit(limit).with_for_update(skip_locked=True)
            ).all()
            wanted = self._wanted(connection, due)
            for rule, paused, refs in wanted:
                if paused:
                    _keep(connection, rule.name, refs)
                else:
                    _start(connection, make, rule, refs)
            note_pushes(connection, due)
            _delete(connection, due)
            return len(due)

        return self._database.write(work)

    def _wanted(
        self, connection: Connection, due: Sequence[Row[Any]]
    ) -> list[tuple[SyncRule, bool, list[Row[Any]]]]:
        """Return rules, whether each is paused, and the hints that it wants, each once."""
        by_registry: dict[str, list[Row[Any]]] = {}
        for row in due:
            by_registry.setdefault(row.registry, []).append(row)
        wanted = []
        for name, paused, selector in self._listening(connection):
            refs = {
                (row.repository, row.reference): row
                for row in by_registry.get(selector.rule.source, ())
                if row.rule in {"", name}
                and _wants(connection, selector, row)
                and not (row.ours and _only_back(connection, selector.rule, row))
            }
            if refs:
                wanted.append((selector.rule, paused, list(refs.values())))
        return wanted

    def _listening(self, connection: Connection) -> list[tuple[str, bool, RuleSelector]]:
        """Return the enabled rules that listen to events; patterns are compiled once a version."""
        versions = connection.execute(
            select(rules.c.name, rules.c.version, rules.c.paused_at).where(rules.c.enabled)
        ).all()
        known = dict(self._selectors)
        stale = [row.name for row in versions if known.get(row.name, (0,))[0] != row.version]
        for start in range(0, len(stale), _ROWS):
            for row in connection.execute(
                select(rules.c.name, rules.c.version, rules.c.spec).where(
                    rules.c.name.in_(stale[start : start + _ROWS])
                )
            ):
                known[row.name] = (row.version, RuleSelector(codec.load_rule(row.spec)))
        self._selectors = {row.name: known[row.name] for row in versions if row.name in known}
        return [
            (row.name, row.paused_at is not None, self._selectors[row.name][1])
            for row in versions
            if row.name in self._selectors and self._selectors[row.name][1].rule.trigger.event
        ]

    def _prune(self) -> None:
        """Forget old keys, and what was kept for rules that are gone, once a minute."""
        now = time.monotonic()
        if now < self._next_prune:
            return
        self._next_prune = now + PRUNE_SECONDS

        def work(connection: Connection) -> None:
            connection.execute(
                delete(event_keys).where(event_keys.c.seen_at < now_epoch() - KEEP_KEYS_SECONDS)
            )
            connection.execute(
                delete(registry_events).where(
                    registry_events.c.rule != "",
                    registry_events.c.rule.not_in(select(rules.c.name)),
                )
            )

        self._database.write(work)


def _fresh(connection: Connection, registry: str, keys: Iterable[str]) -> set[str]:
    """Note keys as seen; returns those that were not before."""
    ordered = sorted(set(keys))
    if without("replay"):
        return set(ordered)
    fresh: set[str] = set()
    for start in range(0, len(ordered), _ROWS):
        made = connection.execute(
            upsert(connection, event_keys)
            .values(
                [
                    {"registry": registry, "key": key, "seen_at": now_epoch()}
                    for key in ordered[start : start + _ROWS]
                ]
            )
            .on_conflict_do_nothing()
            .returning(event_keys.c.key)
        )
        fresh.update(made.scalars())
    return fresh


def _save(connection: Connection, registry: str, events: Iterable[RegistryEvent]) -> None:
    """Write hints; one that waits already keeps its time, so that a storm delays nothing."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        place = (event.repository, event.tag or event.digest or "")
        before = merged.pop(place, None)
        merged[place] = {
            "registry": registry,
            "repository": place[0],
            "reference": place[1],
            "rule": "",
            "action": event.action.value,
            "ours": event.ours and (before is None or before["ours"]),
            "digest": event.digest or "",
            "received_at": now_epoch(),
        }
    rows = sorted(merged.values(), key=lambda row: (row["repository"], row["reference"]))
    for start in range(0, len(rows), _ROWS):
        statement = upsert(connection, registry_events).values(rows[start : start + _ROWS])
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["registry", "repository", "reference", "rule"],
                set_={
                    "action": statement.excluded.action,
                    "digest": statement.excluded.digest,
                    "ours": and_(registry_events.c.ours, statement.excluded.ours),
                },
            )
        )


def _waiting(debounce_seconds: float) -> Any:
    """Return the query of due hints: all of a registry, once its first has waited long enough."""
    first = (
        select(registry_events.c.registry)
        .where(registry_events.c.rule == "")
        .group_by(registry_events.c.registry)
        .having(func.min(registry_events.c.received_at) <= now_epoch() - debounce_seconds)
    )
    paused_registries = select(registries.c.name).where(registries.c.paused_at.is_not(None))
    going_rules = select(rules.c.name).where(rules.c.paused_at.is_(None), rules.c.enabled)
    return (
        select(registry_events)
        .where(
            registry_events.c.registry.not_in(paused_registries),
            or_(
                and_(registry_events.c.rule == "", registry_events.c.registry.in_(first)),
                registry_events.c.rule.in_(going_rules),
            ),
        )
        .order_by(registry_events.c.received_at, registry_events.c.reference)
    )


def _wants(connection: Connection, selector: RuleSelector, row: Row[Any]) -> bool:
    """Whether a rule takes what the hint names: a digest only where the rule names that one."""
    if is_digest(row.reference):
        return row.reference in (selector.exact_tags(row.repository) or ())
    if is_digest_tag(row.reference):
        return _follows(connection, selector, row)
    return selector.wants(row.repository, row.reference)


def _follows(connection: Connection, selector: RuleSelector, row: Row[Any]) -> bool:
    """Whether a signature's tag belongs to an image that the rule has written already.

    One that comes before its image is copied with it.
    """
    rule = selector.rule
    if not rule.referrers or not selector.wants_repository(row.repository):
        return False
    algorithm, _, rest = row.reference.partition("-")
    digest = f"{algorithm}:{rest.partition('.')[0]}"
    written = select(written_tags.c.tag).where(
        written_tags.c.rule == rule.name,
        written_tags.c.digest == digest,
        written_tags.c.source_repository == row.repository,
    )
    return connection.execute(written.limit(1)).first() is not None


def _only_back(connection: Connection, rule: SyncRule, row: Row[Any]) -> bool:
    """Whether a push of ours would only go back to where it came from (rules A to B and B to A)."""
    spec = connection.execute(
        select(rules.c.spec)
        .join(written_tags, written_tags.c.rule == rules.c.name)
        .where(
            written_tags.c.registry == row.registry,
            written_tags.c.repository == row.repository,
            written_tags.c.tag == row.reference,
        )
    ).scalar_one_or_none()
    if spec is None:
        return False
    origin = codec.load_rule(spec).source
    return all(destination.registry == origin for destination in rule.destinations)


def _start(connection: Connection, make: Make, rule: SyncRule, refs: Sequence[Row[Any]]) -> None:
    """Start an execution of what hints name, but of what goes round by the rule again and again."""
    causes = causes_of(connection, refs)
    round_and_round = going_round(connection, rule.name, causes.values())
    names = [(row.repository, row.reference) for row in refs]
    held = [one for one in names if causes.get(one) in round_and_round]
    if held:
        log.warning("loop_held_off", rule=rule.name, reference=":".join(held[0]), held=len(held))
        names = [one for one in names if one not in set(held)]
    if not names:
        return
    made = make(connection, rule, names, min(row.received_at for row in refs))
    if isinstance(made, str):
        note_causes(connection, made, [causes[one] for one in names if one in causes])


def _keep(connection: Connection, rule: str, refs: Iterable[Row[Any]]) -> None:
    """Keep hints for a rule that is paused, until it goes on."""
    rows = [{**row._asdict(), "rule": rule} for row in refs]
    for start in range(0, len(rows), _ROWS):
        connection.execute(
            upsert(connection, registry_events)
            .values(rows[start : start + _ROWS])
            .on_conflict_do_nothing()
        )


def _delete(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    key = registry_events.c
    for row in rows:
        connection.execute(
            delete(registry_events).where(
                key.registry == row.registry,
                key.repository == row.repository,
                key.reference == row.reference,
                key.rule == row.rule,
            )
        )
