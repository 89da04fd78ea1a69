"""A request is handed to a thread when its last byte has come, however it comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.serve_worker import MAX_COLLECTED, MAX_HEAD, Arriving

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
WHOLE = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"content-length:5\r\n\r\nhello",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;x=y\r\n0\r\n\r\r\n0\r\nTrailer: t\r\n\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
]
ODD = [
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: many\r\n\r\n",
    HEAD + b"Content-Length: 9999999999999999999\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
    HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_COLLECTED + 1),
    b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("data", WHOLE, ids=range(len(WHOLE)))
def test_a_request_is_whole_with_its_last_byte_and_not_before(data: bytes) -> None:
    arriving = Arriving()
    for number in range(len(data)):
        assert not arriving.is_whole(), data[:number]
        arriving.add(data[number : number + 1])
    assert arriving.is_whole()
    assert arriving.refusal == b""
    assert bytes(arriving.data) == data


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_what_is_odd_is_left_to_the_parser_at_once(data: bytes) -> None:
    arriving = Arriving()
    arriving.add(data)

    assert arriving.is_whole()
    assert arriving.refusal == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, b"431"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, b"400"),
    ],
)
def test_what_never_will_be_a_request_is_refused(data: bytes, status: bytes) -> None:
    arriving = Arriving()
    arriving.add(data)

    assert arriving.is_whole()
    assert arriving.refusal.split(b" ")[1] == status


def test_a_body_above_every_limit_is_not_collected() -> None:
    arriving = Arriving()
    arriving.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (4 * MAX_COLLECTED))
    assert not arriving.is_whole()
    arriving.add(b"x" * MAX_COLLECTED)

    assert arriving.is_whole()


def test_who_waits_to_be_told_is_told_once_its_head_is_there() -> None:
    arriving = Arriving()
    arriving.add(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")

    assert not arriving.is_whole()
    assert arriving.wants_continue


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_any_bytes_are_collected_without_a_crash(pieces: list[bytes]) -> None:
    arriving = Arriving()
    for piece in pieces:
        arriving.add(piece)
        if arriving.is_whole():
            return
