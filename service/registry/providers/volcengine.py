"""Volcengine CR: API cr of 2022-05-12, signed by HMAC-SHA256.

The registry's credential is an access key (AKLT...) with its secret key, or the machine's own (`keyless: volcengine`);
every other user name, as of fixed passwords, is presented as it is, and can do nothing beside pushing and pulling. Sources: volcengine.com/docs/6420
(API reference) and docs/6369 (signature), as Harbor speaks it (src/pkg/reg/adapter/volcenginecr).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.access_key import AccessKey
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import (
    ROWS_A_PAGE,
    ending,
    make_unless_there,
    numbered,
    page_number,
)
from service.registry.providers.strategies import NONE, Strategies
from service.registry.providers.volcengine_identity import machine_keys
from service.registry.redaction import clean
from service.registry.results import RepositoryPage

VERSION = "2022-05-12"
ALGORITHM = "HMAC-SHA256"
_ACCESS_KEY = re.compile(r"AKLT[A-Za-z0-9]{8,}")
_HOST = re.compile(r"(?P<registry>.+)-(?P<region>[a-z]{2}-[a-z]+(-\d+)?)\.cr\.i?volces\.com")
_BY_CODE: tuple[tuple[str, type[errors.RegistryError]], ...] = (
    ("AccessDenied", errors.Denied),
    ("Forbidden", errors.Denied),
    ("InvalidAccessKey", errors.AuthenticationFailed),
    ("InvalidCredential", errors.AuthenticationFailed),
    ("SignatureDoesNotMatch", errors.AuthenticationFailed),
    ("FlowLimitExceeded", errors.Throttled),
    ("AccountFlowLimitExceeded", errors.Throttled),
    ("NotFound", errors.RepositoryNotFound),
    ("InternalError", errors.ServerError),
)


def open_volcengine(plane: ControlPlane) -> Strategies:
    """Return Volcengine's strategies; none where the credential is not an access key's."""
    key = _access_key(plane)
    if key is None:
        return NONE
    cr = VolcengineCr(plane, key)
    tags = VolcengineTags(cr)
    return Strategies(
        login=VolcengineLogin(cr),
        repositories=VolcengineRepositories(cr),
        tags_with_digests=tags,
        maker=VolcengineMaker(cr),
        tag_deleter=tags,
    )


def _access_key(plane: ControlPlane) -> Callable[[], AccessKey] | None:
    """Return what tells the key that holds now; None where the credential is no access key."""
    if plane.keyless == "volcengine":
        return machine_keys(plane.name)
    if not _ACCESS_KEY.fullmatch(plane.credential().username):
        return None

    def configured() -> AccessKey:
        credential = plane.credential()
        return AccessKey(credential.username, credential.password)

    return configured


def sign(
    access_key: str,
    secret_key: str,
    *,
    region: str,
    host: str,
    query: str,
    body: bytes,
    moment: datetime,
    token: str = "",
) -> dict[str, str]:
    """Return the headers of a POST of JSON to a path of / (docs/6369); `moment` is now, in UTC.

    `token` is that of the key's session.
    """
    stamp, digest = moment.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
    session = {"X-Security-Token": token} if token else {}
    signed = {
        "content-type": "application/json",
        "host": host,
        "x-content-sha256": digest,
        "x-date": stamp,
        **{name.lower(): value for name, value in session.items()},
    }
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = f"POST\n/\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{region}/cr/request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = secret_key.encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return {
        "Content-Type": "application/json",
        "X-Content-Sha256": digest,
        "X-Date": stamp,
        **session,
        "Authorization": f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}",
    }


class VolcengineCr:
    """Requests to Volcengine's API about one registry, whose host tells its name and region."""

    def __init__(self, plane: ControlPlane, key: Callable[[], AccessKey]) -> None:
        self._plane = plane
        self._key = key
        self.registry = plane.name

    def ask(self, action: str, **members: Any) -> dict[str, Any]:
        """Call an action about the registry; raises RegistryError as its Error says."""
        host, _ = self._plane.hosts
        found = _HOST.fullmatch(host)
        if found is None:
            raise errors.Unsupported(
                f"{self.registry}: {host} does not tell which registry and region of Volcengine it is",
                registry=self.registry,
                hint="use the registry's own host, and connect_to for another way to it",
            )
        query = f"Action={action}&Version={VERSION}"

        def headers(content: bytes) -> dict[str, str]:
            key = self._key()
            return sign(
                key.identity,
                key.secret,
                token=key.token,
                region=found["region"],
                host=self._plane.origin.authority,
                query=query,
                body=content,
                moment=datetime.now(UTC),
            )

        body = {"Registry": found["registry"], **members}
        reply = self._plane.call("POST", f"/?{query}", signed=headers, body=body, judge=self._judge)
        result = reply.value.get("Result")
        return result if isinstance(result, dict) else {}

    def rows(
        self, action: str, members: Mapping[str, Any], page: int = 1
    ) -> Iterator[tuple[list[dict[str, Any]], int | None]]:
        """Yield pages of a list, each with the number of the next one."""

        def fetch(number: int) -> tuple[Any, Any]:
            answer = self.ask(action, PageNumber=number, PageSize=ROWS_A_PAGE, **members)
            return answer.get("Items"), answer.get("TotalCount")

        return numbered(fetch, self.registry, page)

    def _judge(self, reply: Reply) -> errors.RegistryError | None:
        told = reply.value.get("ResponseMetadata") if isinstance(reply.value, dict) else None
        if not isinstance(told, dict):
            return errors.ProtocolError(f"{self.registry}: its API answers no ResponseMetadata")
        error = told.get("Error")
        if not isinstance(error, dict):
            return None
        code, words = str(error.get("Code"))[:80], clean(str(error.get("Message")), 240)
        found = (kind for prefix, kind in _BY_CODE if code.startswith(prefix))
        error_class = next(found, errors.Rejected)
        return error_class(
            f"{self.registry}: {clean(code, 80)}: {words}", registry=self.registry, oci_code=code
        )


