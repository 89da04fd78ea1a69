"""Versions in tags, and ranges of them, as npm and Masterminds/semver write ranges.

Own code: no library on PyPI reads tags (a leading v, two or four numbers, `_build`, `-alpine`) and
names the place of a mistake. The rules, all told in docs/reference/transship-yaml.md:

- a tag is a version if it is `[v]N[.N]...` with any `-suffix` and `_build` behind (Helm writes the
  `+` of build metadata as `_`, since a tag may hold no `+`); missing numbers are 0;
- a suffix that holds a prerelease word (`-rc.1`, `-beta2`, `-SNAPSHOT`) makes a prerelease; any
  other (`-alpine`, `-slim-bookworm`, `-2`) is a variant of the same version (regclient #1041);
- a prerelease is in a range only if a bound of it names a prerelease of the same version (npm).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidConfiguration

MAX_RANGE = 256

_TAG = re.compile(r"[vV]?(\d{1,18}(?:\.\d{1,18}){0,7})(?:-([0-9A-Za-z.-]+))?(?:_[0-9A-Za-z._-]+)?")
_WORDS = (
    "alpha|beta|rc|cr|pre|preview|prerelease|dev|devel|develop|snapshot|nightly|canary|next|"
    "milestone|ea|eap|edge|unstable|insiders|experimental|test|testing"
)
_PRERELEASE = re.compile(rf"(?:(?:{_WORDS})[.\d]*|[abm][.]?\d[.\d]*)", re.IGNORECASE)
_NUMBERED = re.compile(r"\d+|\D+")

Numbers = tuple[int, ...]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """The version that a tag names. `numbers` are without trailing zeros: 1.2 is 1.2.0."""

    numbers: Numbers
    prerelease: str = ""
    variant: str = ""

    @property
    def core(self) -> Key:
        """Order by the specification of semver: numbers, then a prerelease before its release."""
        return (self.numbers, not self.prerelease, _identifiers(self.prerelease))

    @property
    def order(self) -> Key:
        """A total order: as `core`, then by the variant."""
        return (*self.core, _natural(self.variant))


def parse_tag(tag: str) -> Version | None:
    """Return the version that a tag names, None for a tag that names none."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    prerelease, variant = _parts(match[2] or "")
    return Version(_trimmed(int(number) for number in match[1].split(".")), prerelease, variant)


def _parts(suffix: str) -> tuple[str, str]:
    """Part a suffix into its prerelease and its variant."""
    segments = suffix.split("-") if suffix else []
    for position, segment in enumerate(segments):
        if _PRERELEASE.fullmatch(segment):
            before = segments[:position]
            after = segments[position + 1 :]
            numbers: list[str] = []
            while after and after[0].isdigit():  # rc-1
                numbers.append(after.pop(0))
            return ".".join([segment, *numbers]).lower(), "-".join([*before, *after])
    return "", suffix


def _trimmed(numbers: Any) -> Numbers:
    kept = list(numbers)
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
    return tuple(kept)


def _identifiers(prerelease: str) -> Key:
    """Order identifiers as semver does: numbers before words, rc2 as rc.2, fewer before more."""
    pieces = [piece for part in prerelease.split(".") for piece in _NUMBERED.findall(part)]
    return tuple((0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces)


def _natural(text: str) -> Key:
    return tuple(
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece)
        for piece in _NUMBERED.findall(text)
    )


# ---- ranges ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Interval:
    """Versions from `low` on and below `high`; `negated`: all others. None: no bound."""

    low: Key | None = None
    high: Key | None = None
    low_open: bool = False
    high_closed: bool = False
    negated: bool = False
    prerelease_of: Numbers | None = None  # a bound names a prerelease of this version

    def holds(self, core: Key) -> bool:
        inside = (
            self.low is None or (core > self.low if self.low_open else core >= self.low)
        ) and (self.high is None or (core <= self.high if self.high_closed else core < self.high))
        return inside is not self.negated


class SemverRange:
    """A parsed range: alternatives of intervals that must all hold."""

    def __init__(self, alternatives: tuple[tuple[_Interval, ...], ...]) -> None:
        self._alternatives = alternatives

    def holds(self, version: Version) -> bool:
        """Whether the version lies in the range; its variant does not matter."""
        core = version.core
        return any(
            all(interval.holds(core) for interval in intervals)
            and (
                not version.prerelease
                or any(interval.prerelease_of == version.numbers for interval in intervals)
            )
            for intervals in self._alternatives
        )

    def takes(self, tag: str) -> bool:
        """Whether the tag names a version in the range."""
        version = parse_tag(tag)
        return version is not None and self.holds(version)


def compile_range(text: str) -> Callable[[str], bool]:
    """Return a predicate for tags; raises InvalidConfiguration naming the place of a mistake."""
    return parse_range(text).takes


@functools.lru_cache(maxsize=1024)
def parse_range(text: str) -> SemverRange:
    """Read a range; raises InvalidConfiguration naming the place of a mistake."""
    if not text.strip():
        raise InvalidConfiguration("the semver range is empty", hint='write "*" to mean any')
    if len(text) > MAX_RANGE:
        raise InvalidConfiguration(
            f"the semver range has {len(text)} characters; at most {MAX_RANGE} are allowed"
        )
    return SemverRange(_Reader(text).alternatives())


