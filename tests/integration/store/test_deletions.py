"""Deletions in SQL, on both databases: what is looked at, what it is held to, who decides once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, insert, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.rule import DeletePolicy, SyncRule
from service.model.states import CopyState
from service.model.work import CopyEnded, Counters
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.deletion_values import (
    DELETED,
    FAILED,
    PENDING,
    WAITING,
    Scan,
    WrittenTag,
    mark_seen,
)
from service.store.deletions import DeletionStore
from service.store.rules import RuleStore
from service.store.tables import executions, rules, selections, written_tags
from tests.integration.store.builders import Plot, a_digest, a_rule, in_threads, selected

POLICY = DeletePolicy(enabled=True, grace_seconds=0, cap_percent=10)


@pytest.fixture
def store(database: Database) -> DeletionStore:
    return DeletionStore(database)


@pytest.fixture
def rule(database: Database) -> SyncRule:
    saved = a_rule(delete=POLICY)
    RuleStore(database).put(saved, document={})
    return saved


def write(database: Database, *names: str, rule: str = "fleet", seen_in: str = "0") -> None:
    """Say that Transship wrote these repository:tag."""
    rows = [
        {
            "registry": "west",
            "repository": f"mirror/{repository}",
            "tag": tag,
            "digest": a_digest(tag),
            "rule": rule,
            "source_registry": "east",
            "source_repository": repository,
            "source_reference": tag,
            "seen_in": seen_in,
            "written_at": 1.0,
        }
        for repository, _, tag in (name.rpartition(":") for name in names)
    ]
    database.write(lambda connection: connection.execute(insert(written_tags), rows))


def succeed(database: Database, execution: str, *, matched: int = 1) -> None:
    def work(connection: Connection) -> None:
        connection.execute(
            update(executions).where(executions.c.id == execution).values(state="succeeded")
        )
        connection.execute(
            update(selections).where(selections.c.execution_id == execution).values(matched=matched)
        )

    database.write(work)


def a_deletion(store: DeletionStore, rule: SyncRule, *tags: WrittenTag) -> str:
    identity = store.begin(Scan(rule, "f"), "west")
    store.add(identity, tags, alarming=False)
    store.looked(identity)
    return identity


def all_of(store: DeletionStore, scan: Scan) -> list[WrittenTag]:
    return [tag for group in store.candidates(scan, "west") for tag in group]


def test_a_scan_is_due_after_a_full_success_that_matched_something_and_once(
    store: DeletionStore, rule: SyncRule, plot: Plot, database: Database
) -> None:
    execution = plot.execution(delete=POLICY)
    assert store.due_scans() == []
    succeed(database, execution, matched=0)
    assert store.due_scans() == []
    succeed(database, execution, matched=2)

    (scan,) = store.due_scans()

    assert scan == Scan(rule, execution)
    store.scanned(scan)
    store.scanned(scan)
    assert store.due_scans() == []
    plot.execution(delete=POLICY)  # a newer one runs: its marks are not all set yet
    assert store.due_scans() == []


def test_a_rule_that_does_not_delete_is_never_scanned(
    store: DeletionStore, plot: Plot, database: Database
) -> None:
    for saved in (a_rule(), a_rule("off", delete=POLICY, enabled=False)):
        RuleStore(database).put(saved, document={})
        succeed(database, plot.execution(saved.name, delete=saved.delete))

    assert store.due_scans() == []


def test_candidates_are_what_a_run_did_not_see_and_come_by_source_repository(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    many = [f"a/{letter}:v{number}" for letter in "cab" for number in range(400)]
    write(database, *many)
    write(database, "a/a:other", rule="other")
    seen = [("west", "mirror/a/a", f"v{number}") for number in range(400)]
    database.write(lambda connection: mark_seen(connection, "5", seen))

    groups = list(store.candidates(Scan(rule, "5"), "west"))

    assert [group[0].source_repository for group in groups] == ["a/b", "a/c"]
    assert [len(group) for group in groups] == [400, 400]
    assert list(store.candidates(Scan(rule, "5"), "north")) == []


def test_tags_may_be_forgotten_while_they_are_read(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, *(f"a/{letter}:v{number}" for letter in "abc" for number in range(300)))

    read = 0
    for group in store.candidates(Scan(rule, "5"), "west"):
        read += len(group)
        store.forget("west", group)

    assert read == 900
    assert all_of(store, Scan(rule, "5")) == []


def test_what_is_under_way_or_failed_a_while_ago_is_no_candidate(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, "a/a:v1", "a/a:v2", "a/a:v3")
    scan = Scan(rule, "5")
    first, second, third = all_of(store, scan)
    identity = a_deletion(store, rule, first, second)
    assert all_of(store, scan) == [third]

    assert store.decide(identity) == PENDING
    (due,) = store.due()
    store.settle(due, first, FAILED, failure_class="invalid", reason="no")
    store.settle(due, second, DELETED, forget=True)
    assert store.end(due, again_seconds=60) == "done"

    assert all_of(store, scan) == [third]
    assert store.get(identity).finished_at is not None


def test_a_deletion_is_decided_once_whoever_asks(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, *(f"a/a:v{number}" for number in range(30)))
    identity = a_deletion(store, rule, *all_of(store, Scan(rule, "5")))

    assert sorted(in_threads(4, lambda _: store.decide(identity))) == ["", "", "", WAITING]

    def approve(number: int) -> str:
        try:
            return store.approve(identity, by=f"p{number}").decided_by
        except Conflict:
            return ""

    winners = [name for name in in_threads(4, approve) if name]
    assert len(winners) == 1
    assert store.get(identity).decided_by == winners[0]
    assert [one.id for one in store.due()] == [identity]


def test_undone_tags_are_nobodys_any_more(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, "a/a:v1", "a/a:v2")
    first, second = all_of(store, Scan(rule, "5"))
    identity = a_deletion(store, rule, first)

    store.cancel(identity, by="ann", reason="no")

    assert all_of(store, Scan(rule, "5")) == [second]
    assert not store.owned("west", first)
    assert store.owned("west", second)
    for verb in (store.cancel, store.approve):
        with pytest.raises(Conflict):
            verb(identity, by="ann")
        with pytest.raises(NotFoundInStore):
            verb("0" * 24, by="ann")


def test_a_tag_to_which_a_copy_goes_is_left_alone(
    store: DeletionStore, rule: SyncRule, plot: Plot, database: Database
) -> None:
    write(database, "team/app:v1")
    (tag,) = all_of(store, Scan(rule, "5"))
    assert store.owned("west", tag)
    plot.page(plot.execution(), [selected("v1")])

    assert not store.owned("west", tag)


def test_a_paused_rule_is_not_due(store: DeletionStore, rule: SyncRule, database: Database) -> None:
    write(database, "a/a:v1")
    a_deletion(store, rule, *all_of(store, Scan(rule, "5")))
    (found,) = store.to_check(0)
    store.decide(found.id)
    database.write(
        lambda connection: connection.execute(update(rules).values(paused_at=now_epoch()))
    )

    assert store.due() == []


def test_lists_page_by_name_and_time(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, "a/a:v1", "a/a:v2", "a/b:v1")
    tags = all_of(store, Scan(rule, "5"))
    first = a_deletion(store, rule, *tags)
    second = a_deletion(store, rule, tags[0])

    assert [one.id for one in store.list(rule="fleet", limit=1)] == [second]
    assert [one.id for one in store.list(after=second)] == [first]
    page = store.tags(first, limit=2)
    rest = store.tags(first, after="mirror/a/a:v2")
    assert [one.written.tag for one in (*page, *rest)] == ["v1", "v2", "v1"]
    assert store.list(project="other") == []


def test_an_older_look_that_ends_later_takes_no_newer_one_back(
    store: DeletionStore, rule: SyncRule, database: Database
) -> None:
    write(database, "a", seen_in="7")
    with database.read() as connection:
        row = connection.execute(select(written_tags)).one()

    database.write(
        lambda connection: mark_seen(connection, "5", [(row.registry, row.repository, row.tag)])
    )

    assert all_of(store, Scan(rule, "7")) == []
    database.write(
        lambda connection: mark_seen(connection, "8", [(row.registry, row.repository, row.tag)])
    )
    assert all_of(store, Scan(rule, "8")) == []


def test_a_copy_of_an_older_execution_takes_no_newer_look_back(plot: Plot) -> None:
    (work,) = plot.running("v1")
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=work.digest)])
    (later,) = plot.running("v1", rule="other")
    with plot.database.read() as connection:
        names = [
            (r.registry, r.repository, r.tag) for r in connection.execute(select(written_tags))
        ]
    plot.database.write(lambda connection: mark_seen(connection, "f" * 24, names))
    again = replace(later, destination_reference="fleet-v1")

    plot.state.post([CopyEnded(again, CopyState.COPIED, Counters(), digest=work.digest)])

    row = plot.row(written_tags)
    assert (row.rule, row.seen_in) == ("other", "f" * 24)
