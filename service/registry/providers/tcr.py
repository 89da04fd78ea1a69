"""Tencent TCR, enterprise: API 3.0 of 2019-09-24, signed by TC3.

The registry's credential is a SecretId (AKID..., IKID...) with its SecretKey; every other user name, as of
long-lived tokens and service accounts, is presented as it is, and can do nothing beside pushing and pulling.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import (
    ROWS_A_PAGE,
    ending,
    make_unless_there,
    numbered,
    page_number,
    pushed_at,
)
from service.registry.providers.strategies import NONE, Receiver, Strategies
from service.registry.providers.tc3 import sign
from service.registry.redaction import clean
from service.registry.results import RepositoryPage

VERSION = "2019-09-24"
ANY_REGION = "ap-guangzhou"
"""Sent with what is asked of all regions, since one has to be named."""

_SECRET_ID = re.compile(r"[AI]KID[A-Za-z0-9]{8,}")
_BY_CODE: tuple[tuple[str, type[errors.RegistryError]], ...] = (
    ("AuthFailure.UnauthorizedOperation", errors.Denied),
    ("AuthFailure", errors.AuthenticationFailed),
    ("UnauthorizedOperation", errors.Denied),
    ("RequestLimitExceeded", errors.Throttled),
    ("ResourceNotFound", errors.RepositoryNotFound),
    ("InternalError", errors.ServerError),
)


def open_tcr(plane: ControlPlane) -> Strategies:
    """Return TCR's strategies; none where the credential is not a SecretId's."""
    if not _SECRET_ID.fullmatch(plane.credential().username):
        return NONE
    tcr = Tcr(plane)
    images = TcrImages(tcr)
    return Strategies(
        login=TcrLogin(tcr),
        repositories=TcrRepositories(tcr),
        tags_with_digests=images,
        pushed=TcrPushed(tcr),
        maker=TcrMaker(tcr),
        tag_deleter=images,
        webhooks=TcrTriggers(tcr),
    )


class Api:
    """Calls of Tencent Cloud's API of 2019-09-24, signed with a SecretId and its SecretKey."""

    def __init__(self, plane: ControlPlane, key: Callable[[], tuple[str, str]]) -> None:
        self._plane = plane
        self._key = key
        self.registry = plane.name

    def call(self, action: str, region: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the Response of an action; raises RegistryError as its Error says."""

        def headers(content: bytes) -> dict[str, str]:
            (identity, secret), now = self._key(), int(time.time())
            return {
                "Content-Type": "application/json",
                "X-TC-Action": action,
                "X-TC-Version": VERSION,
                "X-TC-Region": region,
                "X-TC-Timestamp": str(now),
                "Authorization": sign(
                    identity,
                    secret,
                    service="tcr",
                    host=self._plane.origin.authority,
                    body=content,
                    timestamp=now,
                ),
            }

        value = self._plane.call("POST", "/", signed=headers, body=body, judge=self._judge).value
        return dict(value["Response"])

    def _judge(self, reply: Reply) -> errors.RegistryError | None:
        said = reply.value.get("Response") if isinstance(reply.value, dict) else None
        if not isinstance(said, dict):
            return errors.ProtocolError(f"{self.registry}: its API answers no Response")
        error = said.get("Error")
        if not isinstance(error, dict):
            return None
        code, words = str(error.get("Code"))[:80], clean(str(error.get("Message")), 240)
        found = (kind for prefix, kind in _BY_CODE if code.startswith(prefix))
        error_class = next(found, errors.Rejected)
        return error_class(
            f"{self.registry}: {clean(code, 80)}: {words}", registry=self.registry, oci_code=code
        )


class Tcr:
    """Requests to Tencent Cloud's API about one instance."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._api = Api(plane, self._key)
        self.registry = plane.name
        self._lock = threading.Lock()
        self._instance: tuple[str, str] | None = None

    def ask(self, action: str, **members: Any) -> dict[str, Any]:
        """Call an action about the instance; raises RegistryError as its Error says."""
        identity, region = self._find()
        return self._api.call(action, region, {"RegistryId": identity, **members})

    def rows(
        self, action: str, member: str, members: Mapping[str, str], page: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Yield pages of a list, each with the number of the next one; `Offset` is a page's number."""

        def fetch(number: int) -> tuple[Any, Any]:
            answer = self.ask(action, Offset=number, Limit=ROWS_A_PAGE, **members)
            return answer.get(member), answer.get("TotalCount")

        return numbered(fetch, self.registry, page)

    def _find(self) -> tuple[str, str]:
        """Return the instance's identity and region, by the name that its host begins with."""
        with self._lock:
            if self._instance is None:
                name = self._plane.hosts[0].partition(".")[0]
                answer = self._api.call(
                    "DescribeInstances",
                    ANY_REGION,
                    {"AllRegion": True, "Filters": [{"Name": "RegistryName", "Values": [name]}]},
                )
                rows = answer.get("Registries") or []
                found = [row for row in rows if row.get("RegistryName") == name]
                if len(found) != 1:
                    raise errors.Denied(
                        f"{self.registry}: there is no instance {name} that the SecretId sees",
                        registry=self.registry,
                    )
                self._instance = str(found[0]["RegistryId"]), str(found[0]["RegionName"])
            return self._instance

    def _key(self) -> tuple[str, str]:
        credential = self._plane.credential()
        return credential.username, credential.password


class TcrLogin:
    """Temporary tokens, by CreateInstanceToken."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def login(self) -> Credential:
        """Return a user and password of an hour, with the monotonic second of the next login."""
        before = time.monotonic()
        answer = self._tcr.ask("CreateInstanceToken", TokenType="temp")
        try:
            user, token = str(answer["Username"]), str(answer["Token"])
            until = float(answer["ExpTime"]) / 1000
        except (LookupError, TypeError, ValueError):
            raise errors.ProtocolError(f"{self._tcr.registry}: no token in its answer") from None
        return ending(user, token, asked_at=before, until=until)


class TcrRepositories:
    """DescribeRepositories."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the instance; a cursor is a page's number."""
        page = page_number(cursor)
        for rows, following in self._tcr.rows("DescribeRepositories", "RepositoryList", {}, page):
            names = tuple(_full_name(row) for row in rows)
            yield RepositoryPage(names, None if following is None else str(following))


class TcrImages:
    """DescribeImages and DeleteImage: a row a tag."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 a page."""
        for rows, _ in self._tcr.rows("DescribeImages", "ImageInfoList", _named(repository)):
            yield {
                row["ImageVersion"]: row["Digest"]
                for row in rows
                if isinstance(row.get("ImageVersion"), str) and isinstance(row.get("Digest"), str)
            }

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound."""
        try:
            self._tcr.ask("DeleteImage", ImageVersion=tag, **_named(repository))
        except errors.RepositoryNotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, oci_code=error.oci_code
            ) from error


class TcrPushed:
    """DescribeImages: UpdateTime of each row."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def pages(self, repository: str) -> Iterator[Mapping[str, float]]:
        """Yield tag to seconds, 100 a page."""
        for rows, _ in self._tcr.rows("DescribeImages", "ImageInfoList", _named(repository)):
            yield {
                row["ImageVersion"]: pushed_at(row.get("UpdateTime"))
                for row in rows
                if isinstance(row.get("ImageVersion"), str)
            }


class TcrMaker:
    """Namespace and repository."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        pages = self._tcr.rows("DescribeRepositories", "RepositoryList", _named(place))
        return any(_full_name(row) == place for rows, _ in pages for row in rows)

    def make(self, place: str) -> None:
        """Make a private namespace, unless it is there, and the repository in it."""
        members = _named(place)
        namespace = members["NamespaceName"]
        if not self._has_namespace(namespace):
            make_unless_there(
                lambda: self._tcr.ask("CreateNamespace", NamespaceName=namespace, IsPublic=False),
                lambda: self._has_namespace(namespace),
            )
        make_unless_there(
            lambda: self._tcr.ask("CreateRepository", **members), lambda: self.exists(place)
        )

    def _has_namespace(self, name: str) -> bool:
        answer = self._tcr.ask("DescribeNamespaces", NamespaceName=name, All=True)
        return any(row.get("Name") == name for row in answer.get("NamespaceList") or ())


class TcrTriggers:
    """Webhook triggers, namespace by namespace."""

    def __init__(self, tcr: Tcr) -> None:
        self._tcr = tcr

    def place(self, repository: str) -> str:
        """Return the namespace's name."""
        return repository.partition("/")[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make or correct the trigger."""
        header = {"Key": "Authorization", "Values": [f"Bearer {receiver.secret}"]}
        wanted = {
            "Name": receiver.name,
            "Description": "made by Transship",
            "Enabled": True,
            "EventTypes": ["pushImage", "deleteImage"],
            "Targets": [{"Address": receiver.address, "Headers": [header]}],
            "Condition": ".*",  # of all repositories
        }
        found = self._find(place, receiver)
        if found is None:
            self._tcr.ask("CreateWebhookTrigger", Namespace=place, Trigger=wanted)
            return True
        if all(
            found.get(member) == wanted[member]
            for member in ("Condition", "Enabled", "EventTypes", "Targets")
        ):
            return False
        self._tcr.ask(
            "ModifyWebhookTrigger", Namespace=place, Trigger={**wanted, "Id": found.get("Id")}
        )
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the trigger."""
        found = self._find(place, receiver)
        if found is not None:
            self._tcr.ask("DeleteWebhookTrigger", Namespace=place, Id=found.get("Id"))
        return found is not None

    def _find(self, place: str, receiver: Receiver) -> dict[str, Any] | None:
        pages = self._tcr.rows("DescribeWebhookTrigger", "Triggers", {"Namespace": place})
        return next(
            (row for rows, _ in pages for row in rows if row.get("Name") == receiver.name), None
        )


def _named(repository: str) -> dict[str, str]:
    namespace, _, name = repository.partition("/")
    return {"NamespaceName": namespace, "RepositoryName": name}


def _full_name(row: Mapping[str, Any]) -> str:
    """Return a repository's whole name; its `Name` has the namespace in front, or has not."""
    name, namespace = str(row.get("Name")), str(row.get("Namespace"))
    return name if name.startswith(f"{namespace}/") else f"{namespace}/{name}"
