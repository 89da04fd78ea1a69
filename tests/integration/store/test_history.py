"""The last hour, minute by minute: what landed, how old its changes were, and when a rule was late."""

from __future__ import annotations

from sqlalchemy import func, insert, select, update

from service.model.states import CopyState, ExecutionState
from service.model.work import CopyEnded, CopyWork, Counters
from service.store.clock import database_now
from service.store.history import MINUTES, HistoryStore
from service.store.tables import copies, executions
from service.store.tables_freshness import rule_incidents
from tests.integration.store.builders import Plot


def landed(plot: Plot, work: CopyWork, minutes_ago: float, bytes_copied: int) -> None:
    plot.state.post([CopyEnded(work, CopyState.COPIED, Counters(bytes_copied=bytes_copied))])
    with plot.database.read() as connection:
        now = database_now(connection)
    at = (now // 60 - minutes_ago) * 60 + 1
    plot.database.write(
        lambda c: c.execute(update(copies).where(copies.c.id == work.ref.id).values(updated_at=at))
    )


def test_copies_are_counted_in_the_minute_in_which_they_landed(plot: Plot) -> None:
    works = plot.running("v1", "v2", "v3", "v4", "v5")
    for work, minutes, size in zip(
        works, (0, 0, 5, 59, 60), (1, 10, 100, 1000, 10_000), strict=True
    ):
        landed(plot, work, minutes, size)
    plot.ago(executions, "created_at", 7200)

    hour = HistoryStore(plot.database).hour()

    assert [(one.minute, one.copies, one.bytes) for one in hour.landed] == [
        (0, 1, 1000),
        (MINUTES - 6, 1, 100),
        (MINUTES - 1, 2, 11),
    ]
    assert {(one.rule, one.project) for one in hour.landed} == {("fleet", "default")}
    oldest, *_, newest = hour.landed
    assert newest.seconds - oldest.seconds == 59 * 60
    with plot.database.read() as connection:
        assert hour.began_at == (database_now(connection) // 60 - 59) * 60


def test_what_failed_or_belongs_to_plans_or_long_ended_runs_is_not_in_it(plot: Plot) -> None:
    failed, planned = plot.running("v1", "v2")
    plot.state.post([CopyEnded(failed, CopyState.FAILED, Counters(bytes_copied=1))])
    landed(plot, planned, 1, 5)
    assert len(HistoryStore(plot.database).hour().landed) == 1

    plot.set(executions, kind="verify")
    assert HistoryStore(plot.database).hour().landed == ()
    plot.set(executions, kind="full", state=ExecutionState.SUCCEEDED, finished_at=1.0)
    assert HistoryStore(plot.database).hour().landed == ()


def test_times_of_lateness_are_told_that_reach_into_it(plot: Plot) -> None:
    with plot.database.read() as connection:
        now = database_now(connection)
    spans = [
        ("late", now - 9000, now - 8000),
        ("late", now - 9000, now - 60),
        ("late", now - 50, None),
    ]
    for number, (kind, began, ended) in enumerate([*spans, ("idle", now - 50, None)]):
        row = {
            "rule": "slow",
            "region": str(number),
            "kind": kind,
            "began_at": began,
            "ended_at": ended,
        }
        plot.database.write(lambda c, row=row: c.execute(insert(rule_incidents).values(**row)))

    hour = HistoryStore(plot.database).hour()

    assert [(one.rule, one.began_at, one.ended_at) for one in hour.late] == [
        ("slow", now - 9000, now - 60),
        ("slow", now - 50, None),
    ]


def test_those_who_ask_within_a_moment_have_one_answer(plot: Plot) -> None:
    store = HistoryStore(plot.database)
    (work,) = plot.running("v1")
    before = store.hour()
    landed(plot, work, 0, 1)

    assert store.hour() is before
    with plot.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(copies)).scalar_one() == 1
