from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import AnswerTooLong, ProtocolError
from service.registry.http import Answer
from service.registry.packed import unpacked

TEXT = b'{"tags":["v1"]}'


def answer(body: bytes, coding: str | None = "gzip") -> Answer:
    return Answer(200, {} if coding is None else {"content-encoding": coding}, body)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (TEXT, None),
        (TEXT, ""),
        (TEXT, "identity"),
        (gzip.compress(TEXT, mtime=0), "gzip"),
        (gzip.compress(TEXT, mtime=0), " X-GZip "),
    ],
)
def test_what_was_meant_is_returned(body: bytes, coding: str | None) -> None:
    assert unpacked(answer(body, coding), "east", 100) == TEXT


@pytest.mark.parametrize(
    ("body", "coding"),
    [(TEXT, "gzip"), (gzip.compress(TEXT, mtime=0)[:-9], "gzip"), (b"", "gzip"), (TEXT, "br"), (TEXT, "gzip, gzip")],
)  # fmt: skip
def test_what_cannot_be_unpacked_is_no_answer(body: bytes, coding: str) -> None:
    with pytest.raises(ProtocolError):
        unpacked(answer(body, coding), "east", 100)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\x00" * 50_000_000)

    with pytest.raises(AnswerTooLong):
        unpacked(answer(bomb), "east", 1000)


@given(st.binary(max_size=200))
def test_any_bytes_are_unpacked_or_refused(body: bytes) -> None:
    try:
        assert len(unpacked(answer(body), "east", 100)) <= 100
    except ProtocolError:
        return
