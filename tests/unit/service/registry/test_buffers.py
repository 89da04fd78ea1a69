from __future__ import annotations

import threading
from contextlib import ExitStack

from service.registry.buffers import SMALL_BUFFER_BYTES, Buffers, receive_buffer

MIB = 1024 * 1024


def test_small_blobs_take_a_small_buffer_and_large_ones_no_more_than_is_asked() -> None:
    buffers = Buffers()
    with (
        buffers.lend(300_000, MIB) as small,
        buffers.lend(10**12, MIB) as large,
        buffers.lend(300_000, 1000) as tiny,
    ):
        assert [len(small), len(large), len(tiny)] == [SMALL_BUFFER_BYTES, MIB, 1000]


def test_a_buffer_is_lent_to_one_at_a_time_and_used_again() -> None:
    buffers = Buffers()
    with buffers.lend(10**9, MIB) as first, buffers.lend(10**9, MIB) as second:
        assert first.obj is not second.obj
        lent = {id(first.obj), id(second.obj)}
    with buffers.lend(10**9, MIB) as third:
        assert id(third.obj) in lent


def test_a_hundred_large_blobs_at_once_do_not_take_a_hundred_large_buffers() -> None:
    buffers = Buffers(large=4)
    with ExitStack() as stack:
        lent = [stack.enter_context(buffers.lend(64 * MIB, MIB)) for _ in range(100)]
        assert [len(one) for one in lent] == [MIB] * 4 + [SMALL_BUFFER_BYTES] * 96
    with buffers.lend(64 * MIB, MIB) as again:
        assert len(again) == MIB


def test_a_receive_buffer_is_its_threads_own() -> None:
    assert receive_buffer() is receive_buffer()
    others: list[object] = []
    thread = threading.Thread(target=lambda: others.append(receive_buffer()))
    thread.start()
    thread.join()
    assert others[0] is not receive_buffer()
