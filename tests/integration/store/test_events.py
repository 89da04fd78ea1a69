"""Hints are saved once, merged, held back for a moment, and handed to the rules that want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from service.errors import StoreUnavailable
from service.model.endpoint import RegistryEndpoint
from service.model.events.values import Action, Delivery, RegistryEvent
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.events import KEEP_KEYS_SECONDS, EventStore
from service.store.registries import RegistryStore
from service.store.rules import RuleStore
from service.store.tables import registries, rules, written_tags
from service.store.tables_events import event_keys, registry_events
from tests.integration.store.builders import in_threads
from tests.integration.store.conftest import OpenDatabase
from tests.support.processes import wait_until

D = "sha256:" + "ab" * 32


class Made:
    """Remembers what consume asked to be made."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[str, str]]]] = []

    def __call__(
        self, _: Connection, rule: SyncRule, refs: Sequence[tuple[str, str]], since: float
    ) -> None:
        assert since > 0
        self.calls.append((rule.name, sorted(refs)))


def push(repository: str = "team/app", tag: str | None = "v1", **more: Any) -> RegistryEvent:
    return RegistryEvent(Action.PUSHED, repository, tag, **more)


def told(*found: RegistryEvent, ignored: int = 0) -> Delivery:
    return Delivery(found, ignored)


def rule(name: str = "fleet", source: str = "east", to: str = "west", **more: Any) -> SyncRule:
    select_ = more.pop("select", (Selection(NameFilter(("team/**",))),))
    values = {"trigger": Trigger(event=True), **more}
    return SyncRule(name, source, select_, (Destination(registry=to),), **values)


@pytest.fixture
def rule_store(database: Database) -> RuleStore:
    store = RegistryStore(database, None)
    for name in ("east", "west", "south"):
        store.put(RegistryEndpoint(name, f"https://{name}.example"), document={})
    return RuleStore(database)


@pytest.fixture
def store(database: Database, rule_store: RuleStore) -> EventStore:
    return EventStore(database, debounce_seconds=0.0)


def save(store: RuleStore, *made: SyncRule) -> None:
    for one in made:
        store.put(one, document={})


def waiting(database: Database) -> int:
    with database.read() as connection:
        return int(
            connection.execute(select(func.count()).select_from(registry_events)).scalar_one()
        )


def test_hints_go_to_the_rules_that_want_them(store: EventStore, rule_store: RuleStore) -> None:
    save(
        rule_store,
        rule(),
        rule("other-source", source="west", to="south"),
        rule("other-names", select=(Selection(NameFilter(("shop/**",))),)),
        rule("by-hand", trigger=Trigger()),
        rule("disabled", enabled=False),
        rule("tags", select=(Selection(NameFilter(("team/app",)), NameFilter(("v*",))),)),
    )
    made = Made()
    store.accept("east", (), told(push(), push(tag="latest"), push("else/app")))

    assert store.consume(made) == 3
    assert sorted(made.calls) == [
        ("fleet", [("team/app", "latest"), ("team/app", "v1")]),
        ("tags", [("team/app", "v1")]),
    ]
    assert store.consume(made) == 0


def test_event_that_no_rule_wants_does_nothing(
    store: EventStore, rule_store: RuleStore, database: Database
) -> None:
    save(rule_store, rule())
    made = Made()

    assert store.accept("east", (), told(push("else/app"))) == (1, 0)
    assert store.consume(made) == 1

    assert made.calls == []
    assert waiting(database) == 0


def test_same_reference_is_one_hint_however_often_it_is_told(
    store: EventStore, rule_store: RuleStore, database: Database
) -> None:
    save(rule_store, rule())
    made = Made()
    for _ in range(50):
        store.accept("east", (), told(push(), push()))

    assert waiting(database) == 1
    store.consume(made)
    assert made.calls == [("fleet", [("team/app", "v1")])]


def test_replayed_key_is_ignored_and_replayed_nonce_refused(store: EventStore) -> None:
    delivery = told(push(key="k1"), push(tag="v2"), ignored=3)

    assert store.accept("east", ("n1",), delivery) == (2, 3)
    assert store.accept("east", ("n2",), delivery) == (1, 4)
    assert store.accept("east", ("n2",), delivery) is None
    assert store.accept("west", ("n2",), delivery) == (2, 3), "keys are a registry's own"


