"""Requests as a gateway reads them: strictly, and nothing makes it stumble."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway.messages import Answer, BadRequest, head_of, parse, span_of


def test_a_request_is_read() -> None:
    request = parse(
        b"GET /token?scope=repository:a:pull&scope=repository:b%2Fc:pull&n=%41+b HTTP/1.1\r\n"
        b"Host: images.example:443\r\nAccept: a\r\nACCEPT:  b \r\nConnection: close"
    )

    assert (request.method, request.path, request.host) == ("GET", "/token", "images.example:443")
    assert request.query == {"scope": "repository:a:pull repository:b/c:pull", "n": "A b"}
    assert request.headers["accept"] == "a, b"
    assert not request.keep


@pytest.mark.parametrize(
    ("head", "keep"),
    [(b"GET / HTTP/1.1\r\nHost: a", True), (b"GET / HTTP/1.0", False),
     (b"GET / HTTP/1.0\r\nConnection: keep-alive", True)],
)  # fmt: skip
def test_connections_are_kept_as_the_version_says(head: bytes, keep: bool) -> None:
    assert parse(head).keep is keep


@given(
    st.binary(max_size=400)
    | st.binary(max_size=200).map(lambda b: b"GET / HTTP/1.1\r\nHost: a\r\n" + b)
)
def test_anything_at_all_is_a_request_or_refused(head: bytes) -> None:
    try:
        request = parse(head)
    except BadRequest as refused:
        status = refused.status
    else:
        status = 400
        assert request.path.startswith("/")
        assert "transfer-encoding" not in request.headers
        assert "\r" not in "".join((*request.headers, *request.headers.values()))
    assert status in (400, 405, 431)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 10)),
        ("bytes=-10", (90, 10)),
        ("bytes=-1000", (0, 100)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=-", None),
    ],
)
def test_spans(header: str | None, span: tuple[int, int] | None) -> None:
    assert span_of(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_spans_beyond_the_end(header: str) -> None:
    with pytest.raises(BadRequest):
        span_of(header, 100)


@given(st.text(max_size=60), st.integers(0, 1000))
def test_any_span_lies_inside(header: str, size: int) -> None:
    try:
        span = span_of(f"bytes={header}", size)
    except BadRequest:
        return
    if span is not None:
        assert 0 <= span[0] < size
        assert 0 < span[1] <= size - span[0]


def test_an_answers_length_is_said_once() -> None:
    head = head_of(Answer.refusal(401, "UNAUTHORIZED", "no"), 12, keep=False)

    assert head.count(b"Content-Length: 12\r\n") == 1
    assert b"Connection: close\r\n" in head
    assert head.endswith(b"\r\n\r\n")
