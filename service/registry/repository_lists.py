"""A registry's list of repositories: by its provider's own API, or by the catalog.

Cursors of the first begin with `api:`, those of the catalog with /.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from service.errors import AuthenticationFailed, Denied, Unsupported
from service.registry.provided import Provided
from service.registry.providers.strategies import Repositories
from service.registry.results import RepositoryPage
from service.registry.tags import Lists

BY_API = "api:"


class RepositoryLists:
    """Chooses between the two lists of one registry."""

    def __init__(self, lists: Lists, provided: Provided, ping: Callable[[], None]) -> None:
        """`ping` asks the registry something, after which its provider may be recognised."""
        self._lists = lists
        self._provided = provided
        self._ping = ping

    def pages(self, page_size: int, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield pages of repositories; raises Unsupported where there is no list."""
        begun_by_api = cursor is not None and cursor.startswith(BY_API)
        if begun_by_api and not self._provided.recognised:
            self._ping()
        lister = self._provided.strategies().repositories
        if lister is not None and (cursor is None or begun_by_api):
            yield from self._by_api(lister, cursor)
            return
        if begun_by_api or not self._provided.capabilities.catalog:
            raise self._no_list()
        told = False
        try:
            for page in self._lists.repositories(page_size, cursor):
                told = True
                yield page
        except (Unsupported, AuthenticationFailed, Denied):
            lister = self._provided.strategies().repositories  # the answer has told who it is
            if lister is None or told or cursor is not None:
                raise
            yield from self._by_api(lister, None)

    def _by_api(self, lister: Repositories, cursor: str | None) -> Iterator[RepositoryPage]:
        for page in lister.pages(None if cursor is None else cursor.removeprefix(BY_API)):
            following = None if page.next is None else f"{BY_API}{page.next}"
            yield RepositoryPage(page.repositories, following)

    def _no_list(self) -> Unsupported:
        name, title = self._provided.name, self._provided.provider.title
        return Unsupported(
            f"{name}: {title} has no catalog of its repositories that this version reads",
            registry=name,
            hint="name the repositories in the rule",
        )
