"""A registry's list of repositories: by its provider's own API, or by the catalog.

Cursors of the first begin with `api:`, those of the catalog with /. With several credentials each has a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from service.errors import AuthenticationFailed, Denied, Unsupported
from service.registry.access import Access
from service.registry.provided import Provided
from service.registry.providers.strategies import Repositories
from service.registry.results import RepositoryPage
from service.registry.tags import Lists

BY_API = "api:"
_NUMBERED = re.compile(r"(\d{1,4})!(.*)", re.DOTALL)


def of_all(
    lists: Sequence[RepositoryLists],
    is_of: Callable[[int, str], bool],
    page_size: int,
    cursor: str | None,
) -> Iterator[RepositoryPage]:
    """Yield what several credentials list, one after the other, of each what `is_of` says is its own.

    A cursor says of the list with a number N > 0 that it goes on behind what follows `N!`.
    """
    found = _NUMBERED.fullmatch(cursor or "")
    start, rest = (int(found[1]), found[2] or None) if found else (0, cursor)
    for number, one in enumerate(lists[start:], start):
        last = number == len(lists) - 1
        for page in one.pages(page_size, rest if number == start else None):
            own = tuple(name for name in page.repositories if is_of(number, name))
            following = page.next
            if following is not None:
                following = f"{number}!{following}" if number else following
            elif not last:
                following = f"{number + 1}!"
            yield RepositoryPage(own, following)


class RepositoryLists:
    """Chooses between the two lists of one registry."""

    def __init__(
        self, lists: Lists, provided: Provided, ping: Callable[[], None], prefix: str = ""
    ) -> None:
        """`ping` asks the registry something, after which its provider may be recognised.

        `prefix`: whose credentials the catalog is asked with.
        """
        self._access = Access("catalog", prefix)
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
            for page in self._lists.repositories(page_size, cursor, self._access):
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
