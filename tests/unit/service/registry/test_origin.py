from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ProtocolError
from service.registry.origin import Origin, resolve_url, split_url, with_query

HERE = Origin("https", "r.example", 5000)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://R.example", "https://r.example", "/"),
        ("https://r.example:443/x", "https://r.example", "/x"),
        ("http://r.example:5000/v2/?a=b", "http://r.example:5000", "/v2/?a=b"),
        ("http://[::1]:5000/", "http://[::1]:5000", "/"),
        ("https://r.example/a%2Fb?X-Sig=%2b~&_state=a=b#f", "https://r.example", "/a%2Fb?X-Sig=%2b~&_state=a=b"),
    ],
)  # fmt: skip
def test_urls_are_split_and_not_changed(url: str, origin: str, target: str) -> None:
    found, path = split_url(url)
    assert (str(found), path) == (origin, target)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v2/",
        "r.example",
        "ftp://r.example/",
        "file:///etc/passwd",
        "gopher://r.example",
        "https://",
        "https:///x",
        "https://u@r.example/",
        "https://u:p@r.example/",
        "https://r.example:0/",
        "https://r.example:65536/",
        "https://r.example:x/",
        "https://[::1/",
        "https://r.example/a b",
        "https://r.example/a\r\nHost: x",
        "https://r.example\\@evil.example/",
        "https://r.ex\u00e4mple/",
        'https://r.example/"',
        "https://r.example/" + "a" * 20_000,
    ],
)
def test_what_may_not_stand_in_a_request_is_refused(url: str) -> None:
    with pytest.raises(ProtocolError):
        split_url(url)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/x/blobs/uploads/1?_state=a%3D", "https://r.example:5000/v2/x/blobs/uploads/1?_state=a%3D"),
        ("1?x=y", "https://r.example:5000/v2/a/1?x=y"),
        ("?x=y", "https://r.example:5000/v2/a/b?x=y"),
        ("https://s3.example/x", "https://s3.example/x"),
        ("//s3.example/x", "https://s3.example/x"),
        ("/a/../x", "https://r.example:5000/x"),
        ("https://r.example:5000/x?y#z", "https://r.example:5000/x?y"),
        ("https://r.example:50001/x", "https://r.example:50001/x"),
        ("https://r.example:5000.evil.example/x", None),
        ("../../../x", "https://r.example:5000/x"),
    ],
)  # fmt: skip
def test_locations_are_resolved(location: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ProtocolError):
            resolve_url(HERE, "/v2/a/b?old=1", location)
        return
    origin, target = resolve_url(HERE, "/v2/a/b?old=1", location)
    assert f"{origin}{target}" == expected


@given(st.text(max_size=60))
def test_any_location_is_resolved_or_refused(location: str) -> None:
    try:
        origin, target = resolve_url(HERE, "/v2/a", location)
    except ProtocolError:
        return
    assert origin.scheme in ("http", "https")
    assert target.startswith("/")
    assert target.isascii()
    assert not any(character <= " " for character in target)


def test_queries_are_appended() -> None:
    assert with_query("/a", "digest=x") == "/a?digest=x"
    assert with_query("/a?_state=b", "digest=x") == "/a?_state=b&digest=x"
