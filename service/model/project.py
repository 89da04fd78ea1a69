"""Projects: which repositories of which registries the rules of a team may read and write (P7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.errors import FieldProblem
from service.model.endpoint import RegistryEndpoint
from service.model.glob import compile_glob, is_literal
from service.model.rule import SyncRule
from service.model.rule_check import suggest
from service.model.selection import RuleSelector, destination_registries, members_of_groups

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Grant:
    """Repositories of one registry, by doublestar globs."""

    registry: str
    repositories: tuple[str, ...]

    def covers(self, repository: str) -> bool:
        """Whether one of the globs matches the repository."""
        return any(compile_glob(glob)(repository) for glob in self.repositories)


@dataclass(frozen=True, slots=True)
class Project:
    """What rules of one project may read and write; what is not granted is not allowed.

    `everything`: the project "default" for as long as nobody has written it down.
    """

    name: str
    read: tuple[Grant, ...] = ()
    write: tuple[Grant, ...] = ()
    everything: bool = False

    def may_read(self, registry: str, repository: str) -> bool:
        """Whether rules of the project may copy from this repository."""
        return self.everything or _covered(self.read, registry, repository)

    def may_write(self, registry: str, repository: str) -> bool:
        """Whether rules of the project may write to this repository."""
        return self.everything or _covered(self.write, registry, repository)

    def knows(self, registry: str) -> bool:
        """Whether anything of the registry is granted."""
        return self.everything or any(g.registry == registry for g in (*self.read, *self.write))

    def reads(self, registry: str) -> bool:
        """Whether anything of the registry may be read."""
        return self.everything or any(grant.registry == registry for grant in self.read)

    def writes(self, registry: str) -> bool:
        """Whether anything of the registry may be written."""
        return self.everything or any(grant.registry == registry for grant in self.write)

    @property
    def registries(self) -> frozenset[str]:
        """The registries that the project names."""
        return frozenset(grant.registry for grant in (*self.read, *self.write))


EVERYTHING = Project(DEFAULT_PROJECT, everything=True)


def _covered(grants: tuple[Grant, ...], registry: str, repository: str) -> bool:
    return any(grant.registry == registry and grant.covers(repository) for grant in grants)


def check_project(
    project: Project, endpoints: Mapping[str, RegistryEndpoint]
) -> tuple[FieldProblem, ...]:
    """Return what is wrong with a project: registries that are not there."""
    return tuple(
        FieldProblem(
            f"{side}.{grant.registry}",
            f"there is no registry {grant.registry!r}",
            suggest(grant.registry, endpoints),
        )
        for side, grants in (("read", project.read), ("write", project.write))
        for grant in grants
        if grant.registry not in endpoints
    )


def check_access(
    rule: SyncRule, project: Project, endpoints: Mapping[str, RegistryEndpoint]
) -> tuple[FieldProblem, ...]:
    """Return where a rule names what its project may not read or write.

    What patterns come to is known when a rule is planned, and is refused there name by name.
    """
    return () if project.everything else tuple(_denied(rule, project, endpoints))


def _denied(
    rule: SyncRule, project: Project, endpoints: Mapping[str, RegistryEndpoint]
) -> Iterator[FieldProblem]:
    if not project.reads(rule.source):
        yield FieldProblem(
            "source",
            f"project {project.name} may not read from {rule.source!r}",
            _granted(project.read),
        )
        return
    for index, selection in enumerate(rule.select):
        for name in selection.repositories.include:
            if is_literal(name) and not project.may_read(rule.source, name):
                yield FieldProblem(
                    f"select[{index}].repositories",
                    f"project {project.name} may not read {rule.source}/{name}",
                    _granted(project.read),
                )
    names = RuleSelector(rule, host=_host(endpoints, rule.source))
    members = members_of_groups(endpoints.values())
    homes = {(i, home) for named in names.named_repositories() for i, home in names.homes(named)}
    homes |= {(i, template) for i, template, _ in names.templates() if "{" not in template}
    for index, destination in enumerate(rule.destinations):
        path = f"destinations[{index}]"
        for registry in destination_registries(destination, rule.source, members):
            if not project.writes(registry):
                yield FieldProblem(
                    path,
                    f"project {project.name} may not write to {registry!r}",
                    _granted(project.write),
                )
                continue
            for name in sorted(home for i, home in homes if i == index):
                if not project.may_write(registry, name):
                    yield FieldProblem(
                        path,
                        f"project {project.name} may not write {registry}/{name}",
                        _granted(project.write),
                    )


def _host(endpoints: Mapping[str, RegistryEndpoint], name: str) -> str:
    endpoint = endpoints.get(name)
    return "" if endpoint is None else endpoint.host


def _granted(grants: tuple[Grant, ...]) -> str:
    told = "; ".join(f"{grant.registry}: {', '.join(grant.repositories)}" for grant in grants)
    return f"it may: {told[:400]}" if told else "nothing is granted to it"
