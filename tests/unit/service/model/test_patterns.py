"""RE2 patterns: what is taken, what is refused and why, and that none is slow (reliability B23-25)."""

from __future__ import annotations

import time

import pytest

from service.errors import InvalidConfiguration
from service.model.patterns import compile_regex


def test_a_pattern_is_searched_for_and_anchors_are_the_writers() -> None:
    assert compile_regex("am[0-9]")("team1/app")
    assert compile_regex("^team[0-9]+/")("team12/app")
    assert not compile_regex("^team[0-9]+/")("x/team1/app")
    assert not compile_regex("^v1$")("v10")
    assert compile_regex("(?i)^V1$")("v1")


@pytest.mark.parametrize("pattern", [r"(a)\1", "a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b", "(?>a)"])
def test_what_re2_lacks_is_refused_by_its_name(pattern: str) -> None:
    with pytest.raises(InvalidConfiguration, match="RE2") as caught:
        compile_regex(pattern)

    assert "RE2" in caught.value.hint


@pytest.mark.parametrize(
    "pattern",
    ["[", "(", ")", "a{2,1}", "x{100000}", "((a{100}){100}){100}", "*", "a" * 257, "", "é", "a\nb"],
)
def test_a_broken_pattern_is_refused_with_its_reason(pattern: str) -> None:
    begun = time.perf_counter()

    with pytest.raises(InvalidConfiguration) as caught:
        compile_regex(pattern)

    assert caught.value.hint or "256" in caught.value.message
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}", "(a*)*b", "(x+x+)+y", "([a-z]+)*[0-9]{30}"]
)
def test_an_evil_pattern_is_compiled_and_searched_fast(pattern: str) -> None:
    begun = time.perf_counter()

    for length in (30, 128, 255):
        compile_regex(pattern)("a" * length + "!")

    assert time.perf_counter() - begun < 0.5
