"""Alibaba Cloud Container Registry, personal edition: API cr of 2016-06-07, in the ROA style, signed by ACS3-HMAC-SHA256.

Sources: the API's paths and parameters as alibabacloud-cr20160607 has them; its answers as Harbor reads them
(src/pkg/reg/adapter/aliacr/types.go); "V3 request structure and signature".
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.access_key import AccessKey
from service.registry.providers.aliyun import error_of, sign
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import (
    ROWS_A_PAGE,
    ending,
    make_unless_there,
    numbered,
    page_number,
)
from service.registry.providers.strategies import NONE, Strategies
from service.registry.redaction import clean
from service.registry.results import RepositoryPage

VERSION = "2016-06-07"
_HOST = re.compile(r"registry(-vpc|-internal)?\.[a-z0-9-]+\.aliyuncs\.com")


def open_personal(plane: ControlPlane, key: Callable[[], AccessKey]) -> Strategies:
    """Return the personal edition's strategies for an AccessKey; none at a host of another kind."""
    host, _ = plane.hosts
    if not _HOST.fullmatch(host):
        return NONE
    personal = Personal(plane, key)
    tags = PersonalTags(personal)
    return Strategies(
        login=PersonalLogin(personal),
        repositories=PersonalRepositories(personal),
        tags_with_digests=tags,
        maker=PersonalMaker(personal),
        tag_deleter=tags,
    )


class Personal:
    """Requests to the API of one region."""

    def __init__(self, plane: ControlPlane, key: Callable[[], AccessKey]) -> None:
        self._plane = plane
        self._key = key
        self.registry = plane.name

    def ask(
        self,
        action: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> dict[str, Any]:
        """Call an action; returns its answer's `data`. Raises RegistryError as its code says."""
        text = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted((query or {}).items())
        )

        def headers(content: bytes) -> dict[str, str]:
            key = self._key()
            return sign(
                key.identity,
                key.secret,
                token=key.token,
                host=self._plane.origin.authority,
                action=action,
                query=text,
                moment=datetime.now(UTC),
                nonce=os.urandom(16).hex(),
                method=method,
                path=path,
                body=content,
                version=VERSION,
            )

        target = f"{path}?{text}" if text else path
        value = self._plane.call(method, target, signed=headers, body=body, judge=self._judge).value
        data = value.get("data") if isinstance(value, dict) else None
        return data if isinstance(data, dict) else {}

    def rows(
        self, action: str, path: str, member: str, page: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Yield pages of a list, each with the number of the next one."""

        def fetch(number: int) -> tuple[Any, Any]:
            numbers = {"Page": str(number), "PageSize": str(ROWS_A_PAGE)}
            data = self.ask(action, "GET", path, numbers)
            return data.get(member), data.get("total")

        return numbered(fetch, self.registry, page)

    def _judge(self, reply: Reply) -> errors.RegistryError | None:
        if reply.status < 300:
            return None
        told = reply.value if isinstance(reply.value, dict) else {}
        code = str(told.get("code") or told.get("Code") or reply.status)[:80]
        words = clean(str(told.get("message") or told.get("Message") or ""), 240)
        return error_of(code)(
            f"{self.registry}: {clean(code, 80)}: {words}",
            registry=self.registry,
            status=reply.status,
            oci_code=code,
        )


class PersonalLogin:
    """Temporary passwords, by GetAuthorizationToken."""

    def __init__(self, personal: Personal) -> None:
        self._personal = personal

    def login(self) -> Credential:
        """Return a user and password, with the monotonic second of the next login."""
        before = time.monotonic()
        data = self._personal.ask("GetAuthorizationToken", "GET", "/tokens")
        try:
            user, token = str(data["tempUserName"]), str(data["authorizationToken"])
            until = float(data["expireDate"]) / 1000
        except (LookupError, TypeError, ValueError):
            raise errors.ProtocolError(
                f"{self._personal.registry}: no token in its answer"
            ) from None
        return ending(user, token, asked_at=before, until=until)


class PersonalRepositories:
    """GetRepoList."""

    def __init__(self, personal: Personal) -> None:
        self._personal = personal

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the account in the region; a cursor is a page's number."""
        pages = self._personal.rows("GetRepoList", "/repos", "repos", page_number(cursor))
        for rows, following in pages:
            names = tuple(f"{row.get('repoNamespace')}/{row.get('repoName')}" for row in rows)
            yield RepositoryPage(names, None if following is None else str(following))


class PersonalTags:
    """GetRepoTags and DeleteImage: a row a tag."""

    def __init__(self, personal: Personal) -> None:
        self._personal = personal

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 a page; the API may leave the algorithm out."""
        for rows, _ in self._personal.rows("GetRepoTags", f"{_path(repository)}/tags", "tags"):
            yield {
                row["tag"]: digest if ":" in digest else f"sha256:{digest}"
                for row in rows
                if isinstance(row.get("tag"), str) and (digest := str(row.get("digest") or ""))
            }

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound."""
        path = f"{_path(repository)}/tags/{quote(tag, safe='-_.~')}"
        try:
            self._personal.ask("DeleteImage", "DELETE", path)
        except errors.RepositoryNotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, oci_code=error.oci_code
            ) from error


class PersonalMaker:
    """Namespace and repository."""

    def __init__(self, personal: Personal) -> None:
        self._personal = personal

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        return self._is_there("GetRepo", _path(place))

    def make(self, place: str) -> None:
        """Make the namespace, unless it is there, and a private repository in it.

        Raises Rejected where the name of the namespace is another account's, or there are as many as there may be.
        """
        namespace, _, name = place.partition("/")
        where = f"/namespace/{quote(namespace, safe='-_.~')}"
        if not self._is_there("GetNamespace", where):
            body = {"Namespace": {"Namespace": namespace}}
            make_unless_there(
                lambda: self._personal.ask("CreateNamespace", "PUT", "/namespace", body=body),
                lambda: self._is_there("GetNamespace", where),
            )
        repo = {
            "RepoNamespace": namespace,
            "RepoName": name,
            "RepoType": "PRIVATE",
            "Summary": "by Transship",
        }
        make_unless_there(
            lambda: self._personal.ask("CreateRepo", "PUT", "/repos", body={"Repo": repo}),
            lambda: self.exists(place),
        )

    def _is_there(self, action: str, path: str) -> bool:
        try:
            self._personal.ask(action, "GET", path)
        except errors.RepositoryNotFound:
            return False
        return True


def _path(repository: str) -> str:
    namespace, _, name = repository.partition("/")
    return f"/repos/{quote(namespace, safe='-_.~')}/{quote(name, safe='-_.~')}"
