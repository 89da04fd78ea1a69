"""What receipts tell, out of both databases: each name once, in the order of bytes, with the way that it took."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update

from service.model.states import CopyState, ExecutionState
from service.store.database import Database
from service.store.executions import ExecutionStore
from service.store.failure_counts import FailureCounts
from service.store.receipts import AT_ONCE, Confirmed, ReceiptStore
from service.store.tables import copies, executions
from tests.integration.store.builders import a_digest, a_rule


def an_execution(database: Database, *rows: dict[str, Any]) -> str:
    """An ended execution with these copies."""
    identity = ExecutionStore(database).create(a_rule("fleet"), trigger="api").id
    whole: dict[str, Any] = {
        "execution_id": identity,
        "rule": "fleet",
        "region": "local",
        "source_registry": "east",
        "source_repository": "team/app",
        "source_reference": "v1",
        "destination_registry": "west",
        "destination_repository": "team/app",
        "destination_reference": "v1",
        "via_registry": "",
        "via_repository": "",
        "via_reference": "",
        "digest": a_digest("v1"),
        "state": CopyState.COPIED,
        "failure_class": "",
        "attempts": 1,
        "bytes_copied": 10,
        "updated_at": 5.0,
    }
    database.write(
        lambda connection: connection.execute(
            update(executions)
            .where(executions.c.id == identity)
            .values(state=ExecutionState.SUCCEEDED, finished_at=9.0)
        )
    )
    if rows:
        database.write(
            lambda connection: connection.execute(insert(copies), [whole | row for row in rows])
        )
    return identity


def named(found: list[Confirmed]) -> list[str]:
    return [f"{one.destination[1]}:{one.destination[2]}" for one in found]


def test_a_rule_with_too_many_runs_is_told_of_whole_or_as_too_many(database: Database) -> None:
    """Of a rule that runs every 30 s the oldest runs were left out, and nobody was told."""
    oldest = an_execution(database, {})
    quiet = an_execution(database)
    newest = an_execution(database, {"destination_reference": "v2"})
    store = ReceiptStore(database)

    assert store.of_rule("fleet", 3) == [newest, quiet, oldest]
    assert store.of_rule("fleet", 2) == [newest, oldest], "the quiet one has nothing to tell"
    assert len(store.of_rule("fleet", 1)) == 2, "a part passes for all"


def test_names_come_in_the_order_of_bytes_and_only_what_is_there(database: Database) -> None:
    """Collations of databases sort dashes, case and digits in ways of their own: receipts are merged and compared."""
    tags = ["v1", "V1", "v-1", "v10", "v2", "_", "v.1", "v_1", "a"]
    rows: list[dict[str, Any]] = [{"destination_reference": tag} for tag in tags]
    rows += [{"destination_repository": "team-a/app"}, {"destination_repository": "team/app-b"}]
    rows += [
        {"destination_reference": f"not-{state}", "state": state}
        for state in CopyState
        if state not in (CopyState.COPIED, CopyState.UNCHANGED)
    ]
    rows += [{"destination_reference": "same", "state": CopyState.UNCHANGED, "bytes_copied": 0}]

    found = list(ReceiptStore(database).confirmed([an_execution(database, *rows)]))

    assert [one.destination for one in found] == sorted(one.destination for one in found)
    wanted = {*(f"team/app:{tag}" for tag in [*tags, "same"]), "team-a/app:v1", "team/app-b:v1"}
    assert set(named(found)) == wanted
    assert len(found) == len(wanted)


def test_the_newest_execution_tells_of_a_name(database: Database) -> None:
    first = an_execution(database, {"digest": a_digest("old")}, {"destination_reference": "v0"})
    second = an_execution(database, {"digest": a_digest("new"), "attempts": 2})
    third = an_execution(database, {"state": CopyState.FAILED})

    found = list(ReceiptStore(database).confirmed([second, first, third]))

    assert named(found) == ["team/app:v0", "team/app:v1"]
    assert (found[1].digest, found[1].attempts) == (a_digest("new"), 2)
    assert ReceiptStore(database).of_rule("fleet", 3) == [third, second, first]


def test_the_way_leads_over_every_registry_between(database: Database) -> None:
    hub = {"destination_registry": "hub"}
    rim = {
        "destination_registry": "rim",
        "via_registry": "hub",
        "via_repository": "team/app",
        "via_reference": "v1",
    }
    far = {
        "destination_registry": "west",
        "via_registry": "rim",
        "via_repository": "team/app",
        "via_reference": "v1",
    }
    lone = {
        "destination_registry": "zone",
        "via_registry": "hub",
        "via_repository": "in-place/before",
        "via_reference": "v1",
    }
    other = an_execution(database, rim | {"via_registry": "elsewhere"})

    found = list(ReceiptStore(database).confirmed([an_execution(database, hub, rim, far, lone)]))

    assert other
    assert [one.route for one in found] == [
        ("east", "hub"),
        ("east", "hub", "rim"),
        ("east", "hub", "rim", "west"),
        ("east", "hub", "zone"),
    ]


def test_many_rows_are_read_piece_by_piece(database: Database) -> None:
    count = 2 * AT_ONCE + 3
    hub = [{"destination_registry": "hub", "destination_reference": f"v{n}"} for n in range(count)]
    rim = [
        {
            "destination_registry": "rim",
            "destination_reference": f"v{n}",
            "via_registry": "hub",
            "via_repository": "team/app",
            "via_reference": f"v{n}",
        }
        for n in range(count)
    ]

    found = list(ReceiptStore(database).confirmed([an_execution(database, *hub, *rim)]))

    assert len(found) == 2 * count
    assert {one.route for one in found if one.destination[0] == "rim"} == {("east", "hub", "rim")}


def test_of_each_name_only_the_last_execution_says_whether_it_failed(database: Database) -> None:
    denied = {"state": CopyState.FAILED, "failure_class": "denied"}
    gone = {"state": CopyState.SUPERSEDED, "failure_class": "superseded"}
    names = [{"destination_reference": f"v{number}"} for number in range(4)]
    rows = [denied | names[0], denied | names[1], gone | names[2], denied | names[3]]
    first = an_execution(database, *rows)
    second = an_execution(
        database,
        names[0],
        denied | names[1],
        denied | {"destination_registry": "hub"},
    )
    counts = FailureCounts(database)

    assert counts.by_class([first]) == {"denied": 3, "superseded": 1}
    assert counts.by_class([second, first]) == {"denied": 3, "superseded": 1}
    assert counts.by_place([first, second]) == {
        (first, "west"): 2,
        (second, "west"): 1,
        (second, "hub"): 1,
    }
    failed = counts.failed([first, second], 10)
    assert [(one.execution, one.destination_reference) for one in failed] == [
        (first, "v2"),
        (first, "v3"),
        (second, "v1"),
        (second, "v1"),
    ]
    assert len(counts.failed([first, second], 2)) == 2
    assert counts.by_class([]) == {}
