"""The state of work: every write holds only at its fence, and each step has one owner."""

from __future__ import annotations

import pytest

from service.model.states import BlobState, CopyState
from service.model.work import (
    BlobPlaced,
    CopyEnded,
    CopyFansOut,
    CopyPostponed,
    CopyRef,
    CopyWaits,
    CopyWork,
    Counters,
    LedgerDistrusted,
    Outcome,
    PartBlob,
    PartEnded,
    Presence,
    Proof,
    Wake,
)
from service.store.database import Database
from service.store.tables import copies, presence, processes, written_tags
from service.store.work import SqlState
from tests.integration.store.builders import BOOT, Plot, a_digest, in_threads
from tests.integration.store.conftest import OpenDatabase

# ---- begin ---------------------------------------------------------------------------------------


def test_begin_owns_only_what_was_sent_under_this_fence(plot: Plot) -> None:
    sent, other = plot.dispatched("v1", "v2")
    old = CopyRef(sent.id, sent.fence - 1)

    assert plot.state.begin([old, CopyRef(999, 1)], BOOT) == []
    owned = plot.state.begin([sent, other], BOOT)

    assert [work.ref for work in owned] == [sent, other]
    work, row = owned[0], plot.copy(sent)
    assert (row.state, row.owner, row.attempts, bool(row.started)) == ("running", BOOT, 1, True)
    assert (work.source_reference, work.digest) == ("v1", a_digest("v1"))
    assert (work.fresh, work.listed, work.referrers, work.retried) == (True, True, True, False)


def test_two_deliveries_of_one_task_give_one_owner(plot: Plot, open_database: OpenDatabase) -> None:
    refs = plot.dispatched("v1", "v2", "v3")
    states = [plot.state, SqlState(open_database()), SqlState(open_database())]

    begun = in_threads(6, lambda number: states[number % 3].begin(refs, f"boot{number}"))

    assert sorted(work.ref.id for one in begun for work in one) == sorted(ref.id for ref in refs)
    assert {plot.copy(ref).attempts for ref in refs} == {1}


def test_a_part_is_begun_once(plot: Plot, open_database: OpenDatabase) -> None:
    work = plot.fanned_out(["a", "b"], ["c"])
    states = [plot.state, SqlState(open_database())]

    begun = [
        part
        for part in in_threads(4, lambda n: states[n % 2].begin_part(work.ref, 0, f"boot{n}"))
        if part is not None
    ]

    assert len(begun) == 1
    assert {blob.digest for blob in begun[0].blobs} == {a_digest("a"), a_digest("b")}
    assert begun[0].blobs[0].size == 10
    assert plot.blob(work.ref, "c").owner == ""
    assert plot.state.begin_part(CopyRef(work.ref.id, work.ref.fence + 1), 1, BOOT) is None
    assert plot.state.begin_part(work.ref, 2, BOOT) is None


def test_a_commit_is_begun_once(plot: Plot, open_database: OpenDatabase) -> None:
    work = plot.fanned_out(["a"], ["b"])
    states = [plot.state, SqlState(open_database())]
    for number, name in enumerate("ab"):
        assert plot.state.begin_commit(work.ref, BOOT) is None  # a part is under way
        part = plot.state.begin_part(work.ref, number, BOOT)
        assert part is not None
        placed = (BlobPlaced(a_digest(name), BlobState.COPIED),)
        plot.state.post([PartEnded(part, Counters(), placed)])
    assert plot.state.begin_commit(CopyRef(work.ref.id, work.ref.fence - 1), BOOT) is None

    begun = in_threads(4, lambda number: states[number % 2].begin_commit(work.ref, f"boot{number}"))

    assert [one.ref for one in begun if one is not None] == [work.ref]
    assert plot.copy(work.ref).state == CopyState.RUNNING


# ---- outcomes ------------------------------------------------------------------------------------


def test_two_ends_of_one_fence_leave_one_success(plot: Plot, open_database: OpenDatabase) -> None:
    work = plot.running("v1")[0]
    states = [plot.state, SqlState(open_database())]
    ends = [
        CopyEnded(work, CopyState.COPIED, Counters(blobs_copied=1), digest=a_digest("v1")),
        CopyEnded(work, CopyState.FAILED, Counters(blobs_copied=1), failure_class="server"),
    ]

    in_threads(4, lambda number: states[number % 2].post([ends[0]]))
    plot.state.post([ends[1]])

    row = plot.copy(work.ref)
    assert (row.state, row.blobs_copied, row.failure_class) == (CopyState.COPIED, 1, "")
    tag = plot.row(written_tags)
    assert (tag.registry, tag.repository, tag.tag) == ("west", "mirror/team/app", "fleet-v1")
    assert (tag.digest, tag.rule) == (a_digest("v1"), "fleet")


