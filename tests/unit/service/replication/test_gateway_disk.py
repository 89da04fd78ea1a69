"""What a gateway keeps on its disk: bounded also while it is written, never sent damaged, and there when SQL is away."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from service.model.digest import Digest
from service.replication.gateway import memory
from service.replication.gateway.cache import BlobCache
from service.replication.gateway.memory import Memory
from service.replication.gateway.writes import Writes


def _digest(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def _keep(cache: BlobCache, data: bytes) -> None:
    draft = cache.begin(_digest(data), len(data))
    assert draft is not None
    draft.write(memoryview(data))
    draft.keep()
    draft.close()


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "blobs").iterdir())


def _read(cache: BlobCache, data: bytes) -> bytes | None:
    descriptor = cache.open(_digest(data), len(data))
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, len(data) + 1)
    finally:
        os.close(descriptor)


def test_a_file_that_was_damaged_between_two_runs_is_fetched_anew(tmp_path: Path) -> None:
    good, bad = b"g" * 1000, b"b" * 1000
    first = BlobCache(tmp_path, 10_000)
    _keep(first, good)
    _keep(first, bad)
    path = tmp_path / "blobs" / f"sha256-{_digest(bad).encoded}"
    path.write_bytes(b"\0" * len(bad))  # as after a loss of power: the size, and not the bytes

    second = BlobCache(tmp_path, 10_000)

    assert _read(second, bad) is None
    assert not path.exists()
    assert _read(second, good) == good
    _keep(second, bad)
    assert _read(second, bad) == bad


def test_what_is_being_written_counts_among_what_is_kept(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 10_000)
    for number in range(4):
        _keep(cache, bytes([number]) * 2500)
    blobs = [bytes([100 + number]) * 2500 for number in range(6)]

    drafts = [draft for data in blobs if (draft := cache.begin(_digest(data), len(data)))]
    for draft, data in zip(drafts, blobs, strict=False):
        draft.write(memoryview(data))

    assert len(drafts) == 2
    assert _stored(tmp_path) == 10_000
    for draft in drafts:
        draft.close()
    assert cache.begin(_digest(blobs[5]), 2500) is not None  # room is given back


def test_a_folder_that_holds_more_than_may_be_kept_is_emptied(tmp_path: Path) -> None:
    before = BlobCache(tmp_path, 40_000)
    for number in range(4):
        _keep(before, bytes([number]) * 10_000)

    BlobCache(tmp_path, 20_000)

    assert _stored(tmp_path) == 20_000


def test_registries_and_revocations_outlive_what_is_written_often(tmp_path: Path) -> None:
    first = Memory(tmp_path)
    first.remember_fact("registry:east", b"east")
    first.remember_fact("revoked", b"[]")
    last = 2 * memory.ROWS["facts"]
    for number in range(last + 1):
        first.remember_fact(f"mapped:east/app{number}", b"[]")
        if number % 10 == 0:
            first.remember_fact("gateway:east:0", b"sealed%d" % number)
    first.settle()
    first.close()

    second = Memory(tmp_path)
    try:
        assert second.fact("registry:east") == b"east"
        assert second.fact("revoked") == b"[]"
        assert second.fact("mapped:east/app0") is None  # it is bounded
        assert second.fact(f"mapped:east/app{last}") == b"[]"
    finally:
        second.close()


def test_what_waits_for_a_slow_disk_is_bounded_and_what_nobody_says_again_is_kept() -> None:
    writes = Writes(most_bytes=100_000)
    taken = [writes.put("manifest", (str(number), b"m" * 9_000)) for number in range(100)]
    assert 5 <= sum(taken) <= 11
    assert taken == sorted(taken, reverse=True)  # the first ones
    assert writes.left_out == taken.count(False)
    assert writes.put("revoked", ("x",), must=True)
    waiting = writes.take(1000)
    assert [values[0] for _, values in waiting] == [*map(str, range(sum(taken))), "x"]
    assert writes.put("manifest", ("later", b"m" * 9_000))  # there is room again
    writes.end()
    assert writes.take(10) == [("manifest", ("later", b"m" * 9_000))]
    assert writes.take(10) == []


def test_a_tag_that_never_was_is_not_forgotten_again_and_again(tmp_path: Path) -> None:
    known = Memory(tmp_path)
    place = ("east", "app")
    known.remember_tag(place, "v1", _digest(b"1"))
    known.settle()
    put = known._writes._changed
    with put:  # nothing is taken meanwhile
        waiting = len(known._writes._waiting)
        known.forget_tag(place, "never")
        assert len(known._writes._waiting) == waiting
        known.forget_tag(place, "v1")
        assert len(known._writes._waiting) == waiting + 1
    known.close()
    again = Memory(tmp_path)
    assert again.tags(place) == []
    again.close()
