"""What keeps work moving: windows, leadership, the dead, the lost, and the verdict at the end."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event, text, update

from service.model.states import BlobState, CopyState, ExecutionState
from service.model.work import BlobPlaced, CopyEnded, CopyWaits, Counters, PartEnded
from service.store.dispatching import MAX_PLANNINGS, DispatchStore, Pending
from service.store.tables import FAR, copies, executions, leases, processes
from tests.integration.store.builders import BOOT, Plot, a_digest, a_rule, in_threads, selected
from tests.integration.store.conftest import OpenDatabase

# ---- leadership ----------------------------------------------------------------------------------


def test_one_of_two_leads_until_it_resigns_or_lapses(
    dispatching: DispatchStore, plot: Plot
) -> None:
    assert dispatching.lead("scheduler", "a", 30)
    assert not dispatching.lead("scheduler", "b", 30)
    assert dispatching.lead("scheduler", "a", 30)
    assert dispatching.lead("another", "b", 30)

    plot.ago(leases, "until", 31)
    assert dispatching.lead("scheduler", "b", 30)
    assert not dispatching.lead("scheduler", "a", 30)
    dispatching.resign("scheduler", "a")
    assert not dispatching.lead("scheduler", "a", 30)
    dispatching.resign("scheduler", "b")
    assert dispatching.lead("scheduler", "a", 30)


def test_of_many_that_want_to_lead_one_does(
    dispatching: DispatchStore, open_database: OpenDatabase
) -> None:
    stores = [
        dispatching,
        *(DispatchStore(open_database(), dead_after_seconds=20) for _ in range(3)),
    ]

    led = in_threads(8, lambda number: stores[number % 4].lead("scheduler", f"h{number}", 30))

    assert led.count(True) == 1


# ---- dispatch ------------------------------------------------------------------------------------


def test_eligible_copies_come_by_priority_then_started_then_in_turn(
    dispatching: DispatchStore, plot: Plot
) -> None:
    bulk = plot.execution("bulk", priority="bulk")
    plot.page(bulk, [selected(f"b{n}", destination_reference=f"b{n}") for n in range(3)])
    large = plot.planned("v1", "v2", "v3", rule="large")
    small = plot.planned("v1", rule="small")
    started = plot.running("s1", rule="started")[0]
    plot.state.post([CopyWaits(started, Counters(), "x")])
    plot.ago(copies, "updated_at", 60)
    assert dispatching.wake(*dispatching.overdue_waits(10)[0], everybody=True) == 1

    order = [item.execution for item in dispatching.eligible("local", 100)]

    assert order[0] == started.execution
    assert sorted(order[1:3]) == sorted([large, small])
    assert order[3:] == [large, large, bulk, bulk, bulk]
    assert len(dispatching.eligible("local", 2)) == 2
    assert dispatching.eligible("elsewhere", 9) == []
    assert dispatching.pending() == [Pending("local", urgent=False, suspects=False)]


def test_it_is_told_where_copies_wait_urgent_ones_first(
    dispatching: DispatchStore, plot: Plot
) -> None:
    fleet = plot.execution("fleet")
    plot.page(fleet, [selected("a", region="asia"), selected("b", region="eu")])
    urgent = plot.execution("urgent", priority="urgent")
    plot.page(urgent, [selected("c", region="eu"), selected("d", region="us")])
    _change(plot, ["a", "d"], suspect=True)
    planned_only = plot.execution("planned-only")
    plot.page(planned_only, [selected("e", region="zone")])
    _change(plot, ["e"], not_before=FAR)

    assert dispatching.pending() == [
        Pending("eu", urgent=True, suspects=False),
        Pending("asia", urgent=False, suspects=True),
        Pending("eu", urgent=False, suspects=False),
        Pending("us", urgent=False, suspects=True),
    ]


def _change(plot: Plot, references: list[str], **values: Any) -> None:
    where = copies.c.destination_reference.in_(references)
    plot.database.write(
        lambda connection: connection.execute(update(copies).where(where).values(values))
    )


def test_choosing_does_not_read_the_backlog(dispatching: DispatchStore, plot: Plot) -> None:
    """SQLite takes the index of the state alone where it can: 0.2 s a round with 100,000 copies (issue 4)."""
    plot.planned("v1", "v2")
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "FROM copies" in statement:
            asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        dispatching.pending()
        dispatching.eligible("local", 9, urgent=False)
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert len(asked) >= 3
    explain = "EXPLAIN QUERY PLAN" if plot.database.is_sqlite else "EXPLAIN"
    with plot.database.read() as connection:
        if not plot.database.is_sqlite:  # so small a table is read whole, whatever its indexes
            connection.execute(text("SET enable_seqscan = off"))
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            plan = " ".join(str(row[-1]) for row in rows)
            assert "ix_copies_waiting" in plan, plan
            assert "ix_copies_state" not in plan, plan
        if not plot.database.is_sqlite:
            connection.execute(text("RESET enable_seqscan"))


def test_a_copy_is_sent_once(
    dispatching: DispatchStore, plot: Plot, open_database: OpenDatabase
) -> None:
    plot.planned("v1", "v2", "v3")
    chosen = dispatching.eligible("local", 9)
    stores = [dispatching, DispatchStore(open_database(), dead_after_seconds=20)]

    sent = in_threads(4, lambda number: stores[number % 2].dispatch(chosen))

    refs = [ref for one in sent for ref in one]
    assert sorted(ref.id for ref in refs) == sorted(item.id for item in chosen)
    assert {ref.fence for ref in refs} == {1}
    assert dispatching.standing() == {("local", False): 3}
    assert dispatching.pending() == []


def test_a_plan_is_sent_once_in_a_while(dispatching: DispatchStore, plot: Plot) -> None:
    assert not dispatching.busy()
    execution = plot.executions.create(a_rule(), trigger="api").id

    assert dispatching.busy()
    assert dispatching.unplanned(30) == [execution]
    assert dispatching.unplanned(30) == []
    plot.ago(executions, "plan_sent_at", 31)
    assert dispatching.unplanned(30) == [execution]
    assert plot.plans.begin(execution, BOOT)
    plot.ago(executions, "plan_sent_at", 31)
    assert dispatching.unplanned(30) == []


def test_a_planning_whose_message_somebody_took_and_died_with_is_sent_again(
    dispatching: DispatchStore, plot: Plot
) -> None:
    execution = plot.executions.create(a_rule(), trigger="api").id
    assert dispatching.unplanned(30) == [execution]
    assert dispatching.unplanned(30) == []

    dispatching.plan_again()

    assert dispatching.unplanned(30) == [execution]


def test_no_more_plans_are_sent_than_are_begun_and_urgent_ones_are_anyway(
    dispatching: DispatchStore, plot: Plot
) -> None:
    names = [plot.executions.create(a_rule(f"r{n}"), trigger="api").id for n in range(5)]
    assert dispatching.unplanned(30, 2) == names[:2]
    assert plot.plans.begin(names[0], BOOT)
    assert dispatching.unplanned(30, 2) == []
    urgent = plot.executions.create(a_rule("urgent", priority="urgent"), trigger="api").id
    assert dispatching.unplanned(30, 2) == [urgent]
    plot.plans.finish(names[0], BOOT)
    assert dispatching.unplanned(30, 3) == names[2:3]
    plot.plans.not_begun(names[1])
    assert dispatching.unplanned(30, 3) == names[1:2]


# ---- the dead ------------------------------------------------------------------------------------


def test_what_a_dead_process_held_is_planned_again_and_what_stood_in_the_queue(
    dispatching: DispatchStore, plot: Plot
) -> None:
    plot.heartbeat("dead")
    plot.heartbeat("alive")
    held = plot.running("v1", boot="dead", rule="held")[0]
    kept = plot.running("v1", boot="alive", rule="kept")[0]
    (queued,) = plot.dispatched("v1", rule="queued")
    planning = plot.executions.create(a_rule("planned-by-dead"), trigger="api").id
    plot.plans.begin(planning, "dead")
    _die(plot, "dead")

    assert dispatching.recover_dead(max_crashes=3) == {"dead": 1}

    row = plot.copy(held.ref)
    assert (row.state, bool(row.suspect), row.crashes, row.owner) == ("pending", False, 1, "")
    assert row.fence == held.ref.fence + 1
    assert plot.copy(kept.ref).state == CopyState.RUNNING
    assert (plot.copy(queued).state, bool(plot.copy(queued).suspect)) == ("pending", False)
    assert plot.copy(queued).fence == queued.fence + 1
    assert planning in dispatching.unplanned(30)
    assert dispatching.recover_dead(max_crashes=3) == {}
    assert dispatching.slots() == {"local": 4}


def test_a_part_that_a_dead_process_held_is_sent_again_and_others_go_on(
    dispatching: DispatchStore, plot: Plot
) -> None:
    plot.heartbeat("dead")
    work = plot.fanned_out(["a"], ["b"], ["c"])
    assert plot.state.begin_part(work.ref, 0, "dead") is not None
    assert plot.state.begin_part(work.ref, 1, "alive") is not None
    plot.heartbeat("alive")
    _die(plot, "dead")

    assert dispatching.recover_dead(max_crashes=3) == {"dead": 1}

    assert plot.copy(work.ref).state == CopyState.COPYING
    assert plot.state.holds(work.ref)
    idle = dispatching.take_idle_parts(region="local")
    assert sorted((part.ref, part.part, part.task_id) for part in idle) == [
        (work.ref, 0, "task-0"),
        (work.ref, 2, "task-2"),
    ]
    assert dispatching.take_idle_parts(age_seconds=10) == []
    assert plot.state.begin_part(work.ref, 0, "heir") is not None
    assert plot.state.begin_part(work.ref, 1, "heir") is None


def test_a_copy_whose_parts_kill_twice_runs_alone(dispatching: DispatchStore, plot: Plot) -> None:
    work = plot.fanned_out(["a"])
    for boot in ("first", "second"):
        plot.heartbeat(boot)
        assert plot.state.begin_part(work.ref, 0, boot) is not None
        _die(plot, boot)
        assert dispatching.recover_dead(max_crashes=3) == {boot: 1}

    row = plot.copy(work.ref)
    assert (row.state, row.crashes, row.suspect) == (CopyState.PENDING, 2, True)


def test_an_owner_that_nobody_knows_is_dead(dispatching: DispatchStore, plot: Plot) -> None:
    work = plot.running("v1", boot="never-seen")[0]

    assert dispatching.recover_dead(max_crashes=3) == {"never-seen": 1}
    assert plot.copy(work.ref).state == CopyState.PENDING


def test_who_dies_with_two_processes_runs_alone_and_is_poison_after_three_more(
    dispatching: DispatchStore, plot: Plot
) -> None:
    plot.planned("v1")
    for number in range(5):
        suspect = number >= 2
        assert dispatching.eligible("local", 9, suspect=not suspect) == []
        (item,) = dispatching.eligible("local", 9, suspect=suspect)
        assert item.suspect is suspect
        (work,) = plot.state.begin(dispatching.dispatch([item]), f"boot{number}")
        assert dispatching.suspects_out() == int(number >= 2)
        assert dispatching.recover_dead(max_crashes=3) == {f"boot{number}": 1}

    row = plot.copy(work.ref)
    assert (row.state, row.failure_class, row.crashes) == (CopyState.FAILED, "bug", 5)
    assert "3 times" in row.reason
    assert dispatching.suspects_out() == 0


# ---- the lost ------------------------------------------------------------------------------------


def test_what_no_process_holds_is_sent_again(dispatching: DispatchStore, plot: Plot) -> None:
    (queued,) = plot.dispatched("v1", rule="queued")
    running = plot.running("v1", rule="running")[0]
    unowned = plot.fanned_out(["a"], ["b"])
    execution = plot.executions.create(a_rule("unplanned"), trigger="api").id
    assert execution in dispatching.unplanned(30)

    assert dispatching.resend_unowned() == 1

    assert plot.copy(queued).state == CopyState.PENDING
    assert [part.ref for part in dispatching.take_idle_parts()] == [unowned.ref] * 2
    assert plot.copy(running.ref).state == CopyState.RUNNING
    assert not plot.state.holds(queued)
    assert execution in dispatching.unplanned(30)


def test_single_messages_that_were_lost_are_sent_again(
    dispatching: DispatchStore, plot: Plot
) -> None:
    (queued,) = plot.dispatched("v1", rule="queued")
    unowned = plot.fanned_out(["a"], ["b"])
    assert dispatching.stale_regions(90) == []

    plot.ago(copies, "updated_at", 91)

    assert dispatching.stale_regions(90) == ["local"]
    assert dispatching.resend_stale("elsewhere", 90) == 0
    assert dispatching.resend_stale("local", 90) == 1
    assert dispatching.take_idle_parts(region="elsewhere", age_seconds=90) == []
    idle = dispatching.take_idle_parts(region="local", age_seconds=90)
    assert [part.ref for part in idle] == [unowned.ref] * 2
    assert dispatching.stale_regions(90) == []
    assert plot.copy(queued).state == CopyState.PENDING


def test_parts_that_somebody_works_on_are_left(dispatching: DispatchStore, plot: Plot) -> None:
    work = plot.fanned_out(["a"], ["b"])
    for part in (0, 1):
        assert plot.state.begin_part(work.ref, part, BOOT) is not None

    assert dispatching.resend_unowned() == 0
    assert dispatching.take_idle_parts() == []
    assert plot.copy(work.ref).state == CopyState.COPYING


def test_copies_that_wait_too_long_are_found_by_what_they_wait_for(
    dispatching: DispatchStore, plot: Plot
) -> None:
    works = plot.running("v1", "v2", "v3")
    for work in works:
        plot.state.post([CopyWaits(work, Counters(), a_digest("layer"))])
    place = (works[0].destination_registry, a_digest("layer"))
    assert dispatching.overdue_waits(10) == []

    plot.ago(copies, "updated_at", 11)
    assert dispatching.overdue_waits(10) == [place]
    dispatching.wait_on(*place)
    assert dispatching.overdue_waits(10) == []

    plot.ago(copies, "updated_at", 11)
    assert dispatching.wake(*place, everybody=False) == 1
    assert [plot.copy(work.ref).state for work in works].count(CopyState.PENDING) == 1
    assert dispatching.wake(*place, everybody=True) == 2
    assert dispatching.overdue_waits(-1) == []


def test_planning_that_never_ends_is_given_up(dispatching: DispatchStore, plot: Plot) -> None:
    execution = plot.executions.create(a_rule("endless"), trigger="api").id
    for number in range(MAX_PLANNINGS):
        assert dispatching.unplanned(-1) == [execution]
        assert plot.plans.begin(execution, f"boot{number}")
        dispatching.recover_dead(max_crashes=3)

    assert dispatching.unplanned(-1) == []
    (ended,) = dispatching.end_executions()
    assert ended.state == "failed"
    assert "never came to its end" in plot.executions.get(execution).reason


def test_a_commit_that_did_not_come_is_named_once_a_grace(
    dispatching: DispatchStore, plot: Plot
) -> None:
    work = plot.fanned_out(["a"], ["b"])
    plot.ago(copies, "updated_at", 60)
    assert dispatching.uncommitted(10) == []
    for number, name in enumerate("ab"):
        part = plot.state.begin_part(work.ref, number, BOOT)
        assert part is not None
        placed = BlobPlaced(a_digest(name), BlobState.COPIED)
        plot.state.post([PartEnded(part, Counters(), (placed,))])
    assert dispatching.uncommitted(10) == []

    plot.ago(copies, "updated_at", 11)

    assert dispatching.uncommitted(10) == [("local", work.ref)]
    assert dispatching.uncommitted(10) == []
    plot.ago(copies, "updated_at", 11)
    assert dispatching.uncommitted(10) == [("local", work.ref)]


# ---- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([CopyState.COPIED, CopyState.UNCHANGED], ExecutionState.SUCCEEDED),
        ([CopyState.SKIPPED], ExecutionState.SUCCEEDED),
        ([CopyState.COPIED, CopyState.FAILED], ExecutionState.PARTIAL),
        ([CopyState.COPIED, CopyState.SUPERSEDED], ExecutionState.PARTIAL),
        ([CopyState.FAILED, CopyState.FAILED], ExecutionState.FAILED),
    ],
)
def test_an_execution_ends_as_its_copies_did(
    dispatching: DispatchStore, plot: Plot, ends: list[CopyState], verdict: ExecutionState
) -> None:
    works = plot.running(*(f"v{number}" for number in range(len(ends))))
    assert dispatching.end_executions() == []
    plot.state.post([CopyEnded(w, s, Counters()) for w, s in zip(works, ends, strict=True)])

    (ended,) = dispatching.end_executions()

    assert (ended.rule, ended.state) == ("fleet", verdict)
    record = plot.executions.get(ended.execution)
    assert record.state is verdict
    assert record.finished_at is not None
    assert dispatching.end_executions() == []
    assert not dispatching.busy()


def test_an_execution_that_is_not_planned_to_its_end_goes_on(
    dispatching: DispatchStore, plot: Plot
) -> None:
    execution = plot.execution()
    assert dispatching.end_executions() == []

    plot.plans.finish(execution)

    assert [e.state for e in dispatching.end_executions()] == [ExecutionState.SUCCEEDED]


@pytest.mark.parametrize(("on_empty", "verdict"), [("fail", "failed"), ("warn", "succeeded")])
def test_a_rule_that_matches_nothing_ends_as_it_says(
    dispatching: DispatchStore, plot: Plot, on_empty: str, verdict: str
) -> None:
    plot.planned(on_empty=on_empty)

    (ended,) = dispatching.end_executions()

    assert ended.state == verdict
    assert ("matches nothing" in plot.executions.get(ended.execution).reason) is (
        verdict == "failed"
    )


@pytest.mark.parametrize(("copied", "verdict"), [(True, "partial"), (False, "failed")])
def test_a_selection_that_cannot_be_listed_is_no_success(
    dispatching: DispatchStore, plot: Plot, copied: bool, verdict: str
) -> None:
    execution = plot.execution()
    plot.page(execution, [selected("v1")] if copied else [], done=False)
    plot.plans.fail(execution, reason="east: 401", failure_class="auth")
    for work in plot.state.begin(dispatching.dispatch(dispatching.eligible("local", 9)), BOOT):
        plot.state.post([CopyEnded(work, CopyState.COPIED, Counters())])

    (ended,) = dispatching.end_executions()

    assert ended.state == verdict
    assert plot.executions.get(execution).reason == "east: 401"


def test_the_end_is_told_once(plot: Plot, open_database: OpenDatabase) -> None:
    plot.planned()
    stores = [DispatchStore(open_database(), dead_after_seconds=20) for _ in range(4)]

    told = in_threads(4, lambda number: stores[number].end_executions())

    assert sum(len(one) for one in told) == 1


def _die(plot: Plot, boot: str) -> None:
    def work(connection: object) -> None:
        connection.execute(  # type: ignore[attr-defined]
            processes.update()
            .where(processes.c.boot == boot)
            .values(seen_at=processes.c.seen_at - 60)
        )

    plot.database.write(work)
