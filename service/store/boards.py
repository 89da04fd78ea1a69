"""The boards of executions in Redis: read, changed and written as if one were alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from redis.exceptions import WatchError

from service.model.board import Board, Moment, Need, OnBoard, UnderWay
from service.model.line import Line

T = TypeVar("T")

KEPT_SECONDS = 3600
"""A board that nobody has changed for so long is forgotten, with what is known of its lines."""


class RedisBoards:
    """Boards in one region's Redis; `work` is called again when somebody else was faster."""

    def __init__(self, redis: Any, *, prefix: str = "transship:") -> None:
        self._redis = redis
        self._prefix = prefix

    def change(self, execution: str, work: Callable[[Board, Moment], T]) -> T:
        """Have `work` read and change the board of an execution, and return what it returns.

        Raises RedisError.
        """
        key = f"{self._prefix}board:{execution}"
        with self._redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(key)
                    board = parse(pipe.get(key))
                    seconds, micros = pipe.time()
                    alive = frozenset(
                        boot for boot in board.boots() if pipe.exists(f"{self._prefix}alive:{boot}")
                    )
                    result = work(board, Moment(seconds + micros / 1e6, alive))
                    pipe.multi()
                    pipe.set(key, spell(board), ex=KEPT_SECONDS)
                    pipe.execute()
                except WatchError:
                    continue
                return result


def spell(board: Board) -> str:
    """Return a board as JSON."""
    return json.dumps(asdict(board), separators=(",", ":"))


def parse(text: str | bytes | None) -> Board:
    """Return the board that was spelled so; a new one for None."""
    if not text:
        return Board()
    document = json.loads(text)
    blobs = {digest: _on_board(value) for digest, value in document["blobs"].items()}
    lines = {name: _line(value) for name, value in document["lines"].items()}
    return Board(blobs, lines)


def _on_board(value: dict[str, Any]) -> OnBoard:
    return OnBoard(
        value["size"],
        value["media_type"],
        {int(copy): name for copy, name in value["holders"].items()},
        {
            int(copy): Need(**{**need, "near": tuple(need["near"])})
            for copy, need in value["needs"].items()
        },
        {int(copy): UnderWay(**one) for copy, one in value["under_way"].items()},
        value["moved_at"],
    )


def _line(value: dict[str, Any]) -> Line:
    together = {int(count): rate for count, rate in value["together"].items()}
    lately = [tuple(one) for one in value["lately"]]
    return Line(**{**value, "together": together, "lately": lately})
