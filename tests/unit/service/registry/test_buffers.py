from __future__ import annotations

import threading

from service.registry.buffers import receive_buffer, thread_buffer

MIB = 1024 * 1024


def test_small_blobs_take_a_small_buffer_and_large_ones_no_more_than_is_asked() -> None:
    def measure() -> None:
        sizes.append(len(thread_buffer(300_000, MIB)))
        sizes.append(len(thread_buffer(10**12, MIB)))
        sizes.append(len(thread_buffer(300_000, 1000)))

    sizes: list[int] = []
    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    assert sizes == [256 * 1024, MIB, 1000]


def test_a_thread_uses_its_buffer_again_and_shares_it_with_nobody() -> None:
    mine = thread_buffer(10**9, MIB)
    assert thread_buffer(10**9, MIB).obj is mine.obj
    assert receive_buffer() is receive_buffer()
    others: list[object] = []
    thread = threading.Thread(
        target=lambda: others.extend([thread_buffer(10**9, MIB).obj, receive_buffer()])
    )
    thread.start()
    thread.join()
    assert others[0] is not mine.obj
    assert others[1] is not receive_buffer()
