from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidManifest
from service.model import strict_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet="abcdefgh", max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(values, st.booleans())
def test_what_any_encoder_writes_is_read_alike(value: object, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert strict_json.loads(raw) == value


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidManifest):
        strict_json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1}x',
        b'{"a":1}{}',
        b'{"a":1,"a":1}',
        b'{"layers":[],"Layers":[]}',
        '{"layer\u017f":[],"layers":[]}'.encode(),
        '{"\u212a":1,"k":1}'.encode(),
        b'{"x":{"a":1,"A":2}}',
        b"NaN",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"1" * 20 + b"}",
        b'{"a":' + b"1" * 5000 + b"}",
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 9000 + b"1" + b"}" * 9000,
        b"[" * 200_000,
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":1,}',
        b'{"a":"\x01"}',
        b"<html></html>",
    ],
)
def test_what_two_parsers_may_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidManifest, match="not strict JSON"):
        strict_json.loads(raw)


def test_depth_of_exactly_100_is_read() -> None:
    assert strict_json.loads(b"[" * 100 + b"]" * 100)
    assert strict_json.loads(b"[" + b",".join([b"{}"] * 500) + b"]")


def test_surrogate_pairs_are_text() -> None:
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "\U0001f600"
