"""Alibaba Cloud Container Registry, Enterprise Edition: API cr of 2018-12-01, signed by ACS3-HMAC-SHA256.

The registry's credential is an AccessKey ID (LTAI...) with its secret, or the machine's own (`keyless: aliyun`); every
other user name, as of fixed passwords, is presented as it is, and can do nothing beside pushing and pulling. The personal edition is in aliyun_personal.py. Sources:
alibabacloud.com/help, ACR API reference 2018-12-01 as alibabacloud-cr20181201 has it, and "V3 request
structure and signature".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.access_key import AccessKey
from service.registry.providers.aliyun_identity import machine_keys
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import (
    ROWS_A_PAGE,
    ending,
    make_unless_there,
    numbered,
    page_number,
)
from service.registry.providers.strategies import NONE, Receiver, Strategies
from service.registry.redaction import clean
from service.registry.results import RepositoryPage

VERSION = "2018-12-01"
ALGORITHM = "ACS3-HMAC-SHA256"
_ACCESS_KEY = re.compile(r"LTAI[A-Za-z0-9]{8,}")
_HOST = re.compile(r"(?P<instance>.+)-registry(-vpc)?\.(?P<region>[a-z0-9-]+)\.cr\.aliyuncs\.com")
_BY_CODE: tuple[tuple[str, type[errors.RegistryError]], ...] = (
    ("Forbidden", errors.Denied),
    ("NoPermission", errors.Denied),
    ("InvalidAccessKeyId", errors.AuthenticationFailed),
    ("IncompleteSignature", errors.AuthenticationFailed),
    ("SignatureDoesNotMatch", errors.AuthenticationFailed),
    ("Throttling", errors.Throttled),
    ("ServiceUnavailable", errors.ServerError),
    ("InternalError", errors.ServerError),
)


def open_aliyun(plane: ControlPlane) -> Strategies:
    """Return the edition's strategies; none where no AccessKey is configured, or the host tells of no edition."""
    host, _ = plane.hosts
    key = _access_key(plane)
    if key is None:
        return NONE
    if not _HOST.fullmatch(host):
        from service.registry.providers.aliyun_personal import open_personal

        return open_personal(plane, key)
    acr = AliyunAcr(plane, key)
    tags = AliyunTags(acr)
    return Strategies(
        login=AliyunLogin(acr),
        repositories=AliyunRepositories(acr),
        tags_with_digests=tags,
        maker=AliyunMaker(acr),
        tag_deleter=tags,
        webhooks=AliyunTriggers(acr),
    )


def _access_key(plane: ControlPlane) -> Callable[[], AccessKey] | None:
    """Return what tells the key that holds now; None where the credential is no AccessKey."""
    if plane.keyless == "aliyun":
        return machine_keys(plane.name)
    if not _ACCESS_KEY.fullmatch(plane.credential().username):
        return None

    def configured() -> AccessKey:
        credential = plane.credential()
        return AccessKey(credential.username, credential.password)

    return configured


