"""What a rule takes and where each of it goes: the rule's globs and templates, made ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidConfiguration, InvalidInput
from service.model.digest import Digest
from service.model.endpoint import RegistryEndpoint
from service.model.glob import is_literal
from service.model.mapping import placeholders, render_repository, render_tag
from service.model.names import NameMatcher
from service.model.rule import Destination, NameFilter, Newest, Selection, SyncRule

TAG_PLACEHOLDERS = frozenset({"tag", "digest"})


@dataclass(frozen=True, slots=True)
class Target:
    """One name at one destination; `destination_index` counts the rule's destinations from 0.

    Exactly one of `registry` and `group` is set. `reference` is a tag, or the digest where the
    rule names a manifest by digest.
    """

    destination_index: int
    registry: str | None
    group: str | None
    repository: str
    reference: str


class _Entry:
    """One entry of `select`, its patterns compiled."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._repositories = NameMatcher(selection.repositories)
        self._tags = NameMatcher(selection.tags)

    def wants_repository(self, repository: str) -> bool:
        return self._repositories.matches(repository)

    def wants_tag(self, tag: str) -> bool:
        return self._tags.matches(tag)


class RuleSelector:
    """Answers what a rule takes. Made once for an execution; safe to share between threads."""

    def __init__(self, rule: SyncRule, *, host: str = "") -> None:
        """Compile the rule; `host` is the source's address, for templates that use `{host}`.

        Raises InvalidConfiguration for a broken pattern.
        """
        self.rule = rule
        self._host = host
        self._entries = tuple(_Entry(selection) for selection in rule.select)
        self._naming: dict[str, list[int]] = {}  # entries that name their repositories, by these
        self._describing: list[int] = []
        for number, entry in enumerate(self._entries):
            exact = _exact(entry.selection.repositories)
            if exact is None:
                self._describing.append(number)
            for name in dict.fromkeys(exact or ()):
                self._naming.setdefault(name, []).append(number)

    def exact_repositories(self) -> tuple[str, ...] | None:
        """Return the repositories when every entry names them; None: the catalog must be listed."""
        names: dict[str, None] = {}
        for entry in self._entries:
            exact = _exact(entry.selection.repositories)
            if exact is None:
                return None
            names.update((name, None) for name in exact if entry.wants_repository(name))
        return tuple(names)

    def exact_tags(self, repository: str) -> tuple[str, ...] | None:
        """Return the tags (or digests) of a repository when all are named; None: list them.

        A repository that no entry wants gives an empty tuple.
        """
        names: dict[str, None] = {}
        for number in self.entries_of_repository(repository):
            entry = self._entries[number]
            exact = _exact(entry.selection.tags)
            if exact is None:
                return None
            names.update((name, None) for name in exact if entry.wants_tag(name))
        return tuple(names)

    def named_digests(self, repository: str) -> tuple[str, ...]:
        """Return the digests that entries name in a repository: no listing of tags holds them."""
        return tuple(
            dict.fromkeys(
                name
                for number in self.entries_of_repository(repository)
                for name in self._entries[number].selection.tags.include
                if ":" in name and self._entries[number].wants_tag(name)
            )
        )

    def named_repositories(self) -> frozenset[str]:
        """Return the repositories that the rule names, and does not only describe by a pattern."""
        return frozenset(
            name
            for entry in self._entries
            for name in entry.selection.repositories.include
            if is_literal(name) and entry.wants_repository(name)
        )

    def templates(self) -> list[tuple[int, str, str]]:
        """Return destination index and templates of repository and tag, for each entry and destination."""
        return [
            (
                index,
                entry.selection.to_repository or destination.repository,
                entry.selection.to_tag or destination.tag,
            )
            for entry in self._entries
            for index, destination in enumerate(self.rule.destinations)
        ]

    def templates_of(self, entry: int) -> list[tuple[int, str, str]]:
        """Return destination index and templates of what an entry takes."""
        selection = self._entries[entry].selection
        return [
            (
                index,
                selection.to_repository or destination.repository,
                selection.to_tag or destination.tag,
            )
            for index, destination in enumerate(self.rule.destinations)
        ]

    def homes(self, repository: str) -> set[tuple[int, str]]:
        """Return destination index and repository of where tags of this repository may go.

        Whatever its tags are: templates that depend on the tag, and names that cannot be, are left
        out.
        """
        found: set[tuple[int, str]] = set()
        for number in self.entries_of_repository(repository):
            entry = self._entries[number]
            for index, destination in enumerate(self.rule.destinations):
                template = entry.selection.to_repository or destination.repository
                if placeholders(template) & TAG_PLACEHOLDERS:
                    continue
                try:
                    name = render_repository(
                        template,
                        host=self._host,
                        registry=self.rule.source,
                        repository=repository,
                        tag="",
                    )
                except InvalidInput:
                    continue
                found.add((index, name))
        return found

    def wants_repository(self, repository: str) -> bool:
        """Whether any entry takes something of the repository."""
        return bool(self.entries_of_repository(repository))

    def wants(self, repository: str, tag: str) -> bool:
        """Whether the names of a reference suit an entry; its content and its age are not asked for."""
        return bool(self.entries_of(repository, tag))

    def entries_of(self, repository: str, tag: str) -> tuple[int, ...]:
        """Return the entries that a reference's names suit, the first one first."""
        return tuple(
            number
            for number in self.entries_of_repository(repository)
            if self._entries[number].wants_tag(tag)
        )

    def entries_of_repository(self, repository: str) -> tuple[int, ...]:
        """Return the entries that take something of a repository."""
        candidates: Sequence[int] = self._naming.get(repository, ())
        if self._describing:
            candidates = sorted({*candidates, *self._describing})
        return tuple(n for n in candidates if self._entries[n].wants_repository(repository))

    def newest(self, repository: str) -> dict[int, Newest]:
        """Return how many tags of a repository are kept, for the entries that keep only the newest."""
        return {
            number: newest
            for number in self.entries_of_repository(repository)
            if (newest := self._entries[number].selection.tags.newest) is not None
        }

    def targets(
        self, repository: str, tag: str, digest: str | None = None, *, entry: int | None = None
    ) -> list[Target]:
        """Return one target a destination, named by an entry: the first one that the names suit.

        Empty when there is none. Raises InvalidInput, naming source and template, for a name that
        the destination could not have.
        """
        if entry is None:
            entry = next(iter(self.entries_of(repository, tag)), None)
        if entry is None:
            return []
        selection = self._entries[entry].selection
        known = digest or (tag if ":" in tag else None)
        return [
            self._target(index, destination, selection, repository, tag, known)
            for index, destination in enumerate(self.rule.destinations)
        ]

    def _target(
        self,
        index: int,
        destination: Destination,
        selection: Selection,
        repository: str,
        tag: str,
        digest: str | None,
    ) -> Target:
        repository_template = selection.to_repository or destination.repository
        tag_template = selection.to_tag or destination.tag
        try:
            named = render_repository(
                repository_template,
                host=self._host,
                registry=self.rule.source,
                repository=repository,
                tag=tag,
                digest=digest,
            )
            if is_digest(tag) and tag_template == "{tag}":
                reference = tag
            else:
                reference = render_tag(
                    tag_template,
                    host=self._host,
                    registry=self.rule.source,
                    repository=repository,
                    tag=tag,
                    digest=digest,
                )
        except InvalidInput as error:
            raise InvalidConfiguration(
                f"{self.rule.source}/{repository}:{tag} cannot be named by "
                f"{repository_template!r} and {tag_template!r}: {error.message}",
                field=f"destinations[{index}]",
                hint=error.hint,
            ) from error
        return Target(index, destination.registry, destination.group, named, reference)


