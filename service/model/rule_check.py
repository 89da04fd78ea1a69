"""What must hold between a rule and the registries it names, whoever wrote them down."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from service.errors import FieldProblem, InvalidConfiguration, InvalidInput
from service.model.borders import NO_BORDERS, Borders, check_borders
from service.model.endpoint import RegistryEndpoint
from service.model.glob import is_literal
from service.model.mapping import (
    keeps_repository,
    keeps_tag,
    placeholders,
    render_repository,
    render_tag,
)
from service.model.reference import validate_repository, validate_tag
from service.model.rule import Destination, SyncRule
from service.model.selection import destination_registries, members_of_groups


def check_rule(
    rule: SyncRule, endpoints: Mapping[str, RegistryEndpoint], borders: Borders = NO_BORDERS
) -> tuple[FieldProblem, ...]:
    """Return what is wrong.

    Unknown registries, empty groups, a rule that copies onto itself, a group that reaches across a border.
    """

    def region_of(name: str) -> str | None:
        return endpoints[name].region if name in endpoints else None

    members = members_of_groups(endpoints.values())
    return (*_problems(rule, endpoints), *check_borders(rule, region_of, members, borders))


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names what was probably meant, or what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names[:20])}" if names else ""


def _problems(rule: SyncRule, endpoints: Mapping[str, RegistryEndpoint]) -> Iterator[FieldProblem]:
    if rule.source not in endpoints:
        yield FieldProblem(
            "source", f"there is no registry {rule.source!r}", suggest(rule.source, endpoints)
        )
    yield from _impossible_names(rule)
    members = members_of_groups(endpoints.values())
    seen: dict[tuple[str, str, str], int] = {}
    for index, destination in enumerate(rule.destinations):
        path = f"destinations[{index}]"
        if destination.registry is not None and destination.registry not in endpoints:
            yield FieldProblem(
                f"{path}.registry",
                f"there is no registry {destination.registry!r}",
                suggest(destination.registry, endpoints),
            )
            continue
        try:
            registries = destination_registries(destination, rule.source, members)
        except InvalidConfiguration as error:
            yield FieldProblem(
                f"{path}.group", error.message, suggest(destination.group or "", members)
            )
            continue
        for registry in registries:
            key = (registry, destination.repository, destination.tag)
            if key in seen:
                yield FieldProblem(
                    path,
                    f"writes the same names to {registry!r} as destinations[{seen[key]}]",
                    "leave one of them out",
                )
            seen.setdefault(key, index)
            if _same_place(rule, destination, registry, endpoints):
                yield FieldProblem(
                    path,
                    f"source and destination are the same repositories of {registry!r}",
                    "give the destination another registry or a repository template",
                )


_SAMPLE = {
    "host": "registry.example",
    "registry": "east",
    "repository": "/".join("abcdefghijklmnop"),  # deep enough for {repository[n:]}
    "tag": "v1",
    "digest": f"sha256:{'0' * 64}",
}


def _impossible_names(rule: SyncRule) -> Iterator[FieldProblem]:
    """Yield names that no registry can have: found here, before anything is asked of one."""
    for index, selection in enumerate(rule.select):
        path = f"select[{index}]"
        for name in filter(is_literal, selection.repositories.include):
            yield from _judged(f"{path}.repositories", partial(validate_repository, name))
        for tag in filter(is_literal, selection.tags.include):
            if ":" not in tag:  # digests are judged where they are read
                yield from _judged(f"{path}.tags", partial(validate_tag, tag))
        yield from _templates(f"{path}.to", selection.to_repository, selection.to_tag)
    for index, destination in enumerate(rule.destinations):
        yield from _templates(f"destinations[{index}]", destination.repository, destination.tag)


def _templates(path: str, repository: str | None, tag: str | None) -> Iterator[FieldProblem]:
    if repository is not None:
        yield from _judged(f"{path}.repository", lambda: render_repository(repository, **_SAMPLE))
    if tag is not None and placeholders(tag) <= {"tag", "digest"}:
        yield from _judged(f"{path}.tag", lambda: render_tag(tag, **_SAMPLE))


def _judged(path: str, judge: Callable[[], object]) -> Iterator[FieldProblem]:
    try:
        judge()
    except InvalidInput as error:
        yield FieldProblem(path, error.message, error.hint)


def _same_place(
    rule: SyncRule,
    destination: Destination,
    registry: str,
    endpoints: Mapping[str, RegistryEndpoint],
) -> bool:
    source, target = endpoints.get(rule.source), endpoints.get(registry)
    if source is None or target is None or source.host != target.host:
        return False
    return any(
        keeps_repository(selection.to_repository or destination.repository)
        and keeps_tag(selection.to_tag or destination.tag)
        for selection in rule.select
    )
