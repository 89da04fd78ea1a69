"""Loops: rules that lead, one behind the other, back to where they began (issue 6 point 6).

A loop that leaves every name as it is comes to rest: what comes round is there already. One that makes another
name of each, which its first rule takes again, never does: `mirror/app`, then `mirror/mirror/app`, and so on.
Whether there is one is tried with names that suit the rules' own patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from service.errors import FieldProblem, InvalidInput
from service.model.rule import SyncRule
from service.model.selection import RuleSelector, Target

MOST_RULES = 8
"""Longer loops are not looked for."""

ROUNDS = 4
"""A loop that makes other names has to go round so often to count: one that is soon not taken any more ends."""

MOST_STEPS = 2000
"""So many names are followed, whatever else there may be."""

MOST_NAMES = 500

_SAMPLES = ("a", "a/b", "a/b/c")


@dataclass(frozen=True, slots=True)
class Loop:
    """Rules that lead back to the source of the first one; `name` came round as `becomes`."""

    rules: tuple[str, ...]
    name: str
    becomes: str

    @property
    def grows(self) -> bool:
        """Whether each round makes another name."""
        return self.name != self.becomes


def find_loops(
    rule: SyncRule, others: Iterable[SyncRule], members: Mapping[str, Sequence[str]]
) -> list[Loop]:
    """Return the loops that begin with a rule, each set of rules once; disabled rules are part of none.

    `members` are the registries of each group.
    """
    if not rule.enabled:
        return []
    rules = _on_the_way_back(
        rule, [one for one in others if one.name != rule.name and one.enabled], members
    )
    if not rules:
        return []
    chain: dict[str, list[RuleSelector]] = {}
    for one in rules:
        chain.setdefault(one.source, []).append(RuleSelector(one))
    found: dict[tuple[str, ...], Loop] = {}
    first = chain[rule.source][0]
    left = MOST_STEPS
    for name in _samples(rules, first):
        for loop in _walk(first, name, chain, members):
            left -= 1
            if loop is None:
                continue
            if loop.grows and not _endures(first, loop, chain, members):
                continue
            if loop.rules not in found or loop.grows:
                found[loop.rules] = loop
            if left <= 0:
                return list(found.values())
    return list(found.values())


def _on_the_way_back(
    rule: SyncRule, others: Sequence[SyncRule], members: Mapping[str, Sequence[str]]
) -> list[SyncRule]:
    """Return a rule and those that may lead back to it, whatever names they take; none without a way."""
    into: dict[str, list[SyncRule]] = {}
    for one in others:
        for registry in _destinations(one, members):
            into.setdefault(registry, []).append(one)
    found: dict[str, SyncRule] = {}
    reached, edge = {rule.source}, [rule.source]
    while edge:
        for one in into.get(edge.pop(), ()):
            found[one.name] = one
            if one.source not in reached:
                reached.add(one.source)
                edge.append(one.source)
    return [rule, *found.values()] if reached & _destinations(rule, members) else []


def _destinations(rule: SyncRule, members: Mapping[str, Sequence[str]]) -> set[str]:
    named = {one.registry for one in rule.destinations if one.registry}
    grouped = {
        name for one in rule.destinations if one.group for name in members.get(one.group, ())
    }
    return named | grouped - {rule.source}


def check_loops(
    rule: SyncRule, others: Iterable[SyncRule], members: Mapping[str, Sequence[str]]
) -> tuple[FieldProblem, ...]:
    """Return the loops that a rule would close and that never come to rest."""
    return tuple(
        FieldProblem(
            "destinations",
            f"rules {' -> '.join(loop.rules)} lead back to {rule.source}, and {loop.name} comes "
            f"round as {loop.becomes}: that would never end",
            "leave the names that come in out of select, or keep every name as it is",
        )
        for loop in find_loops(rule, others, members)
        if loop.grows
    )


def circles(rules: Sequence[SyncRule], members: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each loop of these rules that comes to rest."""
    found = {
        frozenset(loop.rules): loop for rule in rules for loop in find_loops(rule, rules, members)
    }
    return [
        f"rules {' -> '.join(loop.rules)} lead in a circle: it comes to rest, the last push to a tag "
        "counts, and what is deleted on one side comes back from the other"
        for loop in found.values()
        if not loop.grows
    ]


def _walk(
    first: RuleSelector,
    name: tuple[str, str],
    chain: Mapping[str, list[RuleSelector]],
    members: Mapping[str, Sequence[str]],
) -> Iterator[Loop | None]:
    """Follow a name over the rules; yields once a step, a loop where one is closed."""
    stack: list[tuple[RuleSelector, tuple[str, str], tuple[str, ...]]]
    stack = [(first, name, (first.rule.name,))]
    while stack:
        selector, here, rules = stack.pop()
        for registry, there in _goes_to(selector, here, members):
            yield None
            if registry == first.rule.source and first.wants(*there):
                yield Loop(rules, _spell(name), _spell(there))
                continue
            if len(rules) == MOST_RULES:
                continue
            stack.extend(
                (following, there, (*rules, following.rule.name))
                for following in chain.get(registry, ())
                if following.rule.name not in rules and following.wants(*there)
            )


def _endures(
    first: RuleSelector,
    loop: Loop,
    chain: Mapping[str, list[RuleSelector]],
    members: Mapping[str, Sequence[str]],
) -> bool:
    """Whether what a loop makes of a name goes round again and again."""
    repository, _, tag = loop.becomes.rpartition(":")
    name = (repository, tag)
    for _ in range(ROUNDS):
        again = [
            one for one in _walk(first, name, chain, members) if one and one.rules == loop.rules
        ]
        if not again or not again[0].grows:
            return False
        repository, _, tag = again[0].becomes.rpartition(":")
        name = (repository, tag)
    return True


def _goes_to(
    selector: RuleSelector, name: tuple[str, str], members: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    try:
        targets: Sequence[Target] = selector.targets(*name)
    except InvalidInput:
        return  # a name that cannot be, or that needs the digest
    for target in targets:
        registries = [target.registry] if target.registry else members.get(target.group or "", ())
        for registry in registries:
            if registry is not None and (target.registry or registry != selector.rule.source):
                yield registry, (target.repository, target.reference)


def _samples(rules: Iterable[SyncRule], first: RuleSelector) -> Iterator[tuple[str, str]]:
    """Yield names that the first rule takes, made from the patterns of all."""
    repositories, tags = set(_SAMPLES), {"v1", "1.0.0"}
    for rule in rules:
        for selection in rule.select:
            repositories.update(_made(selection.repositories.include))
            tags.update(_made(selection.tags.include))
    names = ((repository, tag) for repository in sorted(repositories) for tag in sorted(tags))
    for repository, tag in islice(names, MOST_NAMES):
        if ":" not in tag and first.wants(repository, tag):
            yield repository, tag


def _made(patterns: Iterable[str]) -> Iterator[str]:
    """Yield names that simple patterns match."""
    for pattern in patterns:
        if not set(pattern) & set("[]{}\\"):
            for many in ("x", "x/y"):
                yield pattern.replace("**", many).replace("*", "x").replace("?", "x")


def _spell(name: tuple[str, str]) -> str:
    return f"{name[0]}:{name[1]}"
