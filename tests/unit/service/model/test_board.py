"""Who sends which large blob to whom next."""

from __future__ import annotations

from collections import Counter

from service.model.board import (
    FORGOTTEN_SECONDS,
    LOST_SECONDS,
    MOST_BLOBS,
    QUEUED_SECONDS,
    Board,
    Moment,
    Need,
)
from service.model.line import LEAST_BYTES
from service.model.work import Errand, PartBlob

HEAD = 0
ALONE = Moment(0.0, "p".__eq__)
BIG = 8 * LEAST_BYTES


def blob(number: int, size: int = BIG) -> PartBlob:
    return PartBlob(f"sha256:{number:064x}", size, "a/b")


def registry(copy: int) -> str:
    return f"r{copy}"


def needs(*copies: int, near: tuple[str, ...] = ()) -> dict[int, Need]:
    everybody = tuple(registry(copy) for copy in range(20))
    return {copy: Need(registry(copy), "here", f"to {copy}", near or everybody) for copy in copies}


def offer(board: Board, one: PartBlob, *copies: int, by: int = HEAD) -> list[str]:
    return board.offer(one, by, registry(by), needs(*copies), now=0.0)


def assign(board: Board, now: float = 0.0, *alive: str) -> list[Errand]:
    return [errand for errand, _ in board.assign("x", Moment(now, alive.__contains__))]


def ways(errands: list[Errand]) -> list[tuple[int, int]]:
    return [(errand.holder, errand.follower) for errand in errands]


def carry_out(board: Board, errands: list[Errand], now: float = 1.0) -> None:
    """Carry out errands that end together; who sends or gets two takes twice as long."""
    out = Counter(errand.holder for errand in errands)
    into = Counter(errand.follower for errand in errands)
    for errand in errands:
        seconds = max(out[errand.holder], into[errand.follower])
        assert board.begin(errand, now - seconds, "p") is not None
    for errand in errands:
        assert board.end(errand, now, placed=True) is not None


def rounds(board: Board) -> tuple[list[list[Errand]], Counter[int]]:
    """What goes in each round, and how much each has sent."""
    found, sent, now = [], Counter[int](), 0.0
    while errands := assign(board, now):
        now += 10.0
        carry_out(board, errands, now)
        found.append(errands)
        sent.update({errand.holder: 0 for errand in errands})
        for errand in errands:
            sent[errand.holder] += errand.blob.size
    return found, sent


def test_one_blob_doubles() -> None:
    board = Board()
    assert offer(board, blob(1), *range(1, 8)) == [registry(n) for n in range(1, 8)]

    found, _ = rounds(board)

    assert [len(errands) for errands in found] == [1, 2, 4]
    assert board.blobs == {}


def test_nobody_sends_or_gets_two_large_blobs_at_once() -> None:
    board = Board()
    for number in range(6):
        offer(board, blob(number), *range(1, 8))

    found, sent = rounds(board)

    assert sum(map(len, found)) == 6 * 7
    for errands in found:
        beside = max(Counter(errand.holder for errand in errands).values())
        into = max(Counter(errand.follower for errand in errands).values())
        assert max(beside, into) <= 2, "one, and one more to try the line"
    assert max(sent.values()) <= 2 * sum(sent.values()) / 8


def test_what_fewest_have_goes_first_and_of_that_the_largest() -> None:
    board = Board()
    offer(board, blob(1), 1, 2, 3)
    carry_out(board, assign(board))
    offer(board, blob(2, BIG + 1), 1, 2, 3)
    offer(board, blob(3, BIG + 2), 1, 2, 3)

    first = assign(board)

    assert [(e.holder, e.blob.size) for e in first] == [(HEAD, BIG + 2), (1, BIG)]


