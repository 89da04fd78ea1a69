"""Globs: doublestar's meaning, in linear time."""

from __future__ import annotations

import contextlib
import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidConfiguration
from service.model.glob import compile_glob, is_literal
from service.model.names import NameMatcher
from service.model.rule import NameFilter


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("team/app", ["team/app"], ["team/app2", "team", "a/team/app"]),
        ("team*/**", ["team1/x", "team/x/y", "team"], ["other/x", "ateam/x"]),
        ("*", ["a", ""], ["a/b"]),
        ("**", ["", "a", "a/b/c"], []),
        ("a/**", ["a", "a/b", "a/b/c"], ["ab", "b/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "a/b/c"]),
        ("**/b", ["b", "x/b", "x/y/b"], ["xb", "b/x"]),
        ("a**", ["a", "ab", "a/b"], ["ba"]),
        ("v?", ["v1"], ["v", "v12", "v/"]),
        ("v[0-9].[!0-4]", ["v1.5", "v1.x"], ["v1.4", "vx.5", "v1./"]),
        ("[^a]", ["b"], ["a", "/"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("{a,b{c,d},}-x", ["a-x", "bc-x", "bd-x", "-x"], ["b-x", "c-x"]),
        ("{a/**,b}", ["a", "a/x", "b"], ["ax", "b/x"]),
        (r"\*\{", ["*{"], ["a{"]),
        ("a,b", ["a,b"], ["a"]),
        ("sha256:" + "0" * 64, ["sha256:" + "0" * 64], ["sha256:"]),
        ("*-rc*", ["1.0-rc1", "-rc"], ["1.0"]),
    ],
)
def test_pattern_takes_what_doublestar_takes(pattern: str, yes: list[str], no: list[str]) -> None:
    match = compile_glob(pattern)

    assert [name for name in yes if not match(name)] == []
    assert [name for name in no if match(name)] == []


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("", "empty"),
        ("[a", "'['"),
        ("a]", "']'"),
        ("[]", "character set"),
        ("[z-a]", "character set"),
        ("{a", "'{'"),
        ("a}", "'}'"),
        ("a\\", "backslash"),
        ("é", "character"),
        ("a b", "character"),
        ("a" * 257, "257"),
        ("{" * 9 + "a" + "}" * 9, "nested"),
    ],
)
def test_broken_pattern_is_refused_with_its_reason(pattern: str, word: str) -> None:
    with pytest.raises(InvalidConfiguration, match=re.escape(word)):
        compile_glob(pattern)


@pytest.mark.parametrize("pattern", ["*a" * 100, "**a" * 80, "{a,aa}" * 40, "{**,*}" * 30 + "b"])
def test_hostile_pattern_stays_fast(pattern: str) -> None:
    match = compile_glob(pattern)

    begun = time.perf_counter()
    match("a" * 255 + "c")

    assert time.perf_counter() - begun < 2


PIECES = st.sampled_from(["a", "b", "-", "/", "*", "?", "[ab]", "[!a]", "**"])


def reference(pattern: list[str]) -> re.Pattern[str]:
    """The same meaning as a regular expression (for patterns without whole-part `**`)."""
    words = {"*": "[^/]*", "?": "[^/]", "[ab]": "[ab]", "[!a]": "[^a/]", "**": ".*"}
    return re.compile("".join(words.get(piece, re.escape(piece)) for piece in pattern), re.DOTALL)


@given(st.lists(PIECES, min_size=1, max_size=8), st.text("ab-/", max_size=10))
def test_agrees_with_a_regular_expression(pieces: list[str], name: str) -> None:
    pattern = "".join(pieces)
    if re.search(r"\*\*\*|(^|/)\*\*(/|$)", pattern):
        return  # whole-part ** has its own table above
    if ("*", "*") in itertools.pairwise(pieces):
        return  # together they are another piece

    assert compile_glob(pattern)(name) == bool(reference(pieces).fullmatch(name))


@given(st.text("abc019._-/", min_size=1, max_size=40))
def test_a_name_is_a_literal_that_takes_itself(name: str) -> None:
    assert is_literal(name)
    assert compile_glob(name)(name)


@given(st.text(max_size=40))
def test_any_text_compiles_or_is_refused(pattern: str) -> None:
    with contextlib.suppress(InvalidConfiguration):
        compile_glob(pattern)("a/b-1.2")


def test_matcher_takes_included_names_that_are_not_excluded() -> None:
    matcher = NameMatcher(NameFilter(include=("v*", "main"), exclude=("*-rc*",)))

    assert [name for name in ("v1", "main", "v2-rc1", "x") if matcher.matches(name)] == [
        "v1",
        "main",
    ]


def test_matcher_without_include_takes_everything_not_excluded() -> None:
    matcher = NameMatcher(NameFilter(exclude=("tmp",)))

    assert matcher.matches("a/b")
    assert not matcher.matches("tmp")
