"""Select: the source's repositories and tags that a rule takes, page by page, from a saved cursor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.errors import InvalidConfiguration, InvalidInput, NotFound
from service.model.mapping import is_one_to_one, keeps_repository, placeholders
from service.model.rule import Newest, SyncRule
from service.model.selection import RuleSelector
from service.registry.client import RegistryClient
from service.registry.results import TagPage
from service.replication.compare import Ask, LeftOut, Unnamed, Wanted, split_digest_tags
from service.replication.content import Choice, ContentReader
from service.store.planning import Cursor, PlanStore

PAGE = 500
MAX_NAME = 255
AFTER = "after:"
"""Begins the cursor of a repository of which only the newest are taken; other cursors begin with /."""
ALL_TAGS = "*"
"""In the place of a tag: all that the rule takes of the repository."""


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a repository's list of tags, as the rule takes it.

    `digest_tags` are those of the whole page of the registry, with its first piece: copies of that
    piece look for them. `complete`: no later page holds any more of them.
    """

    asks: list[Ask]
    digest_tags: list[str]
    position: str
    done: bool
    listed: bool
    complete: bool

    @property
    def tags(self) -> list[str]:
        """The references of the piece."""
        return [ask.reference for ask in self.asks]


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
        content: ContentReader | None = None,
    ) -> None:
        """`destinations` are the registries that each destination of the rule means.

        `at_source` are those of them that are the source, under whatever name. `only` confines the
        execution to these references by repository; nothing is listed then. `content` is needed by rules that look at
        what a tag is: types, platforms, the newest by creation.
        """
        self._content = content
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
        repository = cursor.repository
        newest = self.names.newest(repository)
        asked = None if self._only is None else self._only.get(repository, ())
        if asked is not None and ALL_TAGS not in asked:
            by_name = set(self.names.exact_tags(repository) or ())
            ordinary, digest_tags = split_digest_tags(tag for tag in asked if tag not in by_name)
            asks = self._asks(repository, [*(tag for tag in asked if tag in by_name), *ordinary])
            if any(newest.keys() & ask.entries for ask in asks):
                asks = self._of_newest(repository, asks, self._choose(repository, newest))
            yield Page(asks, digest_tags, "", done=True, listed=False, complete=False)
            return
        exact = self.names.exact_tags(repository)
        if exact is not None:
            asks = self._asks(repository, exact)
            if newest:
                names = [ask.reference for ask in asks]
                asks = self._of_newest(repository, asks, self._choose(repository, newest, names))
            yield Page(asks, [], "", done=True, listed=False, complete=False)
            return
        if newest:
            yield from self._newest_pages(cursor, newest)
        else:
            yield from self._listed_pages(cursor, lambda asks: asks)

    def _listed_pages(
        self, cursor: Cursor, judge: Callable[[list[Ask]], list[Ask]]
    ) -> Iterator[Page]:
        """Yield the list of tags in pieces; named digests, which no list holds, with the last one."""
        position = cursor.position
        for page in self._tags(cursor.repository, position):
            ordinary, digest_tags = split_digest_tags(page.tags)
            last = page.next is None
            if last:
                ordinary.extend(self.names.named_digests(cursor.repository))
            taken = judge(self._asks(cursor.repository, ordinary))
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
            position = page.next or ""

    def _newest_pages(self, cursor: Cursor, newest: Mapping[int, Newest]) -> Iterator[Page]:
        """Yield what is left when each entry has kept its newest: the whole list is seen first.

        Where every entry keeps only the newest, one pass over the list does; its digest tags are
        yielded on the way. Else the list is read once more for the other entries. The cursor names
        the last tag that was yielded: after a crash the list is read again.
        """
        repository = cursor.repository
        others = any(entry not in newest for entry in self.names.entries_of_repository(repository))
        if others:
            chosen = self._choose(repository, newest)
            yield from self._listed_pages(
                cursor, lambda asks: self._of_newest(repository, asks, chosen)
            )
            return
        choice = self._choice(repository, newest)
        after = cursor.position.removeprefix(AFTER) if cursor.position else ""
        for page in self._tags(repository, ""):
            ordinary, digest_tags = split_digest_tags(page.tags)
            choice.show(self._asks(repository, ordinary))
            if digest_tags and not after:
                yield Page([], digest_tags, "", done=False, listed=True, complete=False)
        chosen = choice.chosen()
        named = self._asks(repository, self.names.named_digests(repository))
        tags = sorted(frozenset().union(*chosen.values()))
        left = self._of_newest(repository, self._asks(repository, tags), chosen)
        left = [ask for ask in left if ask.reference > after] + named
        for start in range(0, max(len(left), 1), PAGE):
            piece = left[start : start + PAGE]
            end = start + PAGE >= len(left)
            position = "" if end else f"{AFTER}{piece[-1].reference}"
            yield Page(piece, [], position, done=end, listed=True, complete=end)

    def _tags(self, repository: str, position: str) -> Iterator[TagPage]:
        """List tags; nothing for a repository that the catalog listed and that is gone."""
        begun = bool(position) or repository in self.names.named_repositories()
        try:
            for page in self._source.list_tags(repository, cursor=position or None):
                yield page
                begun = True
        except NotFound:
            if begun:
                raise
            yield TagPage((), None)

    def _asks(self, repository: str, references: Iterable[str]) -> list[Ask]:
        """Return the references whose names suit an entry."""
        return [
            Ask(repository, reference, entries)
            for reference in references
            if (entries := self.names.entries_of(repository, reference))
        ]

    # ---- the newest ------------------------------------------------------------------------------

    def _choose(
        self, repository: str, newest: Mapping[int, Newest], tags: Sequence[str] | None = None
    ) -> dict[int, frozenset[str]]:
        """Return which tags each entry keeps, of all in the repository or of these."""
        choice = self._choice(repository, newest)
        if tags is not None:
            choice.show(self._asks(repository, tags))
            return choice.chosen()
        for page in self._tags(repository, ""):
            ordinary, _ = split_digest_tags(page.tags)
            choice.show(self._asks(repository, ordinary))
        return choice.chosen()

    def _choice(self, repository: str, newest: Mapping[int, Newest]) -> Choice:
        return Choice(self.rule, repository, newest, self._content)

    @staticmethod
    def _of_newest(
        repository: str, asks: Iterable[Ask], chosen: Mapping[int, frozenset[str]]
    ) -> list[Ask]:
        """Leave out entries that do not keep a tag, and tags that no entry keeps."""
        left = []
        for ask in asks:
            entries = tuple(
                entry
                for entry in ask.entries
                if ":" in ask.reference or entry not in chosen or ask.reference in chosen[entry]
            )
            if entries:
                left.append(Ask(repository, ask.reference, entries))
        return left

    # ---- names -----------------------------------------------------------------------------------

    def conditional(self, entry: int) -> bool:
        """Whether an entry looks at what a reference is, besides its names."""
        selection = self.rule.select[entry]
        return bool(selection.types or selection.platforms)

    def decide(self, ask: Ask, digest: str) -> int | LeftOut:
        """Return the first entry that takes what the digest names; raises as reading it does."""
        if self._content is None:
            raise TypeError("this rule needs a ContentReader")
        left_out = LeftOut("")
        for entry in ask.entries:
            kind = self._content.misfit(self.rule.select[entry], ask.repository, digest)
            if kind is None:
                return entry
            left_out = LeftOut(kind)
        return left_out

    def names_at(self, ask: Ask, entry: int, digest: str | None) -> list[Wanted | Unnamed]:
        """Return the name at every destination that an entry gives, or why there can be none."""
        try:
            named = self._named(ask.repository, ask.reference, entry, digest)
            for name in named:
                if self.feeds_itself(name):
                    raise self.circular(name)
        except InvalidInput as error:
            return [
                Unnamed(
                    Wanted(
                        ask.repository,
                        ask.reference,
                        registry,
                        apart(template, ask.repository),
                        ask.reference,
                        entry,
                    ),
                    error,
                    waits=digest is None and "digest" in placeholders(template) | placeholders(tag),
                )
                for index, template, tag in self.names.templates_of(entry)
                for registry in self._destinations[index]
            ]
        return list(named)

    def names_of(self, asks: Iterable[Ask]) -> Iterator[Wanted]:
        """Yield every name that a reference may get, as far as it can be told without its digest."""
        for ask in asks:
            for entry in ask.entries:
                with contextlib.suppress(InvalidInput):
                    yield from self._named(ask.repository, ask.reference, entry, None)
                if not self.conditional(entry):
                    break

    def _named(
        self, repository: str, reference: str, entry: int, digest: str | None
    ) -> list[Wanted]:
        return [
            Wanted(repository, reference, registry, target.repository, target.reference, entry)
            for target in self.names.targets(repository, reference, digest, entry=entry)
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


def apart(name: str, repository: str) -> str:
    """Return a name under which no other source stands: for rows of what cannot be named."""
    return f"{name} of {repository}"[:MAX_NAME]
