r"""Doublestar globs over repository and tag names, matched in linear time.

`*` and `?` stay inside one path part, `**` crosses parts, `[a-z]` `[!a-z]` are one character,
`{a,b}` one of several, `\` takes the next character literally. `a/**/b` also matches `a/b`, and
`a/**` also `a`, as in the doublestar library that Harbor's and regsync's users know.

A pattern becomes a small automaton whose steps are remembered as they are met, so no pattern that
a person writes can make matching slow (no backtracking: reliability.md section 5, 23).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from service.errors import InvalidConfiguration

MAX_PATTERN = 256
_MAX_DEPTH = 8
_MAX_STEPS = 20_000  # remembered transitions of one pattern; then they are forgotten and met anew
_META = frozenset("*?[]{}\\")


def is_literal(pattern: str) -> bool:
    """Whether the pattern names exactly one thing, so that nothing has to be listed."""
    return not _META.intersection(pattern)


def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Return a predicate for whole names.

    Raises InvalidConfiguration for an empty, overlong, broken or non-ASCII pattern (the grammar of
    names is ASCII, so a look-alike letter could never match).
    """
    return _compile(pattern)


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> Callable[[str], bool]:
    _check(pattern)
    if pattern == "**":
        return _everything
    if is_literal(pattern):
        return pattern.__eq__
    return _Automaton(_Parser(pattern).parse()).matches


def _everything(_name: str) -> bool:
    return True


def _check(pattern: str) -> None:
    if not pattern:
        raise InvalidConfiguration("the pattern is empty", hint='write "**" to mean everything')
    if len(pattern) > MAX_PATTERN:
        raise InvalidConfiguration(
            f"the pattern has {len(pattern)} characters; at most {MAX_PATTERN} are allowed"
        )
    for character in pattern:
        if not "!" <= character <= "~":
            raise InvalidConfiguration(
                f"the pattern {pattern!a} holds the character {character!a}",
                hint="names in registries are ASCII without spaces",
            )


@dataclass(slots=True)
class _State:
    """One state: a test for one character that leads to `then`, and free moves."""

    accepts: frozenset[str] | None = None  # None: any but "/" when `inside`, else any
    inside: bool = True
    negated: bool = False
    then: int = -1
    free: list[int] = field(default_factory=list)

    def takes(self, character: str) -> bool:
        if self.then < 0:
            return False
        if self.accepts is None:
            return not (self.inside and character == "/")
        if self.negated:
            return character not in self.accepts and character != "/"
        return character in self.accepts


