"""Copies to one name from executions side by side: one goes first, others stand behind it or step back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from service.model.states import CopyState, ExecutionState
from service.model.subscription import Subscription
from service.model.work import CopyEnded, CopyPostponed, Counters
from service.store.pauses import PauseStore
from service.store.registries import RegistryStore
from service.store.retention import RetentionStore
from service.store.rules import RuleStore
from service.store.saved_plans import SavedPlanStore
from service.store.tables import copies, executions, rules
from service.store.webhooks import WebhookStore
from tests.integration.store.builders import BOOT, Plot, a_rule, an_endpoint, selected


def tags(plot: Plot, *names: str, rule: str = "fleet") -> str:
    """A running execution of single tags, compared."""
    references = [("team/app", name) for name in names]
    identity = plot.executions.create_tags(a_rule(rule), references).id
    assert plot.plans.begin(identity, "planner")
    assert plot.plans.only(identity) == {"team/app": names}
    plot.plans.add_repositories(identity, ["team/app"], cursor="", done=True)
    plot.page(identity, [selected(name, destination_reference=f"{rule}-{name}") for name in names])
    plot.plans.finish(identity)
    return identity


def states(plot: Plot, execution: str) -> list[str]:
    return [copy.state.value for copy in plot.executions.copies(execution)]


def eligible(plot: Plot) -> list[str]:
    return [item.execution for item in plot.dispatching.eligible("local", 9)]


def test_executions_of_tags_run_beside_the_full_one_and_each_other(plot: Plot) -> None:
    full = plot.execution()

    one = plot.executions.create_tags(a_rule(), [("team/app", "v1")])
    two = plot.executions.create_tags(a_rule(), [("team/app", "v2"), ("team/app", "v2")])

    assert len({full, one.id, two.id}) == 3
    assert plot.executions.create(a_rule(), trigger="api").id == full
    assert plot.plans.only(full) is None
    assert plot.plans.only(two.id) == {"team/app": ("v2",)}
    again = plot.executions.create_tags(a_rule(), [("team/app", "v3")], idempotency_key="k")
    assert plot.executions.create_tags(a_rule(), [("x", "y")], idempotency_key="k") == again


def test_what_an_event_asks_for_goes_before_the_backfill_of_its_rule(plot: Plot) -> None:
    plot.planned("v1", "v2")
    event = tags(plot, "v3")

    assert eligible(plot)[0] == event
    assert [item.execution for item in plot.dispatching.eligible("local", 9, urgent=True)] == [
        event
    ]
    assert plot.dispatching.urgent_plannings([event]) == {event}


def test_a_pending_copy_of_the_backfill_stands_behind_the_event_s(plot: Plot) -> None:
    full = plot.planned("v1", "v2")
    event = tags(plot, "v1")

    assert sorted(eligible(plot)) == sorted([event, full])  # v1 of the full one waits
    (work,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9, urgent=True)), BOOT
    )
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=work.digest)])
    assert eligible(plot) == [full, full]
    taken = plot.state.begin(plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT)
    assert sorted(one.late for one in taken) == [False, True]


def test_an_event_stands_behind_what_is_under_way_and_the_newest_event_only(plot: Plot) -> None:
    (running,) = plot.running("v1")
    first = tags(plot, "v1")
    second = tags(plot, "v1")

    assert states(plot, first) == ["skipped"]
    assert eligible(plot) == []
    plot.state.post([CopyEnded(running, CopyState.COPIED, Counters(), digest=running.digest)])
    assert eligible(plot) == [second]


def test_an_execution_that_left_every_copy_to_newer_ones_is_stopped_and_names_the_newest(
    plot: Plot,
) -> None:
    first = tags(plot, "v1")
    second = tags(plot, "v1", "v2")
    third = tags(plot, "v1")
    assert states(plot, second) == ["skipped", "pending"]
    for work in plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    ):
        plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=work.digest)])

    plot.dispatching.end_executions()

    ended = plot.executions.get(first)
    assert (ended.state, ended.failure_class) == (ExecutionState.STOPPED, "")
    assert ended.reason == f"execution {second} was asked for the same tag later"
    assert plot.executions.get(second).state is ExecutionState.SUCCEEDED  # v2 is its proof
    assert plot.executions.get(third).state is ExecutionState.SUCCEEDED


def test_an_event_whose_tag_was_kept_for_another_reason_has_done_what_it_was_asked(
    plot: Plot,
) -> None:
    event = tags(plot, "v1")
    (work,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    plot.state.post([CopyEnded(work, CopyState.SKIPPED, Counters(), reason="the tag is gone")])

    plot.dispatching.end_executions()

    assert plot.executions.get(event).state is ExecutionState.SUCCEEDED


def test_other_names_and_other_rules_do_not_wait(plot: Plot) -> None:
    plot.running("v1")
    other = tags(plot, "v2")
    another_rule = tags(plot, "v1", rule="other")

    assert sorted(eligible(plot)) == sorted([other, another_rule])


def test_a_paused_rule_keeps_its_work_and_sends_none(plot: Plot) -> None:
    saved, pauses = RuleStore(plot.database), PauseStore(plot.database)
    saved.put(a_rule(every=3600.0), document={})
    execution = plot.planned("v1", "v2")
    (first, *_) = plot.dispatching.dispatch(plot.dispatching.eligible("local", 1))
    waiting = plot.executions.create_tags(a_rule(), [("team/app", "v9")]).id

    pauses.pause_rule("fleet")
    pauses.pause_rule("fleet")

    assert saved.due() == []
    assert eligible(plot) == []
    assert plot.state.begin([first], BOOT) == []  # what stood in the queue was taken back
    assert not plot.state.holds(first)
    assert waiting not in plot.dispatching.unplanned(-1)
    pauses.resume_rule("fleet")
    assert eligible(plot) == [execution, execution]
    assert waiting in plot.dispatching.unplanned(-1)
    assert [due.rule for due in saved.due()] == ["fleet"]


def test_a_paused_rule_that_is_deleted_lets_nothing_go(plot: Plot) -> None:
    saved, pauses = RuleStore(plot.database), PauseStore(plot.database)
    saved.put(a_rule(), document={})
    execution = plot.planned("v1")
    pauses.pause_rule("fleet")

    saved.delete("fleet")

    assert eligible(plot) == []
    assert states(plot, execution) == ["stopped"]
    plot.dispatching.end_executions()
    assert plot.executions.get(execution).reason == "the rule was deleted while it was paused"


def test_a_planner_that_was_counted_dead_ends_nothing_of_another_s(plot: Plot) -> None:
    execution = plot.executions.create(a_rule(), trigger="api").id
    assert plot.plans.begin(execution, "first")
    plot.plans.postpone(execution, 0, reason="", failure_class="")  # as its burial does
    assert plot.plans.begin(execution, "second")

    plot.plans.finish(execution, "first")
    plot.plans.fail(execution, reason="late", failure_class="network", boot="first")
    plot.plans.postpone(execution, 60, reason="late", failure_class="", boot="first")

    record = plot.executions.get(execution)
    assert (record.planned, record.reason) == (False, "")
    assert not plot.plans.begin(execution, "third")  # the second one holds it still
    plot.plans.finish(execution, "second")
    assert plot.executions.get(execution).planned


def test_copies_from_and_to_a_paused_registry_wait(plot: Plot) -> None:
    registries, pauses = RegistryStore(plot.database, None), PauseStore(plot.database)
    for name in ("east", "west"):
        registries.put(an_endpoint(name), document={})
    execution = plot.planned("v1")
    for name in ("east", "west"):
        pauses.pause_registry(name)
        assert eligible(plot) == []
        assert registries.get(name).paused_at is not None
        pauses.resume_registry(name)
        assert eligible(plot) == [execution]


def test_the_newest_executions_of_each_rule_are_kept(plot: Plot) -> None:
    ended = []
    for number in range(4):
        (work,) = plot.running(f"v{number}")
        plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=work.digest)])
        ended.append(work.execution)
        assert [one.execution for one in plot.dispatching.end_executions()] == [work.execution]
    open_one = plot.execution()
    other = plot.execution("other")

    assert RetentionStore(plot.database).sweep(2) == 2
    assert RetentionStore(plot.database).sweep(2) == 0

    kept = [record.id for record in plot.executions.list()]
    assert kept == [other, open_one, *reversed(ended[2:])]


def test_an_execution_is_kept_until_events_are_made_of_all_copies_that_a_stop_ended(
    plot: Plot,
) -> None:
    hooks = WebhookStore(plot.database, None)
    hooks.put(Subscription("ops", "http://127.0.0.1:9/", ("copy.stopped",)), document={})
    execution = plot.planned("v1", "v2", "v3")
    plot.executions.request_stop(execution)
    plot.dispatching.end_executions()
    assert hooks.expand(2) == 2

    assert RetentionStore(plot.database).sweep(0) == 0

    assert [hooks.expand(2), hooks.expand(2)] == [1, 0]
    assert len(hooks.deliveries("ops")) == 3
    assert RetentionStore(plot.database).sweep(0) == 1


def test_a_deadline_stops_an_execution_and_says_so(plot: Plot) -> None:
    plot.planned("v1", deadline_seconds=3600.0)
    (work,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    assert plot.executions.overdue() == []
    plot.ago(executions, "deadline_at", 3601)

    assert plot.executions.overdue() == [work.execution]
    plot.executions.request_stop(work.execution, reason="its deadline ran out")
    assert not plot.state.holds(work.ref)
    plot.dispatching.end_executions()
    record = plot.executions.get(work.execution)
    assert (record.state, record.reason) == ("stopped", "its deadline ran out")


def test_the_time_for_which_a_rule_is_paused_does_not_count_against_deadlines(plot: Plot) -> None:
    pauses = PauseStore(plot.database)
    RuleStore(plot.database).put(a_rule(), document={})
    begun = plot.planned("v1", deadline_seconds=3600.0)
    plot.ago(executions, "created_at", 600)
    plot.ago(executions, "deadline_at", 600)  # 3,000 s are left
    pauses.pause_rule("fleet")
    plot.ago(rules, "paused_at", 10_000)
    plot.ago(executions, "created_at", 10_000)
    plot.ago(executions, "deadline_at", 10_000)
    later = tags(plot, "v2")  # asked for while it is paused, with a deadline of seven days
    before = plot.row(executions, id=later).deadline_at

    assert plot.executions.overdue() == []
    pauses.resume_rule("fleet")
    pauses.resume_rule("fleet")

    assert plot.executions.overdue() == []
    assert plot.row(executions, id=later).deadline_at - before < 600
    plot.ago(executions, "deadline_at", 2_400)
    assert plot.executions.overdue() == []
    plot.ago(executions, "deadline_at", 601)
    assert plot.executions.overdue() == [begun]


def test_an_event_passes_a_backfill_s_copy_that_was_put_off_meanwhile(plot: Plot) -> None:
    (running,) = plot.running("v1")
    event = tags(plot, "v1")
    assert eligible(plot) == []

    plot.state.post([CopyPostponed(running, Counters(), 3600.0, failure_class="network")])

    assert eligible(plot) == [event]
    plot.set(copies, not_before=0.0)  # the back-off is over: one runs, the other waits behind it
    assert eligible(plot) == [event]
    (work,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=work.digest)])
    assert eligible(plot) == [running.execution]


def test_an_event_s_copy_that_was_put_off_is_left_to_a_newer_event(plot: Plot) -> None:
    first = tags(plot, "v1")
    (running,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    second = tags(plot, "v1")

    plot.state.post([CopyPostponed(running, Counters(), 3600.0, failure_class="network")])

    assert states(plot, first) == ["skipped"]
    assert eligible(plot) == [second]


def test_each_copy_taken_over_from_a_plan_stands_behind_the_last_of_its_own_name(
    plot: Plot,
) -> None:
    """By one statement for names with one rival, in line where there are several."""
    saved = SavedPlanStore(plot.database)
    plan = saved.create(a_rule(), trigger="api")
    assert plot.plans.begin(plan, "planner")
    plot.plans.add_repositories(plan, ["team/app"], cursor="", done=True)
    names = ("alone", "begun", "ended", "line", "waiting")
    plot.page(plan, [selected(name, destination_reference=f"fleet-{name}") for name in names])
    plot.plans.finish(plan)
    plot.dispatching.end_executions()
    carry = saved.carry_out(plan, trigger="api")
    full = plot.planned("begun", "line", "waiting", "unnamed")
    event = tags(plot, "line", "ended")
    other = tags(plot, "alone", rule="other")

    def place(execution: str, name: str) -> tuple[int, int]:
        row = plot.row(copies, execution_id=execution, source_reference=name)
        return row.id, row.behind

    def change(execution: str, name: str, **values: Any) -> None:
        own = copies.c.id == place(execution, name)[0]
        plot.database.write(
            lambda connection: connection.execute(update(copies).where(own).values(values))
        )

    change(full, "begun", state=CopyState.RUNNING)
    change(event, "ended", state=CopyState.COPIED)
    change(other, "alone", destination_reference="fleet-alone")
    assert plot.plans.begin(carry, "planner")

    saved.adopt(plan, carry)

    assert {name: place(carry, name)[1] for name in names} == {
        "alone": 0,
        "begun": place(full, "begun")[0],
        "ended": 0,
        "line": place(full, "line")[0],
        "waiting": place(full, "waiting")[0],
    }
    assert place(full, "line")[1] == place(event, "line")[0]
    assert [place(full, name)[1] for name in ("begun", "waiting", "unnamed")] == [0, 0, 0]


def test_what_is_taken_over_from_plans_stands_in_line_with_the_rest_of_its_rule(plot: Plot) -> None:
    saved = SavedPlanStore(plot.database)
    carries = []
    for _ in range(2):
        plan = saved.create(a_rule(), trigger="api")
        assert plot.plans.begin(plan, "planner")
        plot.plans.add_repositories(plan, ["team/app"], cursor="", done=True)
        plot.page(plan, [selected("v1", destination_reference="fleet-v1")])
        plot.plans.finish(plan)
        plot.dispatching.end_executions()
        carries.append((plan, saved.carry_out(plan, trigger="api")))
    (running,) = plot.running("v1")

    for plan, carry in carries:
        assert plot.plans.begin(carry, "planner")
        saved.adopt(plan, carry)
        plot.plans.finish(carry)

    order = []
    assert eligible(plot) == []
    while True:
        plot.state.post([CopyEnded(running, CopyState.COPIED, Counters(), digest=running.digest)])
        order.append(running.execution)
        due = plot.dispatching.eligible("local", 9)
        assert len(due) <= 1
        if not due:
            break
        (running,) = plot.state.begin(plot.dispatching.dispatch(due), BOOT)
    assert order[1:] == [carry for _, carry in carries]