_SPACE = re.compile(r"[ \t]*")
_HYPHEN = re.compile(r"[ \t]+-[ \t]+")
_AND = re.compile(r"[ \t]*,[ \t]*|[ \t]+")
_OPERATOR = re.compile(r">=|<=|=>|=<|==|!=|~>|[=><^~]")
_BOUND = re.compile(r"[vV]?((?:\d{1,18}|[xX*])(?:\.(?:\d{1,18}|[xX*]))*)(?:-([0-9A-Za-z.-]+))?")
_MEANT = {"=>": ">=", "=<": "<=", "==": "=", "~>": "~"}
_HINT = 'write ">=1.2 <3", "^1.4", "~1.4.2", "1.x", "1.2 - 2.3", or alternatives with ||'


@dataclass(frozen=True, slots=True)
class _Bound:
    """A version as a range names it; `numbers` are those given, before any x."""

    numbers: Numbers
    prerelease: str

    @property
    def low(self) -> Key:
        """The first version that it names."""
        return Version(_trimmed(self.numbers or (0,)), self.prerelease).core

    @property
    def partial(self) -> bool:
        """Whether it names many versions: 1.2 is 1.2.x."""
        return len(self.numbers) < 3

    def above(self, place: int) -> Key | None:
        """Return the first version after all with the same numbers up to `place`; None: there is none."""
        if place < 0:
            return None
        padded = [*self.numbers, *([0] * (place + 1 - len(self.numbers)))][: place + 1]
        padded[place] += 1
        return (_trimmed(padded), False, ())  # below its prereleases too

    @property
    def prerelease_of(self) -> Numbers | None:
        return _trimmed(self.numbers) if self.prerelease else None


class _Reader:
    """Reads a range from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def alternatives(self) -> tuple[tuple[_Interval, ...], ...]:
        found = [self._conjunction()]
        while self.position < len(self.text):
            if not self.text.startswith("||", self.position):
                raise self._broken("something that is no part of a range")
            self.position += 2
            found.append(self._conjunction())
        return tuple(found)

    def _conjunction(self) -> tuple[_Interval, ...]:
        self._skip(_SPACE)
        intervals = [self._one()]
        while True:
            start = self.position
            if not self._skip(_AND):
                break
            if self.position >= len(self.text) or self.text.startswith("||", self.position):
                if "," in self.text[start : self.position]:
                    raise self._broken("nothing after the comma")
                break
            intervals.append(self._one())
        return tuple(intervals)

    def _one(self) -> _Interval:
        if operator := _OPERATOR.match(self.text, self.position):
            self.position = operator.end()
            self._skip(_SPACE)
            return _interval(_MEANT.get(operator[0], operator[0]), self._bound())
        first = self._bound()
        if self._skip(_HYPHEN):
            return _between(first, self._bound())
        return _interval("=", first)

    def _bound(self) -> _Bound:
        start = self.position
        match = _BOUND.match(self.text, start)
        if match is None:
            raise self._broken("no version")
        following = self.text[match.end() : match.end() + 1]
        if following and following not in " \t,|":
            self.position = match.end()
            hint = "leave build metadata out: it has no order" if following == "+" else ""
            raise self._broken(f"{following!r}, which ends no version", hint)
        self.position = match.end()
        numbers = []
        for part in match[1].split("."):
            if not part.isdigit():
                break
            numbers.append(int(part))
        prerelease, variant = _parts(match[2] or "")
        if variant:
            self.position = match.start(2)
            raise self._broken(
                f"{variant!r}, which is no prerelease but a variant",
                f'leave it out, and select the variant beside it with include: ["*-{variant}"]',
            )
        if prerelease and len(numbers) < 3:
            numbers.extend([0] * (3 - len(numbers)))
        return _Bound(tuple(numbers), prerelease)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.position)
        if match is None or match.end() == self.position:
            return False
        self.position = match.end()
        return True

    def _broken(self, what: str, hint: str = "") -> InvalidConfiguration:
        return InvalidConfiguration(
            f"the semver range {self.text!r} has {what} at character {self.position + 1}",
            hint=hint or _HINT,
        )


def _interval(operator: str, bound: _Bound) -> _Interval:
    last = len(bound.numbers) - 1
    of = bound.prerelease_of
    match operator:
        case "=" | "!=":
            negated = operator == "!="
            if bound.partial:
                if last < 0:
                    return _Interval(negated=negated)
                return _Interval(bound.low, bound.above(last), negated=negated)
            return _Interval(
                bound.low, bound.low, high_closed=True, negated=negated, prerelease_of=of
            )
        case ">=":
            return _Interval(bound.low, prerelease_of=of)
        case "<":
            return _Interval(high=bound.low, prerelease_of=of)
        case ">":
            if bound.partial:
                return _Interval(bound.above(last)) if last >= 0 else _Interval(negated=True)
            return _Interval(bound.low, low_open=True, prerelease_of=of)
        case "<=":
            if bound.partial:
                return _Interval(high=bound.above(last))
            return _Interval(high=bound.low, high_closed=True, prerelease_of=of)
        case "~":
            return _Interval(bound.low, bound.above(min(last, 1)), prerelease_of=of)
        case _:  # ^: what the leftmost number that is not 0 keeps
            place = next((n for n, number in enumerate(bound.numbers) if number), last)
            return _Interval(bound.low, bound.above(place), prerelease_of=of)


def _between(first: _Bound, second: _Bound) -> _Interval:
    of = first.prerelease_of or second.prerelease_of
    if second.partial:
        return _Interval(first.low, second.above(len(second.numbers) - 1), prerelease_of=of)
    return _Interval(first.low, second.low, high_closed=True, prerelease_of=of)
