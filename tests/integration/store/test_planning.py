"""Planning: one owner, pages that may be saved again, a cursor that a crash resumes from."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from service.errors import Cancelled
from service.model.states import CopyState, ExecutionState
from service.model.work import CopyEnded, Counters
from service.store.database import Database
from service.store.executions import ExecutionStore
from service.store.planning import Cursor, PlanStore
from service.store.tables import copies, digest_tags
from service.store.tables import executions as executions_table
from tests.integration.store.builders import Plot, a_digest, a_rule, in_threads, selected
from tests.integration.store.conftest import OpenDatabase


def test_planning_has_one_owner(database: Database, open_database: OpenDatabase) -> None:
    stores = [PlanStore(database), PlanStore(open_database())]
    execution = ExecutionStore(database).create(a_rule(), trigger="api").id

    begun = in_threads(8, lambda number: stores[number % 2].begin(execution, f"boot{number % 3}"))

    assert begun.count(True) == 1
    record = ExecutionStore(database).get(execution)
    assert record.state is ExecutionState.RUNNING
    assert record.started_at is not None
    assert stores[0].attempts(execution) == 1


def test_a_second_message_in_the_same_process_does_not_plan_beside_the_first(plot: Plot) -> None:
    execution = plot.execution()

    assert not plot.plans.begin(execution, "planner")


def test_postponed_planning_goes_on_later_and_finished_never(plot: Plot) -> None:
    execution = plot.execution()
    plot.plans.postpone(execution, 60, reason="away", failure_class="network")
    assert not plot.plans.due(execution)
    assert plot.dispatching.unplanned(30) == []
    plot.ago(executions_table, "not_before", 61)
    assert plot.plans.due(execution)
    assert plot.dispatching.unplanned(30) == [execution]
    assert plot.plans.begin(execution, "another")
    assert plot.plans.open(execution)

    plot.plans.finish(execution)

    assert not plot.plans.open(execution)
    assert not plot.plans.begin(execution, "third")


def test_a_page_may_be_saved_again(plot: Plot) -> None:
    execution = plot.execution()
    for _ in range(2):
        plot.page(execution, [selected("v1"), selected("v2")], referrer_tags=["sha256-aa.sig"])

    assert _references(plot) == ["v1", "v2"]
    with plot.database.read() as connection:
        assert connection.execute(select(digest_tags.c.tag)).scalars().all() == ["sha256-aa.sig"]


def test_a_copy_that_runs_already_is_not_planned_anew(plot: Plot) -> None:
    execution = plot.execution()
    plot.page(execution, [selected("v1")], done=False, cursor="next")
    ref = plot.dispatching.dispatch(plot.dispatching.eligible("local", 1))[0]
    work = plot.state.begin([ref], "boot")[0]

    plot.page(execution, [selected("v1"), selected("v2")], done=True)

    assert plot.copy(ref).state == CopyState.RUNNING
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters())])
    assert plot.copy(ref).state == CopyState.COPIED


def test_a_crash_resumes_from_the_cursors(plot: Plot) -> None:
    execution = plot.execution()
    plots = plot.plans
    plots.add_repositories(
        execution, ["team/b", "team/a"], cursor="/v2/_catalog?last=b", done=False
    )
    plots.add_repositories(execution, ["team/b"], cursor="/v2/_catalog?last=c", done=False)
    assert plots.catalog(execution) == ("/v2/_catalog?last=c", False)
    plots.add_repositories(execution, [], cursor="", done=True)
    assert plots.catalog(execution) == ("", True)
    plot.page(execution, [selected("v1")], cursor="?last=v1", done=False, matched=9, unchanged=8)

    assert plots.cursors(execution) == [
        Cursor("team/a", ""),
        Cursor("team/app", "?last=v1"),
        Cursor("team/b", ""),
    ]
    plot.page(execution, [selected("v2")], matched=3, unchanged=2)
    assert [c.repository for c in plots.cursors(execution)] == ["team/a", "team/b"]
    assert plots.matched(execution) == 12
    assert plot.executions.totals(execution).unchanged == 10


def test_a_page_that_comes_after_the_stop_leaves_nothing_open(plot: Plot) -> None:
    execution = plot.execution()
    plot.page(execution, [selected("v1")], done=False)
    plot.executions.request_stop(execution)

    with pytest.raises(Cancelled):
        plot.page(execution, [selected("v2")])

    assert _references(plot) == ["v1"]
    assert plot.dispatching.eligible("local", 10) == []
    assert [e.state for e in plot.dispatching.end_executions()] == [ExecutionState.STOPPED]


def test_tags_that_were_committed_and_are_gone_count_once(plot: Plot) -> None:
    work = plot.running("v1")[0]
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(), digest=a_digest("v1"))])
    place = ("west", "mirror/team/app", "fleet-v1")
    others = [("west", "mirror/team/app", f"x{number}") for number in range(450)]

    assert plot.plans.lost_tags([*others, place]) == [place]
    assert plot.plans.lost_tags([]) == []
    plot.plans.forget_tags([place])
    assert plot.plans.lost_tags([place]) == []


def test_warnings_are_said_once_and_bounded(plot: Plot) -> None:
    execution = plot.execution()
    for number in range(150):
        plot.plans.warn(execution, f"warning {number % 120} \0")

    warnings = plot.executions.get(execution).warnings

    assert len(warnings) == 100
    assert len(set(warnings)) == 100


def test_the_last_run_is_clean_only_if_it_succeeded(plot: Plot) -> None:
    first = plot.execution()
    assert plot.plans.clean_before(first, "fleet")
    plot.plans.fail(first, reason="no", failure_class="auth")
    assert [e.state for e in plot.dispatching.end_executions()] == [ExecutionState.FAILED]
    second = plot.execution()

    assert not plot.plans.clean_before(second, "fleet")
    assert plot.plans.clean_before(second, "other")


def _references(plot: Plot) -> list[str]:
    with plot.database.read() as connection:
        return sorted(connection.execute(select(copies.c.source_reference)).scalars())
