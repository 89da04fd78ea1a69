"""Rules: versions, and due ones given to exactly one scheduler."""

from __future__ import annotations

import pytest

from service.errors import Conflict, NotFoundInStore
from service.model.rule import NameFilter, Selection
from service.store.database import Database
from service.store.rules import RuleStore
from service.store.tables import rules
from tests.integration.store.builders import Plot, a_rule, in_threads
from tests.integration.store.conftest import OpenDatabase


@pytest.fixture
def store(database: Database) -> RuleStore:
    return RuleStore(database)


def claim(store: RuleStore) -> list[str]:
    """What a scheduler does with due rules, without the executions."""
    return [due.rule for due in store.due() if store.advance(due.rule, due.due_at)]


def test_a_rule_reads_back_as_it_was_written(store: RuleStore) -> None:
    rule = a_rule(
        select=(
            Selection(NameFilter(("a/**",), ("a/tmp",)), NameFilter(("v*",)), to_repository="x"),
            Selection(),
        ),
        every=30.0,
        priority="bulk",
        on_empty="fail",
    )

    stored = store.put(rule, document={"source": "east"}, expected_version=0)

    assert stored.rule == rule
    assert stored.document == {"source": "east"}
    assert store.put(rule, document={}, expected_version=1).version == 2
    with pytest.raises(Conflict):
        store.put(rule, document={}, expected_version=1)
    store.delete("fleet")
    with pytest.raises(NotFoundInStore):
        store.get("fleet")
    with pytest.raises(NotFoundInStore):
        store.delete("fleet")


def test_every_due_rule_goes_to_one_scheduler(
    database: Database, open_database: OpenDatabase, plot: Plot
) -> None:
    stores = [RuleStore(database), *(RuleStore(open_database()) for _ in range(3))]
    names = [f"rule{number:02}" for number in range(20)]
    for name in names:
        stores[0].put(a_rule(name, every=3600.0), document={})

    for _ in range(2):
        claimed = in_threads(8, lambda number: claim(stores[number % 4]))
        assert sorted(name for one in claimed for name in one) == names
        assert claim(stores[0]) == []
        plot.ago(rules, "next_run_at", 4 * 3600)  # due four times over: still runs once


def test_only_enabled_rules_with_a_period_are_due(store: RuleStore) -> None:
    store.put(a_rule("by-hand"), document={})
    store.put(a_rule("off", every=1.0, enabled=False), document={})
    store.put(a_rule("on", every=3600.0), document={})

    assert claim(store) == ["on"]


def test_a_new_period_is_due_at_once_and_other_changes_keep_the_time(store: RuleStore) -> None:
    store.put(a_rule(every=3600.0), document={})
    assert claim(store) == ["fleet"]
    planned = store.get("fleet").next_run_at

    assert store.put(a_rule(every=3600.0, priority="bulk"), document={}).next_run_at == planned
    store.put(a_rule(every=60.0), document={})

    assert claim(store) == ["fleet"]
    assert store.put(a_rule(), document={}).next_run_at is None
