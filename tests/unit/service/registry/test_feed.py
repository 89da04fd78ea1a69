"""A blob's bytes from one reader to writers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from service.errors import Cancelled
from service.registry.feed import HELD_BYTES, PATIENCE_SECONDS, Feed, Feeds

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


def fill(put: Callable[[int, bytes], object], size: int = SIZE) -> None:
    for start in range(0, size, len(PIECE)):
        put(start, PIECE)


def test_writers_get_what_is_read() -> None:
    feeds = [Feed(SIZE), Feed(SIZE)]
    taken: list[list[bytes]] = [[], []]
    threads = [write_in_thread(*pair) for pair in zip(feeds, taken, strict=True)]

    fill(Feeds(feeds).put)
    for thread in threads:
        thread.join(10)

    assert [b"".join(one) for one in taken] == [PIECE * (SIZE // len(PIECE))] * 2
    assert not any(feed.too_slow for feed in feeds)


def test_what_is_read_anew_is_no_longer_written() -> None:
    """The first reading may have been of other bytes: only the last one's digest is judged."""
    feed = Feed(10)
    feed.put(0, b"0123")

    feed.put(0, b"01")
    feed.put(4, b"456789")

    assert feed.is_left
    with pytest.raises(Cancelled):
        list(feed.pieces(never))


def test_the_reader_goes_on_without_a_writer_that_takes_nothing() -> None:
    feed = Feed(SIZE)

    fill(feed.put)

    assert feed.too_slow
    with pytest.raises(Cancelled):
        list(feed.pieces(never))


def test_any_number_of_writers_that_hang_cost_one_patience() -> None:
    feeds = [Feed(SIZE) for _ in range(8)]
    together = Feeds(feeds)

    waited = sum(together.put(start, PIECE) for start in range(0, SIZE, len(PIECE)))

    assert all(feed.too_slow for feed in feeds)
    assert waited < 4 * PATIENCE_SECONDS, "one after the other they would cost eight of them"


def test_a_writer_that_takes_something_in_time_is_kept() -> None:
    feed = Feed(HELD_BYTES + len(PIECE))
    feeds, taken = Feeds([feed]), list[bytes]()
    fill(feeds.put, HELD_BYTES)

    thread = write_in_thread(feed, taken)
    feeds.put(HELD_BYTES, PIECE)
    thread.join(10)

    assert not feed.too_slow
    assert sum(map(len, taken)) == HELD_BYTES + len(PIECE)


def test_a_writer_that_has_left_is_not_waited_for() -> None:
    feed = Feed(SIZE)
    feed.leave()

    fill(feed.put)

    assert not feed.too_slow


def test_a_blob_that_breaks_off_ends_its_writer() -> None:
    feed = Feed(SIZE)
    feed.put(0, PIECE)
    feed.end()

    with pytest.raises(Cancelled):
        list(feed.pieces(never))


def test_a_writer_whose_work_is_not_wanted_ends() -> None:
    feed = Feed(SIZE)
    feed.put(0, PIECE)

    with pytest.raises(Cancelled):
        list(feed.pieces(lambda: True))
