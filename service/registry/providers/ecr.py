"""AWS ECR, private: AWS JSON 1.1 requests, signed (API version 2015-09-21).

The registry's credential is an access key (username) with its secret, or the machine's own (`keyless: aws`); the user AWS, whose password
somebody else has fetched, is presented as it is, and can do nothing beside pushing and pulling.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from service import errors
from service.model.endpoint import Credential
from service.registry.providers.access_key import AccessKey
from service.registry.providers.aws_identity import Role, machine_keys
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.eventbridge import EcrRules, events_url
from service.registry.providers.sigv4 import sign
from service.registry.providers.strategies import NONE, Strategies
from service.registry.redaction import clean
from service.registry.results import RepositoryPage


class Dialect(NamedTuple):
    """What requests to an API of AWS's are marked and signed with."""

    target: str
    service: str


PRIVATE = Dialect("AmazonEC2ContainerRegistry_V20150921", "ecr")
EVENTS = Dialect("AWSEvents", "events")
ROWS_A_PAGE = 1000  # maxResults of DescribeRepositories and ListImages
READY_MADE = "AWS"
DEFAULT_REGION = "us-east-1"
LIFE_SECONDS = 60.0
"""For how long a token is believed whose end lies in the past: by another clock, or by none."""
MARGIN = 0.2
MOST_MARGIN_SECONDS = 1800.0

_HOSTS = (
    re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."),
    re.compile(r"()api\.ecr\.([a-z0-9-]+)\."),
)
_BY_TYPE: Mapping[str, type[errors.RegistryError]] = {
    "RepositoryNotFoundException": errors.RepositoryNotFound,
    "ImageNotFoundException": errors.ManifestNotFound,
    "AccessDeniedException": errors.Denied,
    "UnrecognizedClientException": errors.AuthenticationFailed,
    "InvalidSignatureException": errors.AuthenticationFailed,
    "InvalidClientTokenId": errors.AuthenticationFailed,
    "ExpiredTokenException": errors.AuthenticationFailed,
    "MissingAuthenticationTokenException": errors.AuthenticationFailed,
    "ThrottlingException": errors.Throttled,
    "TooManyRequestsException": errors.Throttled,
    "ServerException": errors.ServerError,
    "InternalException": errors.ServerError,
    "ConcurrentModificationException": errors.ServerError,
    "ResourceNotFoundException": errors.NotFound,
}


def open_ecr(plane: ControlPlane) -> Strategies:
    """Return ECR's strategies; none where the credential is neither an access key nor the machine's."""
    key = access_key(plane)
    if key is None:
        return NONE
    ecr, host = Ecr(plane, key), plane.hosts[0]
    return Strategies(
        login=EcrLogin(ecr),
        repositories=EcrRepositories(ecr),
        tags_with_digests=EcrImages(ecr),
        maker=EcrMaker(ecr),
        tag_deleter=EcrTags(ecr),
        webhooks=EcrRules(Ecr(plane.at(events_url(host)), key, EVENTS), host),
    )


def access_key(plane: ControlPlane) -> Callable[[], AccessKey] | None:
    """Return what tells the key that holds now; None where the credential is no access key."""
    spec = plane.credentials
    if spec.keyless == "aws":
        role = None if spec.role is None else Role(spec.role, spec.external_id)
        return machine_keys(plane.name, role, region_of(plane.hosts))
    credential = plane.credential()
    if credential.anonymous or credential.username == READY_MADE:
        return None
    return lambda: _configured_key(plane)


def region_of(hosts: Iterable[str]) -> str:
    """Return the region that hosts of ECR name."""
    return next((match[2] for match in _matches(hosts)), DEFAULT_REGION)


def _matches(hosts: Iterable[str]) -> list[re.Match[str]]:
    return [match for host in hosts for rule in _HOSTS if (match := rule.match(host))]


def _configured_key(plane: ControlPlane) -> AccessKey:
    credential = plane.credential()
    return AccessKey(credential.username, credential.password)