def sign(
    key: str,
    secret: str,
    *,
    host: str,
    action: str,
    query: str,
    moment: datetime,
    nonce: str,
    method: str = "POST",
    path: str = "/",
    body: bytes = b"",
    version: str = VERSION,
    token: str = "",
) -> dict[str, str]:
    """Return the headers of a request ("V3 request structure"); `moment` is now, in UTC, a body is JSON.

    `token` is that of the key's session.     `path` and `query` are encoded, the query sorted by names.
    """
    digest = hashlib.sha256(body).hexdigest()
    signed = {
        **({"content-type": "application/json"} if body else {}),
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": digest,
        "x-acs-date": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({"x-acs-security-token": token} if token else {}),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    text = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    del signed["host"]  # which is sent anyway, as is the next one
    signed.pop("content-type", None)
    return {
        **signed,
        "Authorization": f"{ALGORITHM} Credential={key},SignedHeaders={names},Signature={signature}",
    }


def error_of(code: str) -> type[errors.RegistryError]:
    """Return what a code of either edition's API means."""
    found = (kind for prefix, kind in _BY_CODE if code.startswith(prefix))
    usual = errors.RepositoryNotFound if code.endswith("NOT_EXIST") else errors.Rejected
    return next(found, usual)


class AliyunAcr:
    """Requests to Alibaba Cloud's API about one instance, whose name and region are in the registry's host."""

    def __init__(self, plane: ControlPlane, key: Callable[[], AccessKey]) -> None:
        self._plane = plane
        self._key = key
        self.registry = plane.name
        self._lock = threading.Lock()
        self._instance: str | None = None

    def ask(self, action: str, **parameters: str) -> dict[str, Any]:
        """Call an action about the instance; raises RegistryError as its answer says."""
        return self._call(action, {"InstanceId": self._find(), **parameters})

    def rows(
        self, action: str, member: str, parameters: Mapping[str, str], page: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Yield pages of a list, each with the number of the next one; totals are texts."""

        def fetch(number: int) -> tuple[Any, Any]:
            numbers = {"PageNo": str(number), "PageSize": str(ROWS_A_PAGE)}
            answer = self.ask(action, **parameters, **numbers)
            return answer.get(member), answer.get("TotalCount")

        return numbered(fetch, self.registry, page)

    def repository(self, name: str) -> str | None:
        """Return a repository's identity, None where there is no such repository."""
        wanted = {"RepoStatus": "ALL", **_named(name)}
        for rows, _ in self.rows("ListRepository", "Repositories", wanted):
            for row in rows:
                if _full_name(row) == name:
                    return str(row.get("RepoId"))
        return None

    def _find(self) -> str:
        with self._lock:
            if self._instance is None:
                found = _HOST.fullmatch(self._plane.hosts[0])
                name = found["instance"] if found is not None else ""
                rows = self._call("ListInstance", {"InstanceName": name}).get("Instances") or []
                wanted = [row for row in rows if row.get("InstanceName") == name]
                if len(wanted) != 1:
                    raise errors.Denied(
                        f"{self.registry}: there is no instance {name} that the AccessKey sees",
                        registry=self.registry,
                    )
                self._instance = str(wanted[0]["InstanceId"])
            return self._instance

    def _call(self, action: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}"
            for name in sorted(parameters)
        )

        def headers(_content: bytes) -> dict[str, str]:
            key = self._key()
            return sign(
                key.identity,
                key.secret,
                token=key.token,
                host=self._plane.origin.authority,
                action=action,
                query=query,
                moment=datetime.now(UTC),
                nonce=os.urandom(16).hex(),
            )

        reply = self._plane.call("POST", f"/?{query}", signed=headers, judge=self._judge)
        return dict(reply.value)

    def _judge(self, reply: Reply) -> errors.RegistryError | None:
        told = reply.value
        if not isinstance(told, dict):
            return errors.ProtocolError(f"{self.registry}: its API answers no JSON")
        if reply.status < 300 and told.get("IsSuccess", True) is not False:
            return None
        code, words = str(told.get("Code"))[:80], clean(str(told.get("Message") or ""), 240)
        return error_of(code)(
            f"{self.registry}: {clean(code, 80)}: {words}", registry=self.registry, oci_code=code
        )


class AliyunLogin:
    """Temporary tokens of an hour, by GetAuthorizationToken."""

    def __init__(self, acr: AliyunAcr) -> None:
        self._acr = acr

    def login(self) -> Credential:
        """Return a user and password, with the monotonic second of the next login."""
        before = time.monotonic()
        answer = self._acr.ask("GetAuthorizationToken")
        try:
            user, token = str(answer["TempUsername"]), str(answer["AuthorizationToken"])
            until = float(answer["ExpireTime"]) / 1000
        except (LookupError, TypeError, ValueError):
            raise errors.ProtocolError(f"{self._acr.registry}: no token in its answer") from None
        return ending(user, token, asked_at=before, until=until)


class AliyunRepositories:
    """ListRepository."""

    def __init__(self, acr: AliyunAcr) -> None:
        self._acr = acr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the instance; a cursor is a page's number."""
        page, wanted = page_number(cursor), {"RepoStatus": "ALL"}
        for rows, following in self._acr.rows("ListRepository", "Repositories", wanted, page):
            yield RepositoryPage(
                tuple(map(_full_name, rows)), None if following is None else str(following)
            )


class AliyunTags:
    """ListRepoTag and DeleteRepoTag: a row a tag, of a repository known by its identity."""

    def __init__(self, acr: AliyunAcr) -> None:
        self._acr = acr
        self._identities: dict[str, str] = {}

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 a page; the API leaves the algorithm out."""
        wanted = {"RepoId": self._identity(repository)}
        for rows, _ in self._acr.rows("ListRepoTag", "Images", wanted):
            yield {
                row["Tag"]: digest if ":" in digest else f"sha256:{digest}"
                for row in rows
                if isinstance(row.get("Tag"), str) and (digest := str(row.get("Digest") or ""))
            }

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound."""
        try:
            self._acr.ask("DeleteRepoTag", RepoId=self._identity(repository), Tag=tag)
        except errors.RepositoryNotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, oci_code=error.oci_code
            ) from error

    def _identity(self, repository: str) -> str:
        if repository not in self._identities:
            found = self._acr.repository(repository)
            if found is None:
                raise errors.RepositoryNotFound(
                    f"{self._acr.registry}: there is no repository {repository}",
                    registry=self._acr.registry,
                )
            self._identities[repository] = found
        return self._identities[repository]