def test_replayed_nonce_saves_nothing(store: EventStore, database: Database) -> None:
    store.accept("east", ("n1",), told())

    assert store.accept("east", ("n0", "n1"), told(push())) is None
    assert waiting(database) == 0


def test_of_many_that_come_at_once_with_one_nonce_one_is_taken(
    store: EventStore, open_database: OpenDatabase
) -> None:
    stores = [EventStore(open_database()) for _ in range(4)]
    results: list[object] = []

    in_threads(8, lambda n: results.append(stores[n % 4].accept("east", ("n1",), told(push()))))

    assert sorted(results, key=str) == [(1, 0)] + [None] * 7


def test_first_hint_waits_for_others_and_a_storm_does_not_hold_it_back(
    database: Database, rule_store: RuleStore
) -> None:
    save(rule_store, rule())
    store = EventStore(database, debounce_seconds=2.0)
    made = Made()
    store.accept("east", (), told(push(tag="v1")))
    assert store.consume(made) == 0
    count = 0

    def storm() -> bool:
        nonlocal count
        count += 1
        store.accept("east", (), told(push(tag="v1"), push(tag=f"t{count}")))
        return store.consume(made) > 0

    wait_until(storm, 3, "the hints to be due")

    [(name, refs)] = made.calls
    assert name == "fleet"
    assert set(refs) == {("team/app", "v1")} | {("team/app", f"t{n + 1}") for n in range(count)}


def test_ten_thousand_are_taken_in_bounded_batches(
    store: EventStore, rule_store: RuleStore, database: Database
) -> None:
    save(rule_store, rule())
    made = Made()
    assert store.accept(
        "east", (), told(*(push(tag=f"t{n}", key=f"k{n}") for n in range(10_000)))
    ) == (10_000, 0)

    while store.consume(made, limit=1000):
        pass

    assert [len(refs) for _, refs in made.calls] == [1000] * 10
    assert len({ref for _, refs in made.calls for ref in refs}) == 10_000


def test_hints_are_bounded(rule_store: RuleStore, database: Database) -> None:
    store = EventStore(database, max_waiting=3)
    for number in range(4):
        store.accept("east", (), told(push(tag=f"t{number}")))

    with pytest.raises(StoreUnavailable, match="wait to be looked at"):
        store.accept("east", (), told(push(tag="t9")))
    assert store.accept("west", (), told(push())) == (1, 0)
    assert waiting(database) == 5


def test_hints_for_a_paused_rule_wait_and_others_have_theirs(
    store: EventStore, rule_store: RuleStore, database: Database
) -> None:
    save(rule_store, rule(), rule("other", to="south"))
    _set(database, rules, "fleet", paused_at=now_epoch())
    made = Made()
    store.accept("east", (), told(push()))
    store.consume(made)
    assert made.calls == [("other", [("team/app", "v1")])]
    assert store.consume(made) == 0

    _set(database, rules, "fleet", paused_at=None)
    store.consume(made)

    assert made.calls[1:] == [("fleet", [("team/app", "v1")])]
    assert waiting(database) == 0


def test_hints_of_a_paused_registry_wait(
    store: EventStore, rule_store: RuleStore, database: Database
) -> None:
    save(rule_store, rule())
    _set(database, registries, "east", paused_at=now_epoch())
    made = Made()
    store.accept("east", (), told(push()))
    assert store.consume(made) == 0

    _set(database, registries, "east", paused_at=None)
    store.consume(made)

    assert made.calls == [("fleet", [("team/app", "v1")])]


def test_rule_that_was_changed_is_read_anew(store: EventStore, rule_store: RuleStore) -> None:
    save(rule_store, rule())
    made = Made()
    store.accept("east", (), told(push()))
    store.consume(made)
    save(rule_store, rule(select=(Selection(NameFilter(("shop/**",))),)))

    store.accept("east", (), told(push(), push("shop/app")))
    store.consume(made)

    assert made.calls[1:] == [("fleet", [("shop/app", "v1")])]