def test_what_was_not_copied_is_not_a_tag_of_ours(plot: Plot) -> None:
    works = plot.running("v1", "v2", "v3")
    states = [CopyState.FAILED, CopyState.SKIPPED, CopyState.SUPERSEDED]
    plot.state.post([CopyEnded(w, s, Counters()) for w, s in zip(works, states, strict=True)])

    with pytest.raises(Exception, match="No row"):
        plot.row(written_tags)


def test_a_postponed_copy_waits_its_pause_under_a_new_fence(plot: Plot) -> None:
    work = plot.running("v1")[0]
    counters = Counters(requests={"west": 2}, bytes_copied=5)
    plot.state.post(
        [
            CopyPostponed(
                work, counters, pause_seconds=60, failed=True, failure_class="server", reason="r"
            )
        ]
    )

    row = plot.copy(work.ref)
    assert (row.state, row.fence, row.owner) == (CopyState.PENDING, work.ref.fence + 1, "")
    assert (row.failures, row.replans, row.bytes_copied) == (1, 0, 5)
    assert plot.dispatching.eligible("local", 9) == []
    plot.ago(copies, "not_before", 61)
    (again,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    assert (again.failures, again.retried) == (1, True)

    plot.state.post([CopyPostponed(again, Counters(), replanned=True, digest=a_digest("new"))])
    row = plot.copy(work.ref)
    assert (row.digest, row.replans, row.failures) == (a_digest("new"), 1, 1)


@pytest.mark.parametrize("kind", ["ended", "postponed", "waits", "fans out"])
def test_an_outcome_of_an_old_fence_changes_nothing(plot: Plot, kind: str) -> None:
    work = plot.running("v1")[0]
    plot.state.post([CopyPostponed(work, Counters())])
    (again,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), "other"
    )
    before = plot.copy(work.ref)

    plot.state.post([_late(kind, work)])

    assert plot.copy(work.ref) == before
    assert plot.state.holds(again.ref)
    assert not plot.state.holds(work.ref)


def test_what_an_old_fence_fanned_out_is_not_what_a_new_one_waits_for(plot: Plot) -> None:
    work = plot.fanned_out(["a"], ["b"])
    assert plot.state.begin_part(work.ref, 0, "dead") is not None
    plot.state.post([CopyPostponed(work, Counters())])
    (again,) = plot.state.begin(
        plot.dispatching.dispatch(plot.dispatching.eligible("local", 9)), BOOT
    )
    parts = ((PartBlob(a_digest("b"), 10, "layer"),),)
    plot.state.post([CopyFansOut(again, Counters(), parts, ("task",))])
    part = plot.state.begin_part(again.ref, 0, BOOT)
    assert part is not None

    plot.state.post([PartEnded(part, Counters(), (BlobPlaced(a_digest("b"), BlobState.COPIED),))])

    plot.ago(copies, "updated_at", 60)
    assert plot.dispatching.uncommitted(10) == [("local", again.ref)]
    plot.heartbeat("dead")
    plot.ago(processes, "seen_at", 60)
    assert plot.dispatching.recover_dead(max_crashes=3) == {"dead": 0}
    assert plot.state.begin_commit(again.ref, BOOT) is not None


def test_a_waiting_copy_is_woken_and_no_other(plot: Plot) -> None:
    waiting, running = plot.running("v1", "v2")
    plot.state.post([CopyWaits(waiting, Counters(), a_digest("layer"))])
    row = plot.copy(waiting.ref)
    assert (row.state, row.waiting_on, row.owner) == ("waiting", a_digest("layer"), "")

    plot.state.post([Wake((waiting.ref.id, running.ref.id, 999))])
    plot.state.post([Wake((waiting.ref.id,))])

    row = plot.copy(waiting.ref)
    assert (row.state, row.waiting_on) == ("pending", "")
    assert row.fence == waiting.ref.fence + 1
    assert plot.copy(running.ref).state == CopyState.RUNNING


def test_a_wake_up_does_not_shorten_a_pause(plot: Plot) -> None:
    work = plot.running("v1")[0]
    plot.state.post([CopyWaits(work, Counters(), a_digest("layer"))])
    plot.set(copies, not_before=9e9)

    plot.state.post([Wake((work.ref.id,))])

    assert plot.copy(work.ref).state == CopyState.PENDING
    assert plot.dispatching.eligible("local", 9) == []


def test_parts_report_and_their_failures_are_told(plot: Plot) -> None:
    work = plot.fanned_out(["a"], ["b", "c"])
    assert plot.copy(work.ref).state == CopyState.COPYING
    part = plot.state.begin_part(work.ref, 1, BOOT)
    assert part is not None
    failed = BlobPlaced(a_digest("b"), BlobState.FAILED, "server", "503")
    placed = BlobPlaced(a_digest("c"), BlobState.MOUNTED)

    plot.state.post(
        [PartEnded(part, Counters(blobs_mounted=1, requests={"west": 4}), (failed, placed))]
    )

    assert plot.state.part_failures(work.ref) == [failed]
    assert plot.copy(work.ref).blobs_mounted == 1
    assert plot.executions.requests([work.execution]) == {"west": 4}
    assert plot.state.part_failures(CopyRef(work.ref.id, work.ref.fence + 1)) == []