class AliyunTriggers:
    """Triggers, repository by repository; they cannot be changed here, so a wrong one is made anew."""

    def __init__(self, acr: AliyunAcr) -> None:
        self._acr = acr

    def place(self, repository: str) -> str:
        """Return the repository."""
        return repository

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the trigger of all tags; raises RepositoryNotFound."""
        identity = self._identity(place)
        found = self._of(identity, receiver)
        right = [one for one in found if one.get("TriggerUrl") == receiver.with_secret]
        for one in found:
            if one not in right[:1]:
                self._delete(identity, one)
        if right:
            return len(found) > 1
        self._acr.ask(
            "CreateRepoTrigger",
            RepoId=identity,
            TriggerName=receiver.name,
            TriggerType="ALL",
            TriggerUrl=receiver.with_secret,
        )
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the trigger."""
        identity = self._identity(place)
        found = self._of(identity, receiver)
        for one in found:
            self._delete(identity, one)
        return bool(found)

    def _identity(self, place: str) -> str:
        identity = self._acr.repository(place)
        if identity is None:
            raise errors.RepositoryNotFound(
                f"{self._acr.registry}: there is no repository {place}", registry=self._acr.registry
            )
        return identity

    def _of(self, identity: str, receiver: Receiver) -> list[dict[str, Any]]:
        rows = self._acr.ask("ListRepoTrigger", RepoId=identity).get("Triggers") or []
        return [row for row in rows if row.get("TriggerName") == receiver.name]

    def _delete(self, identity: str, row: Mapping[str, Any]) -> None:
        self._acr.ask("DeleteRepoTrigger", RepoId=identity, TriggerId=str(row.get("TriggerId")))


class AliyunMaker:
    """Namespace and repository."""

    def __init__(self, acr: AliyunAcr) -> None:
        self._acr = acr

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        return self._acr.repository(place) is not None

    def make(self, place: str) -> None:
        """Make the namespace, unless it is there, and a private repository in it."""
        named = _named(place)
        namespace = named["RepoNamespaceName"]
        if not self._has_namespace(namespace):
            kind = {"AutoCreateRepo": "true", "DefaultRepoType": "PRIVATE"}
            make_unless_there(
                lambda: self._acr.ask("CreateNamespace", NamespaceName=namespace, **kind),
                lambda: self._has_namespace(namespace),
            )
        about = {"RepoType": "PRIVATE", "Summary": "by Transship", **named}
        make_unless_there(
            lambda: self._acr.ask("CreateRepository", **about), lambda: self.exists(place)
        )

    def _has_namespace(self, name: str) -> bool:
        wanted = {"NamespaceName": name}
        pages = self._acr.rows("ListNamespace", "Namespaces", wanted)
        return any(row.get("NamespaceName") == name for rows, _ in pages for row in rows)


def _named(repository: str) -> dict[str, str]:
    namespace, _, name = repository.partition("/")
    return {"RepoNamespaceName": namespace, "RepoName": name}


def _full_name(row: Mapping[str, Any]) -> str:
    return f"{row.get('RepoNamespaceName')}/{row.get('RepoName')}"