@pytest.mark.parametrize("tag", [D.replace(":", "-"), D.replace(":", "-") + ".sig"])
def test_what_hangs_on_a_digest_is_no_image(
    store: EventStore, rule_store: RuleStore, tag: str
) -> None:
    save(rule_store, rule())
    made = Made()
    store.accept("east", (), told(push(tag=tag), push(tag=None, digest=D)))

    store.consume(made)

    assert made.calls == []


@pytest.mark.parametrize(
    ("changes", "taken"),
    [({}, True), ({"referrers": False}, False), ({"written_by": "other"}, False)],
    ids=["its image was written", "no referrers wanted", "by another rule"],
)
def test_signature_that_comes_after_its_image_is_looked_at(
    store: EventStore,
    rule_store: RuleStore,
    database: Database,
    changes: dict[str, Any],
    taken: bool,
) -> None:
    given = dict(changes)
    written_by = given.pop("written_by", "fleet")
    save(rule_store, rule(**given))
    _written(database, "west", written_by)
    made = Made()
    signature = D.replace(":", "-") + ".sig"
    store.accept("east", (), told(push(tag=signature), push("team/other", signature)))

    store.consume(made)

    assert made.calls == ([("fleet", [("team/app", signature)])] if taken else [])


def test_digest_that_a_rule_names_is_looked_at(store: EventStore, rule_store: RuleStore) -> None:
    named = (Selection(NameFilter(("team/app",)), NameFilter((D,))),)
    save(rule_store, rule(select=named), rule("all", to="south"))
    made = Made()
    store.accept("east", (), told(push(tag=None, digest=D)))

    store.consume(made)

    assert made.calls == [("fleet", [("team/app", D)])]


def test_deleted_tag_is_a_hint_like_any_other(store: EventStore, rule_store: RuleStore) -> None:
    save(rule_store, rule())
    made = Made()
    store.accept("east", (), told(RegistryEvent(Action.DELETED, "team/app", "v1")))

    store.consume(made)

    assert made.calls == [("fleet", [("team/app", "v1")])]


@pytest.mark.parametrize(
    ("ours", "to", "goes_on"),
    [(True, "east", False), (False, "east", True), (True, "south", True)],
    ids=["our push back", "a push of somebody else's", "our push onward"],
)
def test_our_own_push_goes_on_but_not_back(
    store: EventStore,
    rule_store: RuleStore,
    database: Database,
    ours: bool,
    to: str,
    goes_on: bool,
) -> None:
    save(rule_store, rule("there"), rule("next", source="west", to=to))
    _written(database, "west", "there")
    made = Made()
    store.accept("west", (), told(push(ours=ours)))

    store.consume(made)

    assert made.calls == ([("next", [("team/app", "v1")])] if goes_on else [])


def test_failing_make_loses_no_hint(store: EventStore, rule_store: RuleStore) -> None:
    save(rule_store, rule())
    store.accept("east", (), told(push()))

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.consume(fail)
    made = Made()
    store.consume(made)

    assert made.calls == [("fleet", [("team/app", "v1")])]


def test_old_keys_are_forgotten(store: EventStore, database: Database) -> None:
    store.accept("east", ("old", "young"), told())
    database.write(
        lambda connection: connection.execute(
            update(event_keys)
            .where(event_keys.c.key == "old")
            .values(seen_at=now_epoch() - KEEP_KEYS_SECONDS - 1)
        )
    )

    store.consume(Made())

    with database.read() as connection:
        assert connection.execute(select(event_keys.c.key)).scalars().all() == ["young"]


def _written(database: Database, registry: str, by: str) -> None:
    database.write(
        lambda connection: connection.execute(
            insert(written_tags).values(
                registry=registry,
                repository="team/app",
                tag="v1",
                digest=D,
                rule=by,
                source_repository="team/app",
                written_at=now_epoch(),
            )
        )
    )


def _set(database: Database, table: Any, name: str, **values: Any) -> None:
    database.write(
        lambda connection: connection.execute(
            update(table).where(table.c.name == name).values(**values)
        )
    )