# ---- the ledger ----------------------------------------------------------------------------------


def test_a_proof_is_believed_in_its_execution_and_a_hint_in_others(plot: Plot) -> None:
    digest = a_digest("layer")
    plot.state.prove("run1", [_proof(digest)])

    assert plot.state.presence("west", "u", [digest, a_digest("x")], "run1") == [
        Presence(digest, "mirror/app", proved_here=True)
    ]
    assert plot.state.presence("west", "u", [digest], "run2") == [
        Presence(digest, "mirror/app", proved_here=False)
    ]
    assert plot.state.presence("west", "other", [digest], "run1") == []
    assert plot.state.presence("north", "u", [digest], "run1") == []

    plot.ago(presence, "proved_at", 3601)
    assert not plot.state.presence("west", "u", [digest], "run1")[0].proved_here
    plot.state.prove("run1", [_proof(digest)])
    assert plot.state.presence("west", "u", [digest], "run1")[0].proved_here


def test_distrust_voids_what_was_proved_before_and_not_after(plot: Plot) -> None:
    digest = a_digest("layer")
    for number in range(2):
        plot.state.prove("run1", [_proof(digest), _proof(digest, registry="north")])
        assert plot.state.presence("west", "u", [digest], "run1")

        plot.state.post([LedgerDistrusted("west", "u", f"evidence {number}")])

        assert plot.state.presence("west", "u", [digest], "run1") == []
        assert plot.state.presence("north", "u", [digest], "run1")


def test_processes_prove_the_same_blob_at_once(plot: Plot, open_database: OpenDatabase) -> None:
    states = [plot.state, SqlState(open_database()), SqlState(open_database())]
    digests = [a_digest(f"layer{number}") for number in range(30)]

    def prove(number: int) -> None:
        order = digests if number % 2 else digests[::-1]
        states[number % 3].prove("run", [_proof(digest) for digest in order])

    in_threads(6, prove)

    assert len(plot.state.presence("west", "u", digests, "run")) == 30


def test_requests_of_many_threads_add_up(plot: Plot, database: Database) -> None:
    execution = plot.execution()

    in_threads(
        8, lambda _: [plot.state.add_requests(execution, {"a": 1, "b": 2}) for _ in range(10)]
    )

    assert plot.executions.requests([execution]) == {"a": 80, "b": 160}


def test_listed_digest_tags_belong_to_their_digest(plot: Plot) -> None:
    execution = plot.execution()
    mine, other = "sha256-" + "a" * 64, "sha256-" + "b" * 64
    plot.page(execution, [], referrer_tags=[mine, f"{mine}.sig", f"{other}.sig", f"{mine}x"])

    assert plot.state.digest_tags(execution, "team/app", [mine]) == ([mine, f"{mine}.sig"], True)
    assert plot.state.digest_tags(execution, "team/other", [mine]) == ([], False)


def test_a_heartbeat_makes_the_row_and_renews_it(plot: Plot) -> None:
    plot.heartbeat(slots=4)
    plot.ago(processes, "seen_at", 60)
    assert plot.dispatching.slots() == {}

    plot.heartbeat(slots=6)
    plot.heartbeat("sched", kind="scheduler", slots=0)

    assert plot.dispatching.slots() == {"local": 6}


def test_a_process_that_ends_in_order_leaves_no_row_unless_it_holds_work(plot: Plot) -> None:
    work = plot.running("v1", boot="busy", rule="busy")[0]
    fanned_out = plot.fanned_out(["a"], tag="v2", boot="fan")
    assert plot.state.begin_part(fanned_out.ref, 0, "part") is not None
    for boot in ("busy", "part", "idle"):
        plot.heartbeat(boot)
        plot.state.farewell(boot)

    plot.ago(processes, "seen_at", 60)
    assert plot.dispatching.recover_dead(max_crashes=3) == {"busy": 1, "part": 1}
    assert plot.copy(work.ref).state == CopyState.PENDING
    assert [part.ref for part in plot.dispatching.take_idle_parts()] == [fanned_out.ref]


def _proof(digest: str, registry: str = "west") -> Proof:
    return Proof(registry, "u", "mirror/app", digest, 10)


def _late(kind: str, work: CopyWork) -> Outcome:
    match kind:
        case "ended":
            return CopyEnded(work, CopyState.COPIED, Counters())
        case "postponed":
            return CopyPostponed(work, Counters())
        case "waits":
            return CopyWaits(work, Counters(), a_digest("layer"))
        case _:
            return CopyFansOut(work, Counters(), ((PartBlob(a_digest("a"), 1, "t"),),), ("t",))
