"""Select: the source's repositories and tags that a rule takes, page by page, from a saved cursor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidConfiguration, InvalidInput, NotFound
from service.model.mapping import is_one_to_one, keeps_repository
from service.model.rule import SyncRule
from service.model.selection import RuleSelector
from service.registry.client import RegistryClient
from service.replication.compare import Wanted, split_digest_tags
from service.store.planning import Cursor, PlanStore

PAGE = 500
ALL_TAGS = "*"
"""In the place of a tag: all that the rule takes of the repository."""


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a repository's list of tags, as the rule takes it.

    `digest_tags` are those of the whole page of the registry, with its first piece: copies of that
    piece look for them. `complete`: no later page holds any more of them.
    """

    tags: list[str]
    digest_tags: list[str]
    position: str
    done: bool
    listed: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A tag whose name at a destination cannot be; the repository in `wanted` is a template."""

    wanted: Wanted
    error: InvalidInput


class Selector:
    """Lists what one execution's rule takes from its source."""

    def __init__(
        self,
        rule: SyncRule,
        source: RegistryClient,
        destinations: Sequence[tuple[str, ...]],
        plans: PlanStore,
        execution: str,
        at_source: Collection[str] = (),
        only: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`destinations` are the registries that each destination of the rule means.

        `at_source` are those of them that are the source, under whatever name. `only` confines the
        execution to these references by repository; nothing is listed then.
        """
        self._only = only
        self.rule = rule
        self._source = source
        self._destinations = destinations
        self._plans = plans
        self._execution = execution
        self._at_source = frozenset(at_source)
        self.names = RuleSelector(rule, host=source.endpoint.host)

    def list_repositories(self) -> None:
        """Bring the list of repositories to its end, from where it stands."""
        exact = self.names.exact_repositories() if self._only is None else tuple(self._only)
        cursor, done = self._plans.catalog(self._execution)
        if done:
            return
        if exact is not None:
            self._plans.add_repositories(self._execution, exact, cursor="", done=True)
            return
        for page in self._source.list_repositories(cursor=cursor or None):
            wanted = [name for name in page.repositories if self.names.wants_repository(name)]
            self._plans.add_repositories(
                self._execution, wanted, cursor=page.next or "", done=page.next is None
            )
        named = sorted(self.names.named_repositories())  # a catalog may hide them
        self._plans.add_repositories(self._execution, named, cursor="", done=True)

    def pages(self, cursor: Cursor) -> Iterator[Page]:
        """Yield what the rule takes of a repository, from its cursor on.

        A repository that the catalog lists and that is gone is an empty one. Raises RegistryError:
        RepositoryNotFound for one that the rule names, and for one that goes while it is listed.
        """
        asked = None if self._only is None else self._only.get(cursor.repository, ())
        if asked is not None and ALL_TAGS not in asked:
            taken = [tag for tag in asked if self.names.wants(cursor.repository, tag)]
            yield Page(taken, [], "", done=True, listed=False, complete=False)
            return
        exact = self.names.exact_tags(cursor.repository)
        if exact is not None:
            yield Page(list(exact), [], "", done=True, listed=False, complete=False)
            return
        position = cursor.position
        begun = bool(position) or cursor.repository in self.names.named_repositories()
        try:
            for page in self._source.list_tags(cursor.repository, cursor=position or None):
                ordinary, digest_tags = split_digest_tags(page.tags)
                taken = [tag for tag in ordinary if self.names.wants(cursor.repository, tag)]
                last = page.next is None
                for start in range(0, max(len(taken), 1), PAGE):
                    end = start + PAGE >= len(taken)
                    yield Page(
                        taken[start : start + PAGE],
                        digest_tags if start == 0 else [],
                        (page.next or "") if end else position,
                        done=end and last,
                        listed=True,
                        complete=last,
                    )
                position, begun = page.next or "", True
        except NotFound:
            if begun:
                raise
            yield Page([], [], "", done=True, listed=True, complete=True)

    def wanted(self, repository: str, tags: Iterable[str]) -> tuple[list[Wanted], list[Unnamed]]:
        """Name every tag at every destination; also return those that cannot be named, and why."""
        wanted: list[Wanted] = []
        unnamed: list[Unnamed] = []
        for tag in tags:
            try:
                names = self._named(repository, tag)
                for name in names:
                    if self.feeds_itself(name):
                        raise self.circular(name)
            except InvalidInput as error:
                unnamed.extend(
                    Unnamed(Wanted(repository, tag, registry, template, tag), error)
                    for index, template, _ in self.names.templates_of(repository, tag)
                    for registry in self._destinations[index]
                )
            else:
                wanted.extend(names)
        return wanted, unnamed

    def names_of(self, repository: str, tags: Iterable[str]) -> Iterator[Wanted]:
        """Yield the name of every tag at every destination that can be named."""
        for tag in tags:
            try:
                yield from self._named(repository, tag)
            except InvalidInput:
                continue

    def _named(self, repository: str, tag: str) -> list[Wanted]:
        return [
            Wanted(repository, tag, registry, target.repository, target.reference)
            for target in self.names.targets(repository, tag)
            for registry in self._destinations[target.destination_index]
        ]

    def homes(self, repository: str) -> set[tuple[str, str]]:
        """Return registry and repository of where tags of a repository go, whichever they are."""
        return {
            (registry, name)
            for index, name in self.names.homes(repository)
            for registry in self._destinations[index]
        }

    def places(self) -> list[tuple[str, str, str]]:
        """Return each destination registry with the templates of repository and tag there."""
        found = [
            (registry, repository, tag)
            for index, repository, tag in self.names.templates()
            for registry in self._destinations[index]
        ]
        return list(dict.fromkeys(found))

    def keeps_apart(self) -> bool:
        """Whether the templates alone show that no two sources get one name."""
        places = self.places()
        return len({registry for registry, _, _ in places}) == len(places) and all(
            (keeps_repository(repository) or is_one_to_one(repository, "repository"))
            and is_one_to_one(tag, "tag")
            for _, repository, tag in places
        )

    def at_source(self, registry: str) -> bool:
        """Whether a destination is the source itself."""
        return registry in self._at_source

    def feeds_itself(self, wanted: Wanted) -> bool:
        """Whether a name to be written is one that the rule takes: written over, or copied on and on."""
        own = (wanted.source_repository, wanted.source_reference)
        return (
            self.at_source(wanted.registry)
            and (wanted.repository, wanted.reference) != own
            and self.names.wants(wanted.repository, wanted.reference)
        )

    def circular(self, wanted: Wanted, so_far: str = "") -> InvalidConfiguration:
        """Return the error for a name that `feeds_itself`."""
        return InvalidConfiguration(
            f"rule {self.rule.name}: {wanted.source_repository}:{wanted.source_reference} would "
            f"become {wanted.repository}:{wanted.reference} at {wanted.registry}, which is the "
            f"rule's own source and selected there{so_far}",
            field="select",
            hint="exclude what the rule writes from what it selects, or name another registry",
        )
