from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ProtocolError
from service.registry.links import content_range, next_cursor, next_link, upload_end
from service.registry.origin import Origin

HERE = Origin("https", "r.example", 443)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('</v2/x/tags/list?n=2&last=b>; rel="next"', "/v2/x/tags/list?n=2&last=b"),
        ("</v2/x>; rel=next", "/v2/x"),
        ('</v2/x>;rel="next"', "/v2/x"),
        ('</v2/x>; REL="Next"', "/v2/x"),
        ('</a>; rel="prev", </b>; rel="next"', "/b"),
        ('</a>; rel="first next"', "/a"),
        ('</a?x=1,2>; title="a, b"; rel="next"', "/a?x=1,2"),
        ('</a>; rel="nextish"', None),
        ("</a>", None),
        ("", None),
        ("garbage", None),
        ("<", None),
    ],
)
def test_links_as_registries_write_them(header: str, expected: str | None) -> None:
    assert next_link(header) == expected


def test_links_are_followed_on_their_own_host_only() -> None:
    assert next_cursor(HERE, "/v2/x", '</v2/y?a=%2f&b=c>; rel="next"') == "/v2/y?a=%2f&b=c"
    assert next_cursor(HERE, "/v2/x", '<https://r.example/v2/y>; rel="next"') == "/v2/y"
    assert next_cursor(HERE, "/v2/x/tags", "<list?last=b>; rel=next") == "/v2/x/list?last=b"
    assert next_cursor(HERE, "/v2/x", None) is None
    for foreign in ("https://evil.example/", "//evil.example/", "https://r.example@evil.example/"):
        with pytest.raises(ProtocolError):
            next_cursor(HERE, "/v2/x", f'<{foreign}>; rel="next"')


@pytest.mark.parametrize(
    "header",
    ['/v2/x?last=b; rel="next"', "</v2/x; rel=next", '</v2/x>, rel="next"', "<>; rel=next"],
)
def test_a_next_page_that_cannot_be_found_is_no_end(header: str) -> None:
    with pytest.raises(ProtocolError):
        next_cursor(HERE, "/v2/x", header)


@given(st.text(max_size=80))
def test_any_link_is_read_without_a_crash(header: str) -> None:
    next_link(header)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-0", 0),
        ("0-99", 99),
        ("bytes=0-99", 99),
        ("0--1", -1),
        ("bytes=0--1", -1),
        ("5-9", None),
        ("", None),
        (None, None),
        ("bytes 0-9/10", None),
        ("0-x", None),
        ("0-" + "9" * 30, None),
    ],
)
def test_ranges_of_uploads(header: str | None, expected: int | None) -> None:
    assert upload_end(header) == expected


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62) | st.none())
def test_content_ranges_are_read_back(first: int, last: int, total: int | None) -> None:
    header = f"bytes {first}-{last}/{'*' if total is None else total}"
    assert content_range(header) == (first, last, total)


@given(st.text(max_size=40) | st.none())
def test_any_range_is_read_without_a_crash(header: str | None) -> None:
    upload_end(header)
    content_range(header)
