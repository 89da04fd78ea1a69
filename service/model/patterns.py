"""RE2 patterns over repository and tag names: linear time, whatever a person writes.

Only RE2 (the engine of Go, so of regsync's, skopeo's and image-syncer's users): no backreferences
and no look-around, which is what keeps matching linear (reliability.md section 5, 23 to 25). A
pattern is searched for, not matched whole: anchors are the writer's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from service.errors import InvalidConfiguration

MAX_PATTERN = 256
MAX_PROGRAM_BYTES = 1 << 20
"""What one compiled pattern may take: a repetition of repetitions is refused, not carried."""


def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Return a predicate that searches a name for the pattern.

    Raises InvalidConfiguration for an empty, overlong, non-ASCII or broken pattern, and for what
    RE2 does not have (backreferences, look-around).
    """
    return _compile(pattern)


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> Callable[[str], bool]:
    _check(pattern)
    import re2  # 19 ms: only rules with a regex pay for it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PROGRAM_BYTES
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise _refusal(pattern, _words(error)) from None
    search = compiled.search
    return lambda name: search(name) is not None


def _check(pattern: str) -> None:
    if not pattern:
        raise InvalidConfiguration("the regex is empty", hint="leave the key out to take all")
    if len(pattern) > MAX_PATTERN:
        raise InvalidConfiguration(
            f"the regex has {len(pattern)} characters; at most {MAX_PATTERN} are allowed"
        )
    for character in pattern:
        if not " " <= character <= "~":
            raise InvalidConfiguration(
                f"the regex {pattern!a} holds the character {character!a}",
                hint="names in registries are ASCII",
            )


def _words(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def _refusal(pattern: str, words: str) -> InvalidConfiguration:
    if "perl operator" in words or "invalid escape sequence" in words:
        hint = "patterns are RE2, which has no backreferences and no look-around; use exclude for 'not'"
    elif "repetition" in words or "too large" in words:
        hint = "RE2 repeats at most 1000 times; write + or * where the number does not matter"
    else:
        hint = "patterns are RE2 (https://github.com/google/re2/wiki/Syntax)"
    return InvalidConfiguration(f"RE2 does not take the regex {pattern!r}: {words}", hint=hint)