def test_small_blobs_go_side_by_side_as_far_as_the_line_carries() -> None:
    board = Board()
    for number in range(8):
        offer(board, blob(number, LEAST_BYTES // 4), 1)

    assert len(assign(board)) == 4


def test_a_blob_goes_only_where_it_is_best_fed_from() -> None:
    board = Board()
    wanted = needs(1, near=("r0",)) | needs(2, near=("r1",))
    board.offer(blob(1), HEAD, "r0", wanted, now=0.0)

    first = assign(board)
    assert ways(first) == [(HEAD, 1)]
    carry_out(board, first)
    assert ways(assign(board)) == [(1, 2)]


def test_an_errand_that_does_not_begin_or_whose_process_dies_is_given_again() -> None:
    board = Board()
    offer(board, blob(1), 1)
    (errand,) = assign(board, 0.0)

    assert assign(board, QUEUED_SECONDS - 1) == []
    assert ways(assign(board, QUEUED_SECONDS + 1)) == [(HEAD, 1)]
    assert board.begin(errand, 30.0, "p") == []
    assert assign(board, 500.0, "p") == []
    assert (board.boots(30.0), board.boots(31.0)) == (set(), {"p"})
    assert ways(assign(board, 500.0)) == [(HEAD, 1)]


def test_an_errand_is_carried_out_once() -> None:
    board = Board()
    offer(board, blob(1), 1, 2)
    (errand,) = assign(board)

    assert board.begin(errand, 1.0, "p") == [registry(2)]
    assert board.begin(errand, 1.0, "q") is None
    assert board.end(errand, 2.0, placed=True) is not None
    assert board.begin(errand, 3.0, "q") is None
    assert board.end(errand, 3.0, placed=True) is None


def test_what_could_not_be_placed_is_left_to_the_copy() -> None:
    board = Board()
    offer(board, blob(1), 1, 2)
    (first,) = assign(board)
    board.begin(first, 0.0, "p")

    assert board.end(first, 1.0, placed=False) is not None

    assert ways(assign(board)) == [(HEAD, 2)]


def test_who_has_brought_it_itself_needs_it_no_more_and_passes_it_on() -> None:
    board = Board()
    offer(board, blob(1), 1, 2, 3)
    carried = assign(board)

    assert offer(board, blob(1), HEAD, 1, 3, by=2) == [registry(3)]

    assert ways(carried) == [(HEAD, 1)]
    assert ways(assign(board)) == [(2, 3)]


def test_a_blob_that_nobody_can_bring_goes_from_the_board() -> None:
    board = Board()
    board.offer(blob(1), HEAD, "r0", needs(1, near=("r9",)), now=0.0)

    assert assign(board, FORGOTTEN_SECONDS - 1) == []
    assert board.awaits(1)
    assert assign(board, FORGOTTEN_SECONDS + 1) == []
    assert not board.awaits(1)


def test_a_full_board_takes_no_more() -> None:
    board = Board()
    for number in range(MOST_BLOBS):
        assert offer(board, blob(number), 1)

    assert offer(board, blob(MOST_BLOBS), 1) == []
    assert offer(board, blob(0), 2) == [registry(1), registry(2)], "it is on the board"
    assert offer(board, blob(MOST_BLOBS + 1)) == []


def feed(board: Board, one: PartBlob, wanted: tuple[int, ...], fed: tuple[int, ...]) -> list[int]:
    return board.feed(one, HEAD, needs(*wanted), fed, ALONE, "p")


def test_the_first_that_was_fed_serves_those_that_cannot_be() -> None:
    board = Board()

    assert feed(board, blob(1), (1, 2, 3), (1, 2)) == [1, 2]

    assert assign(board, 1.0, "p") == [], "nobody has it yet"
    assert board.end(Errand("x", blob(1), HEAD, 2), 2.0, placed=True) is not None
    assert ways(assign(board, 2.0, "p")) == [(2, 3)]
    assert set(board.blobs[blob(1).digest].needs) == {1, 3}, "who was fed needs it no more"


def test_who_was_not_fed_after_all_gets_it_from_the_next() -> None:
    board = Board()
    feed(board, blob(1), (1, 2), (1, 2))

    board.again(Errand("x", blob(1), HEAD, 1))

    assert assign(board, 1.0, "p") == []
    board.end(Errand("x", blob(1), HEAD, 2), 1.0, placed=True)
    assert ways(assign(board, 1.0, "p")) == [(2, 1)]


def test_whose_feeder_dies_is_served_by_the_next_who_has_it() -> None:
    board = Board()
    feed(board, blob(1), (1, 2), (1, 2))

    offer(board, blob(1), 1, 2)

    assert assign(board, 1.0, "p") == []
    assert ways(assign(board, 1.0)) == [(HEAD, 1)]


def test_nobody_is_fed_twice_or_with_what_others_have() -> None:
    board = Board()

    assert feed(board, blob(1), (1, 2), (1,)) == [1]
    assert feed(board, blob(1), (1, 2), (1, 2)) == [2]
    assert board.feed(blob(1), 9, {7: needs(1)[1]}, [7], ALONE, "q") == [], "the same place"
    offer(board, blob(2), 1, 2)
    assert feed(board, blob(2), (1, 2), (1, 2)) == [], "errands bring it"
    assert feed(board, blob(3), (), ()) == []
    assert set(board.blobs) == {blob(1).digest, blob(2).digest}


def test_what_nobody_could_read_goes_from_the_board() -> None:
    board = Board()
    feed(board, blob(1), (1, 2, 3), (1, 2))

    board.broke_off(blob(1).digest)

    assert board.blobs == {}
    offer(board, blob(2), 1)
    board.broke_off(blob(2).digest)
    assert board.awaits(1), "somebody has it"


def test_a_dead_feeders_blob_is_fed_by_the_next_reader() -> None:
    board = Board()
    feed(board, blob(1), (1, 2), (1, 2))

    assert board.feed(blob(1), HEAD, needs(1, 2), (1, 2), Moment(1.0, "q".__eq__), "q") == [1, 2]


def test_an_errand_whose_end_nobody_could_tell_holds_no_line_for_good() -> None:
    board = Board()
    offer(board, blob(1), 1)
    (errand,) = assign(board)
    board.begin(errand, 0.0, "p")

    assert assign(board, LOST_SECONDS - 1, "p") == []
    assert board.awaits(1)
    assert assign(board, LOST_SECONDS + 1, "p") == []
    assert not board.awaits(1), "whose copy brings it now"


def test_who_waits_for_what_was_fed_to_others_is_told_with_the_offer() -> None:
    board = Board()
    feed(board, blob(1), (1, 2, 3), (1,))

    assert offer(board, blob(1), 1, 2, 3) == [registry(2), registry(3)]
