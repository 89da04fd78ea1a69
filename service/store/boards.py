"""The boards of executions in Redis: read, changed and written as if one were alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any, TypeVar

from service.model.board import Board, Moment, Need, OnBoard, UnderWay
from service.model.line import Line

T = TypeVar("T")

BELIEVED_SECONDS = 5.0
"""Whether its process lives is asked of an errand that takes longer."""

KEPT_SECONDS = 3600
"""A board that nobody has changed for so long is forgotten, with what is known of its lines."""


_REPLACE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisBoards:
    """Boards in one region's Redis; `work` is called again when somebody else was faster. Safe between threads."""

    def __init__(self, redis: Any, *, prefix: str = "transship:") -> None:
        self._redis = redis
        self._prefix = prefix
        self._replace = redis.register_script(_REPLACE)
        self._lock = threading.Lock()  # or this process's threads would spoil each other's changes

    def change(self, execution: str, work: Callable[[Board, Moment], T]) -> T:
        """Have `work` read and change the board of an execution, and return what it returns.

        Raises RedisError.
        """
        key = f"{self._prefix}board:{execution}"
        with self._lock:
            while True:
                text, (seconds, micros) = (
                    self._redis.pipeline(transaction=False).get(key).time().execute()
                )
                board, now = parse(text), seconds + micros / 1e6
                result = work(board, Moment(now, self._alive(board.boots(now - BELIEVED_SECONDS))))
                args = [text or b"", spell(board), KEPT_SECONDS]
                if self._replace(keys=[key], args=args):
                    return result

    def _alive(self, boots: Collection[str]) -> Callable[[str], bool]:
        """Return whether a process lives; those that began a moment ago are believed to."""
        pipe = self._redis.pipeline(transaction=False)
        for boot in boots:
            pipe.exists(f"{self._prefix}alive:{boot}")
        dead = {
            boot
            for boot, lives in zip(boots, pipe.execute() if boots else (), strict=True)
            if not lives
        }
        return lambda boot: boot not in dead


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
