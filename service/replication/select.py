"""Select: the source's repositories and tags that a rule takes, page by page, from a saved cursor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.errors import InvalidConfiguration, NotFound, RepositoryNotFound
from service.model.mapping import keeps_repository, keeps_tag, placeholders
from service.model.rule import Destination, SyncRule
from service.model.selection import RuleSelector
from service.registry.client import RegistryClient
from service.replication.compare import Wanted, split_digest_tags
from service.store.planning import Cursor, PlanStore

PAGE = 500


class Selector:
    """Lists what one execution's rule takes from its source."""

    def __init__(
        self,
        rule: SyncRule,
        source: RegistryClient,
        destinations: Sequence[tuple[str, ...]],
        plans: PlanStore,
        execution: str,
    ) -> None:
        """`destinations` are the registries that each destination of the rule means."""
        self._rule = rule
        self._source = source
        self._destinations = destinations
        self._plans = plans
        self._execution = execution
        self._names = RuleSelector(rule, host=source.endpoint.host)

    def list_repositories(self) -> None:
        """Bring the list of repositories to its end, from where it stands."""
        exact = self._names.exact_repositories()
        cursor, done = self._plans.catalog(self._execution)
        if done:
            return
        if exact is not None:
            self._plans.add_repositories(self._execution, exact, cursor="", done=True)
            return
        for page in self._source.list_repositories(cursor=cursor or None):
            wanted = [name for name in page.repositories if self._names.wants_repository(name)]
            self._plans.add_repositories(
                self._execution, wanted, cursor=page.next or "", done=page.next is None
            )
        self._plans.add_repositories(self._execution, [], cursor="", done=True)

    def pages(self, cursor: Cursor) -> Iterator[tuple[list[str], list[str], str, bool, bool]]:
        """Yield pages of a repository: tags, referrer tags, next cursor, done, listed.

        A repository that is not there any more is an empty one. Raises RegistryError.
        """
        exact = self._names.exact_tags(cursor.repository)
        if exact is not None:
            yield list(exact), [], "", True, False
            return
        try:
            for page in self._source.list_tags(cursor.repository, cursor=cursor.position or None):
                ordinary, digest_tags = split_digest_tags(page.tags)
                taken = [tag for tag in ordinary if self._names.wants(cursor.repository, tag)]
                for start in range(0, max(len(taken), 1), PAGE):
                    last = start + PAGE >= len(taken)
                    yield (
                        taken[start : start + PAGE],
                        digest_tags if last else [],
                        (page.next or "") if last else cursor.position,
                        last and page.next is None,
                        True,
                    )
        except (RepositoryNotFound, NotFound):
            yield [], [], "", True, True

    def wanted(self, repository: str, tags: Sequence[str]) -> list[Wanted]:
        """Name every tag at every destination. Raises InvalidInput for a name that cannot be."""
        return [
            Wanted(repository, tag, registry, target.repository, target.reference)
            for tag in tags
            for target in self._names.targets(repository, tag)
            for registry in self._destinations[target.destination_index]
        ]

    def refuse_collisions(self, repositories: Sequence[str]) -> None:
        """Raise InvalidConfiguration when two source tags would have one name at a destination.

        Runs before anything is written. Only repositories that could collide are listed for it.
        """
        suspicious = self._suspicious(repositories)
        names: dict[tuple[str, str, str], str] = {}
        for repository in suspicious:
            for tags, _, _, _, _ in self.pages(Cursor(repository, "")):
                for wanted in self.wanted(repository, tags):
                    name = (wanted.registry, wanted.repository, wanted.reference)
                    source = f"{wanted.source_repository}:{wanted.source_reference}"
                    other = names.setdefault(name, source)
                    if other != source:
                        raise InvalidConfiguration(
                            f"rule {self._rule.name}: {other} and {source} would both become "
                            f"{name[1]}:{name[2]} at {name[0]}; nothing was written",
                            field="destinations",
                            hint="give them different names: use {repository} and {tag} in the templates",
                        )

    def _suspicious(self, repositories: Sequence[str]) -> list[str]:
        templates = [
            (entry.to_repository or d.repository, entry.to_tag or d.tag)
            for entry in self._rule.select
            for d in self._rule.destinations
        ]
        if _one_to_one(self._rule, templates):
            return []
        if any(
            placeholders(repository) & {"tag", "digest"} or not keeps_tag(tag)
            for repository, tag in templates
        ):
            return list(repositories)
        sources: dict[tuple[str, str], set[str]] = {}
        for repository in repositories:
            for wanted in self._any_names(repository):
                sources.setdefault(wanted, set()).add(repository)
        crowded = {name for names in sources.values() if len(names) > 1 for name in names}
        return sorted(crowded)

    def _any_names(self, repository: str) -> set[tuple[str, str]]:
        """Return where the repository's tags could go, whichever entry takes them."""
        found: set[tuple[str, str]] = set()
        for entry in self._rule.select:
            for index, destination in enumerate(self._rule.destinations):
                template = entry.to_repository or destination.repository
                probe = RuleSelector(
                    SyncRule(
                        name=self._rule.name,
                        source=self._rule.source,
                        select=(type(entry)(),),
                        destinations=(Destination(registry="any", repository=template),),
                    ),
                    host=self._source.endpoint.host,
                )
                found.update(
                    (registry, target.repository)
                    for target in probe.targets(repository, "tag")
                    for registry in self._destinations[index]
                )
        return found


def _one_to_one(rule: SyncRule, templates: Sequence[tuple[str, str]]) -> bool:
    """Whether names stay as they are, to one destination a registry: nothing can collide."""
    plain = all(keeps_repository(repository) and keeps_tag(tag) for repository, tag in templates)
    registries = [d.registry or f"group {d.group}" for d in rule.destinations]
    return plain and len(set(registries)) == len(registries)