class _Parser:
    """Turns a pattern into states by recursive descent; the last state is the accepting one."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.states: list[_State] = []

    def parse(self) -> list[_State]:
        start = self._new()
        end = self._sequence(start, depth=0)
        if self.position < len(self.pattern):
            raise self._broken(f"an unmatched {self.pattern[self.position]!r}")
        accepting = self._new()
        self.states[end].free.append(accepting)
        return self.states

    def _new(self) -> int:
        self.states.append(_State())
        return len(self.states) - 1

    def _broken(self, what: str) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"the pattern {self.pattern!r} has {what} at character {self.position + 1}",
            hint="write a backslash before a character that is meant literally",
        )

    def _sequence(self, state: int, depth: int) -> int:
        while self.position < len(self.pattern):
            character = self.pattern[self.position]
            if character == "}" or (character == "," and depth > 0):
                break
            if character == "*":
                state = self._star(state)
            elif character == "{":
                state = self._alternatives(state, depth + 1)
            elif character == "/" and self._closes_with_doublestar(depth):
                self.position += 3  # a/** also matches a
                after = self._literal(state, frozenset("/"))
                tail = self._loop(after, inside=False)
                self.states[state].free.append(tail)
                state = tail
            else:
                state = self._one(state, character)
        return state

    def _closes_with_doublestar(self, depth: int) -> bool:
        if not self.pattern.startswith("/**", self.position):
            return False
        following = self.pattern[self.position + 3 : self.position + 4]
        return not following or (depth > 0 and following in ",}")

    def _star(self, state: int) -> int:
        start = self.position
        while self.pattern[self.position : self.position + 1] == "*":
            self.position += 1
        if self.position - start == 1:
            return self._loop(state, inside=True)
        part_starts = start == 0 or self.pattern[start - 1] == "/"
        if part_starts and self.pattern[self.position : self.position + 1] == "/":
            self.position += 1  # **/ is any number of whole parts, none included
            loop = self._loop(state, inside=False)
            after = self._literal(loop, frozenset("/"))
            end = self._new()
            self.states[state].free.append(end)
            self.states[after].free.append(end)
            return end
        return self._loop(state, inside=False)

    def _loop(self, state: int, *, inside: bool) -> int:
        """Any number of characters; a state of its own so that a free move into it is clean."""
        loop, after = self._new(), self._new()
        self.states[state].free.append(loop)
        self.states[loop].inside = inside
        self.states[loop].then = loop
        self.states[loop].free.append(after)
        return after

    def _literal(self, state: int, accepts: frozenset[str] | None, *, negated: bool = False) -> int:
        test, after = self._new(), self._new()
        self.states[state].free.append(test)
        self.states[test].accepts = accepts
        self.states[test].negated = negated
        self.states[test].then = after
        return after

    def _one(self, state: int, character: str) -> int:
        if character == "?":
            self.position += 1
            return self._literal(state, None)
        if character == "[":
            return self._set(state)
        if character == "]":
            raise self._broken("an unmatched ']'")
        if character == "\\":
            self.position += 1
            if self.position == len(self.pattern):
                raise self._broken("a backslash with nothing after it")
            character = self.pattern[self.position]
        self.position += 1
        return self._literal(state, frozenset(character))

    def _set(self, state: int) -> int:
        end = self.pattern.find("]", self.position + 1)
        if end < 0:
            raise self._broken("an unmatched '['")
        body = self.pattern[self.position + 1 : end]
        negated = body[:1] in {"!", "^"}
        members = _members(body[1:] if negated else body)
        if not members:
            raise self._broken("an empty or backward character set")
        self.position = end + 1
        return self._literal(state, members - {"/"}, negated=negated)

    def _alternatives(self, state: int, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise self._broken(f"more than {_MAX_DEPTH} nested braces")
        opening = self.position
        end = self._new()
        while True:
            self.position += 1
            start = self._new()
            self.states[state].free.append(start)
            last = self._sequence(start, depth)
            self.states[last].free.append(end)
            if self.pattern[self.position : self.position + 1] == "}":
                self.position += 1
                return end
            if self.position >= len(self.pattern):
                self.position = opening
                raise self._broken("an unmatched '{'")


def _members(body: str) -> frozenset[str]:
    """Return the characters of a set such as `a-z_`; empty when a range runs backward."""
    members: set[str] = set()
    position = 0
    while position < len(body):
        if position + 2 < len(body) and body[position + 1] == "-":
            first, last = ord(body[position]), ord(body[position + 2])
            if first > last:
                return frozenset()
            members.update(chr(code) for code in range(first, last + 1))
            position += 3
        else:
            members.add(body[position])
            position += 1
    return frozenset(members)


class _Automaton:
    """Runs all states of a pattern at once and remembers each step it has made."""

    def __init__(self, states: list[_State]) -> None:
        self._states = states
        self._accepting = len(states) - 1
        self._start = self._closure([0])
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def _closure(self, seeds: Iterable[int]) -> frozenset[int]:
        seen = set(seeds)
        todo = list(seen)
        while todo:
            for state in self._states[todo.pop()].free:
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return frozenset(seen)

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        current = self._start
        for character in name:
            following = self._steps.get((current, character))
            if following is None:
                following = self._closure(
                    self._states[state].then
                    for state in current
                    if self._states[state].takes(character)
                )
                if len(self._steps) >= _MAX_STEPS:
                    self._steps.clear()
                self._steps[current, character] = following
            if not following:
                return False
            current = following
        return self._accepting in current
