"""A blob's bytes from one reader to one writer."""

from __future__ import annotations

import threading

import pytest

from service.errors import Cancelled
from service.registry.feed import HELD_BYTES, PATIENCE_SECONDS, Feed

SIZE = 3 * HELD_BYTES
PIECE = bytes(range(256)) * (HELD_BYTES // 512)


def never() -> bool:
    return False


def write_in_thread(feed: Feed, taken: list[bytes]) -> threading.Thread:
    def write() -> None:
        taken.extend(feed.pieces(never))

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def fill(feed: Feed, size: int = SIZE) -> None:
    for start in range(0, size, len(PIECE)):
        feed.put(start, PIECE)


class Clock:
    """Between two looks more passes than a reader is ready to wait."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10 * PATIENCE_SECONDS
        return self.now


def test_a_writer_gets_what_is_read() -> None:
    feed, taken = Feed(SIZE), list[bytes]()
    thread = write_in_thread(feed, taken)

    fill(feed)
    thread.join(10)

    assert b"".join(taken) == PIECE * (SIZE // len(PIECE))
    feed.end()
    assert not feed.broke_off
    assert not feed.too_slow


def test_what_is_read_again_is_written_once() -> None:
    feed = Feed(10)

    for start, piece in ((0, b"0123"), (0, b"01"), (2, b"234567"), (8, b"89")):
        feed.put(start, piece)

    assert b"".join(feed.pieces(never)) == b"0123456789"


def test_the_reader_goes_on_without_a_writer_that_takes_nothing() -> None:
    feed = Feed(SIZE, Clock())

    fill(feed)

    assert feed.too_slow
    with pytest.raises(Cancelled):
        list(feed.pieces(never))
    feed.end()
    assert not feed.broke_off, "its blob is whole elsewhere"


def test_a_writer_that_has_left_is_not_waited_for() -> None:
    feed = Feed(SIZE)
    feed.leave()

    fill(feed)

    assert not feed.too_slow


def test_a_blob_that_breaks_off_ends_its_writer() -> None:
    feed = Feed(SIZE)
    feed.put(0, PIECE)
    feed.end()

    with pytest.raises(Cancelled):
        list(feed.pieces(never))

    assert feed.broke_off


def test_a_writer_whose_work_is_not_wanted_ends() -> None:
    feed = Feed(SIZE)
    feed.put(0, PIECE)

    with pytest.raises(Cancelled):
        list(feed.pieces(lambda: True))
