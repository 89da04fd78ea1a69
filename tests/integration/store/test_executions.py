"""Executions: one open a rule, keys that repeat, stops that fence, totals that add up."""

from __future__ import annotations

import pytest

from service.errors import Conflict, NotFoundInStore
from service.model.states import BlobState, CopyState, ExecutionState
from service.model.work import BlobPlaced, CopyEnded, Counters, PartEnded
from service.store.creation import new_id
from service.store.database import Database
from service.store.dispatching import DispatchStore
from service.store.executions import ExecutionStore, Totals
from service.store.tables import executions as executions_table
from tests.integration.store.builders import BOOT, Plot, a_digest, a_rule, in_threads, selected
from tests.integration.store.conftest import OpenDatabase


def test_ids_of_one_moment_sort_as_they_were_made() -> None:
    ids = [new_id() for _ in range(5000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    assert {len(one) for one in ids} == {24}
    assert len({one[:12] for one in ids}) < 5000, "no two of one millisecond"


def test_the_rule_is_kept_as_it_stood(executions: ExecutionStore) -> None:
    rule = a_rule(priority="urgent")

    record = executions.create(rule, trigger="api")

    assert executions.spec(record.id) == rule
    assert record.state is ExecutionState.PENDING
    assert (record.trigger, record.warnings, record.planned) == ("api", (), False)
    with pytest.raises(NotFoundInStore):
        executions.get("nothing")
    with pytest.raises(NotFoundInStore):
        executions.spec("nothing")


def test_a_rule_has_one_open_execution(
    database: Database, open_database: OpenDatabase, plot: Plot
) -> None:
    stores = [ExecutionStore(database), *(ExecutionStore(open_database()) for _ in range(3))]

    def create(number: int) -> str:
        return stores[number % 4].create(a_rule(), trigger="api").id

    first = set(in_threads(8, create))
    assert len(first) == 1
    assert stores[0].create(a_rule("other"), trigger="api").id not in first

    plot.set(executions_table, state=ExecutionState.SUCCEEDED)

    second = set(in_threads(8, create))
    assert len(second) == 1
    assert second != first


def test_a_key_gives_the_same_execution_for_ever(executions: ExecutionStore, plot: Plot) -> None:
    first = executions.create(a_rule(), trigger="api", idempotency_key="k")
    plot.set(executions_table, state=ExecutionState.FAILED)

    assert executions.create(a_rule(), trigger="api", idempotency_key="k").id == first.id
    assert executions.create(a_rule(), trigger="api", idempotency_key="l").id != first.id
    with pytest.raises(Conflict, match="Idempotency-Key was used for another rule"):
        executions.create(a_rule("other"), trigger="api", idempotency_key="k")


def test_keys_at_the_same_time_give_one_execution(
    database: Database, open_database: OpenDatabase
) -> None:
    stores = [ExecutionStore(database), ExecutionStore(open_database())]

    made = in_threads(
        8, lambda n: stores[n % 2].create(a_rule(), trigger="api", idempotency_key="k").id
    )

    assert len(set(made)) == 1


def test_lists_are_the_newest_first(executions: ExecutionStore, plot: Plot) -> None:
    made = []
    for _ in range(3):
        made.append(executions.create(a_rule(), trigger="api").id)
        plot.set(executions_table, state=ExecutionState.SUCCEEDED)
    made.append(executions.create(a_rule("other"), trigger="api").id)
    made.sort(reverse=True)

    assert [r.id for r in executions.list()] == made
    assert [r.id for r in executions.list(after=made[1], limit=1)] == [made[2]]
    assert [r.rule for r in executions.list(rule="other")] == ["other"]
    assert [r.rule for r in executions.list(state="pending")] == ["other"]


def test_a_stop_raises_the_fence_of_every_open_copy(executions: ExecutionStore, plot: Plot) -> None:
    running, ended = plot.running("v1", "v2")
    plot.state.post([CopyEnded(ended, CopyState.COPIED, Counters(), digest=a_digest("v2"))])

    stopping = executions.request_stop(running.execution)

    assert stopping.state is ExecutionState.STOPPING
    assert plot.copy(running.ref).state == CopyState.STOPPED
    assert not plot.state.holds(running.ref)
    assert plot.copy(ended.ref).state == CopyState.COPIED
    plot.state.post([CopyEnded(running, CopyState.COPIED, Counters())])
    assert plot.copy(running.ref).state == CopyState.STOPPED
    assert [e.state for e in plot.dispatching.end_executions()] == [ExecutionState.STOPPED]
    assert executions.request_stop(running.execution).state is ExecutionState.STOPPED


def test_totals_add_up_by_destination(executions: ExecutionStore, plot: Plot) -> None:
    execution = plot.execution()
    plot.page(
        execution,
        [
            selected("v1"),
            selected("v2", destination_registry="north"),
            selected("v3", state=CopyState.SKIPPED),
            selected("v4", state=CopyState.FAILED, failure_class="gone", reason="r", hint="h"),
        ],
        unchanged=7,
        requests={"east": 3},
    )
    refs = plot.dispatching.dispatch(plot.dispatching.eligible("local", 10))
    work = plot.state.begin(refs, BOOT)[0]
    counters = Counters(1, 2, 3, 5 << 40, 7 << 40, {"east": 4, "west": 5})
    plot.state.post([CopyEnded(work, CopyState.COPIED, counters, digest=work.digest)])

    totals = executions.totals_by_destination([execution])

    assert totals[""] == Totals(1, 7, 1, 1, 1, 1, 2, 3, 5 << 40, 7 << 40)
    assert totals["north"] == Totals(pending=1)
    assert totals["west"].failed == 1
    assert executions.totals(execution) == totals[""]
    assert executions.totals("nothing") == Totals()
    assert executions.requests([execution]) == {"east": 7, "west": 5}
    failed = executions.copies(execution, states=[CopyState.FAILED])
    assert [(c.source_reference, c.failure_class, c.reason, c.hint) for c in failed] == [
        ("v4", "gone", "r", "h")
    ]
    everything = executions.copies(execution)
    assert [c.id for c in executions.copies(execution, after=everything[1].id)] == [
        c.id for c in everything[2:]
    ]


def test_text_of_strangers_is_kept_without_what_no_database_takes(plot: Plot) -> None:
    work = plot.fanned_out(["b"])
    part = plot.state.begin_part(work.ref, 0, BOOT)
    assert part is not None
    nasty = "no\0body \ud800 é" + "x" * 100_000

    plot.state.post(
        [
            PartEnded(
                part, Counters(), (BlobPlaced(a_digest("b"), BlobState.FAILED, "server", nasty),)
            ),
            CopyEnded(work, CopyState.FAILED, Counters(), reason=nasty, hint=nasty),
        ]
    )

    assert plot.copy(work.ref).reason == "no\ufffdbody \ufffd é" + "x" * 100_000
    assert plot.blob(work.ref, "b").reason == plot.copy(work.ref).hint


def test_key_that_met_an_open_execution_gives_that_one_again(database: Database) -> None:
    store = ExecutionStore(database)
    open_one = store.create(a_rule(), trigger="test")
    met = store.create(a_rule(), trigger="api", idempotency_key="second")
    store.request_stop(open_one.id)
    DispatchStore(database, dead_after_seconds=20).end_executions()

    again = store.create(a_rule(), trigger="api", idempotency_key="second")
    other = store.create(a_rule(), trigger="api", idempotency_key="third")

    assert met.id == open_one.id
    assert again.id == open_one.id
    assert other.id != open_one.id
    with pytest.raises(Conflict):
        store.create(a_rule("another"), trigger="api", idempotency_key="second")
