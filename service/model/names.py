"""Which names a filter takes: globs, a regex, a range of versions; all that is set must hold."""

from __future__ import annotations

from collections.abc import Callable

from service.model.glob import compile_glob, is_literal
from service.model.rule import NameFilter


class NameMatcher:
    """Decides over names one by one; `newest`, which compares names, is its caller's."""

    def __init__(self, names: NameFilter) -> None:
        """Compile the filter; raises InvalidConfiguration for a broken pattern or range."""
        globs = [(pattern, compile_glob(pattern)) for pattern in names.include]
        self._named = frozenset(pattern for pattern, _ in globs if is_literal(pattern))
        self._include = tuple(match for pattern, match in globs if not is_literal(pattern))
        self._exclude = tuple(compile_glob(pattern) for pattern in names.exclude)
        conditions: list[Callable[[str], bool]] = []
        if names.regex is not None:
            from service.model.patterns import compile_regex

            conditions.append(compile_regex(names.regex))
        if names.semver is not None:
            from service.model.semver import compile_range

            conditions.append(compile_range(names.semver))
        self._conditions = tuple(conditions)

    def matches(self, name: str) -> bool:
        """Whether an include takes the name (none means all), no exclude does, and the rest holds.

        A digest has no letters to search and no version: where it is named, it is taken.
        """
        some = self._named or self._include
        if some and name not in self._named and not any(match(name) for match in self._include):
            return False
        if any(match(name) for match in self._exclude):
            return False
        return ":" in name or all(holds(name) for holds in self._conditions)
