from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.registry.challenge import Challenge, parse_challenges

tokens = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(
    st.lists(
        st.tuples(tokens, st.dictionaries(tokens.map(str.lower), texts, min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_written_by_the_grammar_is_read_back(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    header = ", ".join(
        f"{scheme} " + ",".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse_challenges(header) == tuple(
        Challenge(scheme.lower(), parameters) for scheme, parameters in challenges
    )


@given(st.text(alphabet='aB =",\\\t~/:\x00\u00e9', max_size=60))
def test_any_header_is_read_without_a_crash(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        ('BEARER Realm = "r" , Service=s', [("bearer", {"realm": "r", "service": "s"})]),
        ("Bearer realm=https://a/t,service=s", [("bearer", {"realm": "https://a/t", "service": "s"})]),
        (
            'Negotiate, Basic realm="x", Bearer realm="y"',
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
        ),
        ('Negotiate YII=, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('NTLM TlRMTVNTUAAC==, Basic realm="x"', [("ntlm", {}), ("basic", {"realm": "x"})]),
        ('Basic realm="a\\"b, c"', [("basic", {"realm": 'a"b, c'})]),
        ('Basic realm="first", realm="second"', [("basic", {"realm": "first"})]),
        ('Basic realm="x", ,, Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Basic realm="unclosed', [("basic", {})]),
        ('="x"', []),
        ("realm=x", []),
    ],
)  # fmt: skip
def test_challenges_as_registries_write_them(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(item.scheme, item.parameters) for item in parse_challenges(header)] == expected


def test_a_very_long_header_is_cut() -> None:
    assert len(parse_challenges('A r="x", ' * 100_000)) < 2000
