"""Boards in a real Redis: changed by one at a time, and read as they were written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import redis

from service.model.board import Board, Moment, Need
from service.model.work import PartBlob
from service.store.boards import BELIEVED_SECONDS, KEPT_SECONDS, RedisBoards
from service.store.claims import RedisClaims

NEED = Need("west", "eu", "label", ("east", "north"))


def put_up(board: Board, number: int, now: float = 0.0) -> None:
    board.offer(PartBlob(f"sha256:{number:064x}", 5, "a/b"), 1, "east", {2: NEED}, now)


def test_a_board_is_read_as_it_was_written(client: redis.Redis) -> None:
    boards = RedisBoards(client)

    def change(board: Board, moment: Moment) -> Board:
        put_up(board, 7, moment.now)
        ((errand, need),) = board.assign("x", moment)
        assert need == NEED
        assert board.begin(errand, moment.now, "p") == []
        board.lines["out east"].note(0.0, 1.0, 5 << 20, 2, 0.1)
        return board

    written = boards.change("x", change)

    assert boards.change("x", lambda board, _: board) == written
    assert boards.change("y", lambda board, _: board) == Board()
    assert 0 < client.ttl("transship:board:x") <= KEPT_SECONDS


def test_of_many_changes_none_is_lost(client: redis.Redis) -> None:
    processes = [RedisBoards(client) for _ in range(4)]
    boards = processes[0]

    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            pool.submit(
                processes[number % 4].change, "x", lambda board, _, n=number: put_up(board, n)
            )

    assert len(boards.change("x", lambda board, _: board).blobs) == 40


def test_a_board_is_told_who_lives(client: redis.Redis) -> None:
    boards, claims = RedisBoards(client), RedisClaims(client)
    claims.keep_alive("p", 60)

    def begin(board: Board, moment: Moment) -> bool:
        put_up(board, 1, moment.now)
        for errand, _ in board.assign("x", moment):
            board.begin(errand, moment.now - 2 * BELIEVED_SECONDS, "p")
        return moment.lives("p")

    boards.change("x", begin)
    assert boards.change("x", lambda _, moment: moment.lives("p"))
    claims.bury("p")
    assert not boards.change("x", lambda _, moment: moment.lives("p"))