class Ecr:
    """Requests to ECR's API in one account and region."""

    def __init__(
        self, plane: ControlPlane, key: Callable[[], AccessKey], dialect: Dialect = PRIVATE
    ) -> None:
        self._plane = plane
        self._key = key
        self._dialect = dialect
        self.registry = plane.name
        found = _matches(plane.hosts)
        self.account = next((match[1] for match in found if match[1]), "")
        self._region = region_of(plane.hosts)

    def ask(self, action: str, **members: Any) -> dict[str, Any]:
        """Call an action; raises RegistryError as `__type` says."""
        value = self._call(action, members).value
        if not isinstance(value, dict):
            raise errors.ProtocolError(f"{self.registry}: {action} answers no JSON object")
        return value

    def tell(self, action: str, **members: Any) -> None:
        """Call an action that may answer nothing; raises RegistryError as `__type` says."""
        self._call(action, members)

    def in_account(self) -> dict[str, str]:
        """Return the member that names the registry's account, where its host does."""
        return {"registryId": self.account} if self.account else {}

    def pages(
        self, action: str, member: str, **members: Any
    ) -> Iterator[tuple[list[Any], str | None]]:
        """Yield pages of a list, each with the token of the next one."""
        token = members.pop("nextToken", None)
        while True:
            following = {"nextToken": token} if token else {}
            answer = self.ask(action, **members, **self.in_account(), **following)
            rows, after = answer.get(member), answer.get("nextToken")
            if not isinstance(rows, list):
                raise errors.ProtocolError(f"{self.registry}: {action} answers no {member}")
            if after is not None and (not isinstance(after, str) or after == token):
                raise errors.ProtocolError(f"{self.registry}: {action} goes in a circle")
            yield rows, after
            if not after:
                return
            token = after

    def _call(self, action: str, members: dict[str, Any]) -> Reply:
        return self._plane.call(
            "POST",
            "/",
            signed=lambda body: self._headers(action, body),
            body=members,
            judge=self._judge,
        )

    def _headers(self, action: str, body: bytes) -> dict[str, str]:
        key = self._key()
        session = {"X-Amz-Security-Token": key.token} if key.token else {}
        return sign(
            key.identity,
            key.secret,
            region=self._region,
            service=self._dialect.service,
            host=self._plane.origin.authority,
            headers={
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"{self._dialect.target}.{action}",
                **session,
            },
            body=body,
            moment=datetime.now(UTC),
        )

    def _judge(self, reply: Reply) -> errors.RegistryError | None:
        if reply.status == 200:
            return None
        said = reply.value if isinstance(reply.value, dict) else {}
        kind = str(said.get("__type", "")).rpartition("#")[2][:80]
        words = clean(str(said.get("message") or said.get("Message") or ""), 240)
        error_class = _BY_TYPE.get(kind, errors.Rejected)
        return error_class(
            f"{self.registry}: {clean(kind, 80)}: {words}",
            registry=self.registry,
            status=reply.status,
            oci_code=kind,
        )


class EcrLogin:
    """Passwords of 12 hours for the user AWS, by GetAuthorizationToken."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    def login(self) -> Credential:
        """Return a new password, with the monotonic second from which it is to be renewed."""
        before = time.monotonic()
        told = self._ecr.ask("GetAuthorizationToken").get("authorizationData")
        try:
            row = told if isinstance(told, dict) else told[0]  # type: ignore[index]
            user, _, password = base64.b64decode(row["authorizationToken"]).decode().partition(":")
            life = float(row["expiresAt"]) - time.time()
        except (LookupError, TypeError, ValueError, binascii.Error):
            raise errors.ProtocolError(f"{self._ecr.registry}: no token in its answer") from None
        if life <= 0:
            life = LIFE_SECONDS
        return Credential(
            user, password, renew_at=before + life - min(MARGIN * life, MOST_MARGIN_SECONDS)
        )


class EcrRepositories:
    """DescribeRepositories."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all repositories of the account and region."""
        for rows, following in self._ecr.pages(
            "DescribeRepositories", "repositories", maxResults=ROWS_A_PAGE, nextToken=cursor
        ):
            names = (row.get("repositoryName") for row in rows if isinstance(row, dict))
            yield RepositoryPage(tuple(n for n in names if isinstance(n, str)), following)


class EcrImages:
    """ListImages: a row a tag."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 1000 a page."""
        for rows, _ in self._ecr.pages(
            "ListImages",
            "imageIds",
            repositoryName=repository,
            filter={"tagStatus": "TAGGED"},
            maxResults=ROWS_A_PAGE,
        ):
            yield {
                row["imageTag"]: row["imageDigest"]
                for row in rows
                if isinstance(row, dict) and row.get("imageTag") and row.get("imageDigest")
            }


class EcrMaker:
    """Repositories, which a push does not make."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    def place(self, repository: str) -> str:
        """Return the repository itself."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        try:
            self._ecr.ask("DescribeRepositories", repositoryNames=[place], **self._ecr.in_account())
        except errors.RepositoryNotFound:
            return False
        return True

    def make(self, place: str) -> None:
        """Make it with ECR's defaults: mutable tags, not scanned; raises Denied."""
        try:
            self._ecr.ask("CreateRepository", repositoryName=place, **self._ecr.in_account())
        except errors.Rejected as error:
            if error.oci_code != "RepositoryAlreadyExistsException":
                raise


class EcrTags:
    """BatchDeleteImage by tag: it takes the tag alone, and the image with its last one."""

    def __init__(self, ecr: Ecr) -> None:
        self._ecr = ecr

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, Rejected with ECR's reason."""
        delete_tag(self._ecr, repository, tag, self._ecr.in_account())


def delete_tag(ecr: Ecr, repository: str, tag: str, where: Mapping[str, str]) -> None:
    """Delete one tag; `where` names the account. Raises ManifestNotFound, Rejected with ECR's reason."""
    answer = ecr.ask(
        "BatchDeleteImage", repositoryName=repository, imageIds=[{"imageTag": tag}], **where
    )
    for failure in answer.get("failures") or ():
        said = failure if isinstance(failure, dict) else {}
        code, words = str(said.get("failureCode")), clean(str(said.get("failureReason")), 240)
        error_class = errors.ManifestNotFound if code == "ImageNotFound" else errors.Rejected
        raise error_class(
            f"{ecr.registry}: {repository}:{tag}: {clean(code, 80)}: {words}",
            registry=ecr.registry,
            oci_code=code[:80],
        )