def is_digest(reference: str) -> bool:
    """Whether a reference inside a repository is a digest rather than a tag."""
    try:
        Digest.parse(reference)
    except InvalidInput:
        return False
    return True


def _exact(names: NameFilter) -> tuple[str, ...] | None:
    if names.include and all(is_literal(pattern) for pattern in names.include):
        return names.include
    return None


def members_of_groups(endpoints: Iterable[RegistryEndpoint]) -> dict[str, tuple[str, ...]]:
    """Return the names of the registries in each group, sorted."""
    members: dict[str, list[str]] = {}
    for endpoint in endpoints:
        for group in endpoint.groups:
            members.setdefault(group, []).append(endpoint.name)
    return {group: tuple(sorted(names)) for group, names in members.items()}


def destination_registries(
    destination: Destination, source: str, members: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the registries that a destination means: itself, or its group but the source.

    Raises InvalidConfiguration for a group without members other than the source.
    """
    if destination.registry is not None:
        return (destination.registry,)
    group = destination.group or ""
    names = tuple(name for name in members.get(group, ()) if name != source)
    if not names:
        raise InvalidConfiguration(
            f"the group {group!r} has no registry other than the source",
            hint=f'add "groups: [{group}]" to a registry, or correct the name',
        )
    return names


def followers(rule: SyncRule, members: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the registries that a rule copies to, each once; a group without others has none."""
    names: dict[str, None] = {}
    for destination in rule.destinations:
        try:
            names.update(dict.fromkeys(destination_registries(destination, rule.source, members)))
        except InvalidConfiguration:
            continue
    return list(names)
