"""What attempts of a copy came to: told in order, bounded, gone with the copy; none where it simply succeeded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import delete, func, select

from service.model.states import CopyState
from service.model.work import CopyEnded, CopyPostponed, CopyWork, Counters
from service.store import attempts
from service.store.attempts import LONGEST_REASON, MOST_ATTEMPTS, AttemptRecord
from service.store.database import Database
from service.store.tables import copies, executions, processes
from service.store.tables_attempts import copy_attempts
from tests.integration.store.builders import BOOT, Plot, a_digest


def told(plot: Plot, work: CopyWork) -> tuple[AttemptRecord, ...]:
    with plot.database.read() as connection:
        return attempts.attempts_of(connection, work.ref.id)


def again(plot: Plot, boot: str = BOOT) -> CopyWork:
    plot.ago(copies, "not_before", 1000)
    (work,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), boot
    )
    return work


def postponed(work: CopyWork, **values: Any) -> CopyPostponed:
    return CopyPostponed(
        work, Counters(bytes_copied=5), **{"failure_class": "server", "reason": "500", **values}
    )


def ended(work: CopyWork, state: CopyState = CopyState.COPIED, **values: Any) -> CopyEnded:
    return CopyEnded(work, state, Counters(bytes_copied=7), digest=a_digest("v1"), **values)


def test_copies_that_simply_succeed_write_nothing(plot: Plot) -> None:
    works = plot.running("v1", "v2", "v3")
    states = [CopyState.COPIED, CopyState.UNCHANGED, CopyState.SKIPPED]
    plot.state.post([ended(work, state) for work, state in zip(works, states, strict=True)])

    with plot.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(copy_attempts)).scalar() == 0


def test_success_after_failures_is_told_with_them(plot: Plot) -> None:
    first = plot.running("v1")[0]
    plot.state.post([postponed(first, failed=True)])
    second = again(plot, "other-1-ab")
    plot.state.post([postponed(second, failure_class="throttled", reason="429")])
    third = again(plot)
    plot.state.post([ended(third)])

    found = told(plot, first)
    assert [(one.number, one.outcome, one.counted, one.failure_class) for one in found] == [
        (1, "again", True, "server"),
        (2, "again", False, "throttled"),
        (3, "copied", False, ""),
    ]
    assert [one.worker for one in found] == [BOOT, "other-1-ab", BOOT]
    assert [one.bytes for one in found] == [5, 5, 7]
    assert {one.region for one in found} == {"local"}
    for one in found:
        assert 0 < one.began_at <= one.ended_at


def test_attempt_that_was_called_off_or_begun_once_more_leaves_no_row(plot: Plot) -> None:
    work = plot.running("v1")[0]
    plot.state.post([CopyPostponed(work, Counters())])  # paused, or its process drained
    plot.state.post([ended(again(plot))])

    assert told(plot, work) == ()


def test_failure_is_told_and_a_late_one_is_not(plot: Plot) -> None:
    work = plot.running("v1")[0]
    plot.state.post([postponed(work, failed=True)])
    newer = again(plot)
    plot.state.post([ended(work, CopyState.FAILED, failure_class="denied", reason="late")])
    plot.state.post([ended(newer, CopyState.FAILED, failure_class="denied", reason="x" * 5000)])

    assert [(one.outcome, one.failure_class, len(one.reason)) for one in told(plot, work)] == [
        ("again", "server", 3),
        ("failed", "denied", LONGEST_REASON),
    ]


def test_waits_for_the_same_are_one_row_and_others_their_own(plot: Plot) -> None:
    work = plot.running("v1")[0]
    for _ in range(3):
        plot.state.post([postponed(work, away=True)])
        work = again(plot)
    plot.state.post([postponed(work, failed=True)])
    plot.state.post([postponed(again(plot), failed=True)])

    found = told(plot, work)
    assert [(one.number, one.times, one.counted) for one in found] == [
        (3, 3, False),
        (4, 1, True),
        (5, 1, True),
    ]
    assert found[0].bytes == 15


def test_only_the_last_ones_are_kept(plot: Plot) -> None:
    work = plot.running("v1")[0]
    for number in range(MOST_ATTEMPTS + 5):
        plot.state.post([postponed(work, failed=True, reason=f"{number} \0 \ud800")])
        work = again(plot)

    found = told(plot, work)
    assert [one.number for one in found] == list(range(6, MOST_ATTEMPTS + 6))
    assert found[-1].reason == f"{MOST_ATTEMPTS + 4} \ufffd \ufffd"


def test_end_of_a_process_is_told_of_what_it_held(plot: Plot) -> None:
    plot.heartbeat("dead")
    work = plot.running("v1", boot="dead")[0]
    plot.ago(processes, "seen_at", 60)
    assert plot.dispatching.recover_dead(max_crashes=3) == {"dead": 1}
    plot.state.post([ended(again(plot))])

    assert [(one.number, one.outcome, one.worker) for one in told(plot, work)] == [
        (1, "died", "dead"),
        (2, "copied", BOOT),
    ]


def test_they_go_with_their_execution(plot: Plot, database: Database) -> None:
    work = plot.running("v1")[0]
    plot.state.post([postponed(work, failed=True)])
    assert told(plot, work)
    database.write(lambda c: c.execute(delete(executions).where(executions.c.id == work.execution)))

    assert told(plot, work) == ()


def test_what_a_region_tells_goes_before_home_s_own_word(plot: Plot, database: Database) -> None:
    work = plot.running("v1", boot="agent")[0]
    plot.state.post([ended(work, CopyState.FAILED, failure_class="server", reason="500")])
    (own,) = told(plot, work)
    there = [
        {name: getattr(own, name) for name in attempts.TOLD} | {"number": number, "worker": "w"}
        for number in (1, 2)
    ]
    database.write(lambda connection: attempts.take(connection, work.ref.id, there))
    database.write(lambda connection: attempts.take(connection, work.ref.id, there))

    assert told(plot, work) == (
        replace(own, worker="w"),
        replace(own, worker="w", number=2),
    )
