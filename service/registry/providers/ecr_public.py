"""AWS ECR Public: AWS JSON 1.1 requests to us-east-1, signed (API version 2020-10-30).

Repositories are named ALIAS/NAME at the registry and NAME in the API, which knows those of the account alone: of
other accounts' nothing is listed, made or deleted. Credentials are those of private ECR.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from service import errors
from service.registry.providers.control_plane import ControlPlane
from service.registry.providers.ecr import (
    ROWS_A_PAGE,
    Dialect,
    Ecr,
    EcrLogin,
    access_key,
    delete_tag,
)
from service.registry.providers.strategies import NONE, Strategies
from service.registry.results import RepositoryPage

PUBLIC = Dialect("SpencerFrontendService", "ecr-public")


def open_ecr_public(plane: ControlPlane) -> Strategies:
    """Return ECR Public's strategies; none where the credential is neither an access key nor the machine's."""
    key = access_key(plane)
    if key is None:
        return NONE
    account = Account(Ecr(plane, key, PUBLIC))
    images = PublicImages(account)
    return Strategies(
        login=EcrLogin(account.ecr),
        repositories=PublicRepositories(account),
        tags_with_digests=images,
        maker=PublicMaker(account),
        tag_deleter=images,
    )


class Account:
    """The account's own public registry, and the aliases that it goes by."""

    def __init__(self, ecr: Ecr) -> None:
        self.ecr = ecr
        self._lock = threading.Lock()
        self._aliases: frozenset[str] | None = None

    def own(self, repository: str) -> str | None:
        """Return a repository's name in the API; None for one of another account."""
        alias, _, name = repository.partition("/")
        return name if name and alias in self.aliases() else None

    def named(self, repository: str) -> str:
        """Return a repository's name in the API; raises Denied for one of another account."""
        name = self.own(repository)
        if name is None:
            raise errors.Denied(
                f"{self.ecr.registry}: {repository} is another account's",
                registry=self.ecr.registry,
            )
        return name

    def aliases(self) -> frozenset[str]:
        """Return the first parts of the names of the account's repositories, the registry's own id among them."""
        with self._lock:
            if self._aliases is None:
                found: set[str] = set()
                for rows, _ in self.ecr.pages("DescribeRegistries", "registries"):
                    for row in rows:
                        found |= _aliases(row)
                self._aliases = frozenset(found)
            return self._aliases


class PublicRepositories:
    """DescribeRepositories."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the account, each by the address that ECR Public tells of it."""
        for rows, following in self._account.ecr.pages(
            "DescribeRepositories", "repositories", maxResults=ROWS_A_PAGE, nextToken=cursor
        ):
            told = (row.get("repositoryUri") for row in rows if isinstance(row, dict))
            names = (uri.partition("/")[2] for uri in told if isinstance(uri, str))
            yield RepositoryPage(tuple(filter(None, names)), following)


class PublicImages:
    """DescribeImageTags and BatchDeleteImage: a row a tag."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 1000 a page; nothing for other accounts' repositories."""
        name = self._account.own(repository)
        if name is None:
            return
        for rows, _ in self._account.ecr.pages(
            "DescribeImageTags", "imageTagDetails", repositoryName=name, maxResults=ROWS_A_PAGE
        ):
            yield dict(filter(None, map(_tag, rows)))

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, Denied, Rejected with ECR's reason."""
        delete_tag(self._account.ecr, self._account.named(repository), tag, {})


class PublicMaker:
    """Repositories, which a push does not make."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository; other accounts' are taken to be there."""
        name = self._account.own(place)
        if name is None:
            return True
        try:
            self._account.ecr.ask("DescribeRepositories", repositoryNames=[name])
        except errors.RepositoryNotFound:
            return False
        return True

    def make(self, place: str) -> None:
        """Make it, for all to pull; raises Denied."""
        try:
            self._account.ecr.ask("CreateRepository", repositoryName=self._account.named(place))
        except errors.Rejected as error:
            if error.oci_code != "RepositoryAlreadyExistsException":
                raise


def _aliases(row: Any) -> set[str]:
    """Return the aliases of a registry that hold."""
    rows = row.get("aliases") if isinstance(row, dict) else None
    return {
        one["name"]
        for one in rows or ()
        if isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and one.get("status") == "ACTIVE"
    }


def _tag(row: Any) -> tuple[str, str] | None:
    detail = row.get("imageDetail") if isinstance(row, dict) else None
    tag, digest = (
        (row.get("imageTag"), detail.get("imageDigest")) if isinstance(detail, dict) else ("", "")
    )
    return (tag, digest) if isinstance(tag, str) and isinstance(digest, str) and tag else None
