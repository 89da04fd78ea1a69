"""Tencent CCR, personal edition: the *Personal calls of TCR's API 3.0 of 2019-09-24, signed by TC3.

The registry takes a user (an account's number) with a fixed password, and there is no call that makes a login of an
API key. So where more than pushes and pulls is wanted the password is a JSON object of three members: `password`, and
`secret_id` with `secret_key` for the API. The key is shown to nobody; the registry is shown the password alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.control_plane import ControlPlane
from service.registry.providers.steps import ROWS_A_PAGE, Rows, make_unless_there, pushed_at
from service.registry.providers.strategies import NONE, Strategies
from service.registry.providers.tcr import ANY_REGION, Api
from service.registry.results import RepositoryPage


class Parts(NamedTuple):
    """What the password of a registry's credential has in it."""

    password: str
    secret_id: str
    secret_key: str


def open_ccr(plane: ControlPlane) -> Strategies:
    """Return CCR's strategies; none where the password is nothing but one."""
    if parts_of(plane) is None:
        return NONE
    ccr = Ccr(plane)
    return Strategies(
        login=CcrLogin(plane),
        repositories=CcrRepositories(ccr),
        pushed=CcrPushed(ccr),
        maker=CcrMaker(ccr),
        tag_deleter=CcrTags(ccr),
    )


def parts_of(plane: ControlPlane) -> Parts | None:
    """Return the password and the API key; None for a plain password. Raises InvalidConfiguration."""
    text = plane.credential().password
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
        found = Parts(*(value[name] for name in Parts._fields))
    except (ValueError, LookupError, TypeError):
        found = None
    if found is None or not all(isinstance(part, str) and part for part in found):
        raise errors.InvalidConfiguration(
            f"the password of {plane.name} is a JSON object without {', '.join(Parts._fields)}",
            field="credentials",
            hint="give all three as texts, on one line, or the password alone",
        )
    return found


class Ccr:
    """Requests to Tencent Cloud's API about the account's personal registry."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.registry = plane.name
        self._api = Api(plane, self._key)

    def ask(self, action: str, **members: Any) -> dict[str, Any]:
        """Call an action; raises RegistryError as its Error says."""
        return self._api.call(action, ANY_REGION, members)

    def rows(self, start: int = 0) -> Iterator[tuple[Rows, int | None]]:
        """Yield pages of the account's repositories, each with the offset of the next one."""
        return self._pages(
            "DescribeRepositoryOwnerPersonal", ("RepoInfo", "TotalCount"), start=start
        )

    def tags(self, repository: str) -> Iterator[tuple[Rows, int | None]]:
        """Yield pages of a repository's tags; raises RepositoryNotFound."""
        return self._pages("DescribeImagePersonal", ("TagInfo", "TagCount"), RepoName=repository)

    def _pages(
        self, action: str, names: tuple[str, str], *, start: int = 0, **members: Any
    ) -> Iterator[tuple[Rows, int | None]]:
        """Yield pages of a list whose members are called `names`: its rows, and how many there are in all."""
        following: int | None = start
        while following is not None:
            answer = self.ask(action, Offset=following, Limit=ROWS_A_PAGE, **members)
            data = answer.get("Data")
            rows = data.get(names[0]) or [] if isinstance(data, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise errors.ProtocolError(f"{self.registry}: a list of its API that is none")
            seen, total = following + len(rows), str((data or {}).get(names[1]))
            following = seen if rows and total.isdigit() and seen < int(total) else None
            yield rows, following

    def is_there(self, action: str, **members: str) -> bool:
        """Ask whether something exists."""
        data = self.ask(action, **members).get("Data")
        return isinstance(data, dict) and data.get("IsExist") is True

    def _key(self) -> tuple[str, str]:
        parts = parts_of(self._plane)
        if parts is None:  # it was changed meanwhile
            raise errors.AuthenticationFailed(
                f"{self.registry}: its password has no API key any more", registry=self.registry
            )
        return parts.secret_id, parts.secret_key


class CcrLogin:
    """The fixed password, out of what is configured."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def login(self) -> Credential:
        """Return what the registry takes; nothing is asked for it."""
        parts = parts_of(self._plane)
        given = self._plane.credential()
        return given if parts is None else replace(given, password=parts.password)


class CcrRepositories:
    """DescribeRepositoryOwnerPersonal."""

    def __init__(self, ccr: Ccr) -> None:
        self._ccr = ccr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the account; a cursor is an offset."""
        start = int(cursor) if cursor is not None and cursor.isdigit() else 0
        for rows, following in self._ccr.rows(start):
            names = (row.get("RepoName") for row in rows)
            yield RepositoryPage(
                tuple(name for name in names if isinstance(name, str)),
                None if following is None else str(following),
            )


class CcrPushed:
    """DescribeImagePersonal: PushTime, or else UpdateTime, of each row."""

    def __init__(self, ccr: Ccr) -> None:
        self._ccr = ccr

    def pages(self, repository: str) -> Iterator[Mapping[str, float]]:
        """Yield tag to seconds, 100 a page."""
        for rows, _ in self._ccr.tags(repository):
            yield {
                row["TagName"]: pushed_at(row.get("PushTime")) or pushed_at(row.get("UpdateTime"))
                for row in rows
                if isinstance(row.get("TagName"), str)
            }


class CcrMaker:
    """Namespace and repository."""

    def __init__(self, ccr: Ccr) -> None:
        self._ccr = ccr

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        return self._ccr.is_there("ValidateRepositoryExistPersonal", RepoName=place)

    def make(self, place: str) -> None:
        """Make the namespace, unless it is there, and a private repository in it.

        Raises Rejected where the name of the namespace is another account's.
        """
        namespace = place.partition("/")[0]
        if not self._has_namespace(namespace):
            make_unless_there(
                lambda: self._ccr.ask("CreateNamespacePersonal", Namespace=namespace),
                lambda: self._has_namespace(namespace),
            )
        make_unless_there(
            lambda: self._ccr.ask("CreateRepositoryPersonal", RepoName=place, Public=0),
            lambda: self.exists(place),
        )

    def _has_namespace(self, name: str) -> bool:
        return self._ccr.is_there("ValidateNamespaceExistPersonal", Namespace=name)


class CcrTags:
    """DeleteImagePersonal: a tag of a repository."""

    def __init__(self, ccr: Ccr) -> None:
        self._ccr = ccr

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound."""
        try:
            self._ccr.ask("DeleteImagePersonal", RepoName=repository, Tag=tag)
        except errors.RepositoryNotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, oci_code=error.oci_code
            ) from error