class VolcengineLogin:
    """Temporary tokens, by GetAuthorizationToken."""

    def __init__(self, cr: VolcengineCr) -> None:
        self._cr = cr

    def login(self) -> Credential:
        """Return a user and password, with the monotonic second of the next login."""
        before = time.monotonic()
        answer = self._cr.ask("GetAuthorizationToken")
        try:
            user, token = str(answer["Username"]), str(answer["Token"])
            until = datetime.fromisoformat(str(answer["ExpireTime"])).timestamp()
        except (LookupError, TypeError, ValueError):
            raise errors.ProtocolError(f"{self._cr.registry}: no token in its answer") from None
        return ending(user, token, asked_at=before, until=until)


class VolcengineRepositories:
    """ListRepositories."""

    def __init__(self, cr: VolcengineCr) -> None:
        self._cr = cr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the registry; a cursor is a page's number."""
        for rows, following in self._cr.rows("ListRepositories", {}, page_number(cursor)):
            names = tuple(f"{row.get('Namespace')}/{row.get('Name')}" for row in rows)
            yield RepositoryPage(names, None if following is None else str(following))


class VolcengineTags:
    """ListTags and DeleteTags: a row a tag."""

    def __init__(self, cr: VolcengineCr) -> None:
        self._cr = cr

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 a page."""
        for rows, _ in self._cr.rows("ListTags", _named(repository)):
            yield {
                row["Name"]: row["Digest"]
                for row in rows
                if isinstance(row.get("Name"), str) and isinstance(row.get("Digest"), str)
            }

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound."""
        try:
            self._cr.ask("DeleteTags", Names=[tag], **_named(repository))
        except errors.RepositoryNotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, oci_code=error.oci_code
            ) from error


class VolcengineMaker:
    """Namespace and repository."""

    def __init__(self, cr: VolcengineCr) -> None:
        self._cr = cr

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        named = _named(place)
        wanted = {"Namespaces": [named["Namespace"]], "Names": [named["Repository"]]}
        pages = self._cr.rows("ListRepositories", {"Filter": wanted})
        return any(
            f"{row.get('Namespace')}/{row.get('Name')}" == place
            for rows, _ in pages
            for row in rows
        )

    def make(self, place: str) -> None:
        """Make the namespace, unless it is there, and a private repository in it."""
        named = _named(place)
        namespace, name = named["Namespace"], named["Repository"]
        if not self._has_namespace(namespace):
            make_unless_there(
                lambda: self._cr.ask("CreateNamespace", Name=namespace),
                lambda: self._has_namespace(namespace),
            )
        make_unless_there(
            lambda: self._cr.ask(
                "CreateRepository", Namespace=namespace, Name=name, AccessLevel="Private"
            ),
            lambda: self.exists(place),
        )

    def _has_namespace(self, name: str) -> bool:
        pages = self._cr.rows("ListNamespaces", {"Filter": {"Names": [name]}})
        return any(row.get("Name") == name for rows, _ in pages for row in rows)


def _named(repository: str) -> dict[str, str]:
    namespace, _, name = repository.partition("/")
    return {"Namespace": namespace, "Repository": name}
