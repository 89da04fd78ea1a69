"""Lists: tags of a repository, repositories of a registry, page by page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from service.errors import InvalidReference, NotFound, ProtocolError, Unsupported
from service.model.reference import MAX_REPOSITORY_LENGTH, validate_repository, validate_tag
from service.registry.access import CATALOG, Access
from service.registry.http import Answer, Http
from service.registry.links import next_cursor
from service.registry.packed import unpacked
from service.registry.results import RepositoryPage, TagPage

MAX_LIST_BYTES = 10 * 1024 * 1024
_CURSOR = re.compile(r"/[\x21-\x7e]{0,8191}")


class Lists:
    """The list calls of one registry; every page is a request, made when it is asked for."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def tags(
        self, repository: str, page_size: int, last: str | None, cursor: str | None
    ) -> Iterator[TagPage]:
        """Yield pages of tags; raises RepositoryNotFound, ProtocolError when the list is broken.

        Names that are no tags are left out: nothing can be asked for by them.
        """
        validate_repository(repository)
        target = f"/v2/{repository}/tags/list?n={page_size}"
        if last is not None:
            target = f"{target}&last={quote(last, safe='')}"
        access = Access("pull", repository)
        for names, following in self._pages(cursor or target, access, "tags", "tags"):
            yield TagPage(_valid(names, validate_tag), following)

    def repositories(
        self, page_size: int, cursor: str | None, access: Access = CATALOG
    ) -> Iterator[RepositoryPage]:
        """Yield pages of repositories; raises Unsupported where the registry has no catalog."""
        target = f"/v2/_catalog?n={page_size}"
        try:
            for names, following in self._pages(
                cursor or target, access, "catalog", "repositories"
            ):
                yield RepositoryPage(_valid(names, validate_repository), following)
        except NotFound as error:
            raise Unsupported(
                f"{self._http.name} has no catalog of its repositories",
                registry=self._http.name,
                status=404,
                hint="name the repositories in the rule",
            ) from error

    def _pages(
        self, target: str, access: Access, kind: str, member: str
    ) -> Iterator[tuple[list[Any], str | None]]:
        if not _CURSOR.fullmatch(target):
            raise ProtocolError(f"{self._http.name}: a cursor that is none")
        seen: set[str] = set()
        following: str | None = target
        while following is not None:
            if following in seen:
                raise ProtocolError(f"{self._http.name}: the list of {kind} goes in a circle")
            seen.add(following)
            current = following
            answer = self._http.request("GET", kind, current, access, limit=MAX_LIST_BYTES)
            if answer.status != 200:
                raise self._http.error(answer, "GET", current, kind)
            names = self._names(answer, member)
            following = next_cursor(self._http.origin, current, answer.headers.get("link"))
            yield names, following

    def _names(self, answer: Answer, member: str) -> list[Any]:
        text = unpacked(answer, self._http.name, MAX_LIST_BYTES)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ProtocolError(f"{self._http.name}: a list that is no JSON object")
        names = value.get(member)
        if names is None:
            return []
        if not isinstance(names, list):
            raise ProtocolError(f"{self._http.name}: {member} that is no list")
        return names


def _valid(names: list[Any], validate: Callable[[str], str]) -> tuple[str, ...]:
    kept: dict[str, None] = {}
    for name in names:
        if isinstance(name, str) and len(name) <= MAX_REPOSITORY_LENGTH:
            try:
                kept[validate(name)] = None
            except InvalidReference:
                continue
    return tuple(kept)
