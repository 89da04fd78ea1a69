"""Google Artifact Registry: repositories made and listed by its REST API, digests by its own list of tags.

The registry's credential is the user _json_key (or _json_key_base64) with a service account's key, which
the registry takes as it is. For the API a token of an hour is got for it (RFC 7523; Google's "Using OAuth 2.0
for Server to Server Applications"). The key itself leaves for the registry's own token service only. With `keyless: gcp`
both are given the machine's own access token.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from service import errors
from service.model.endpoint import Credential
from service.model.reference import validate_repository
from service.registry.access import Access
from service.registry.http import Http
from service.registry.providers.control_plane import MAX_ANSWER_BYTES, ControlPlane, Reply
from service.registry.providers.gcp_identity import SCOPE, MachineTokens
from service.registry.providers.pubsub import PUBSUB_URL, GarSubscriptions
from service.registry.providers.strategies import Strategies
from service.registry.results import RepositoryPage

TOKENS_URL = "https://oauth2.googleapis.com"
AUDIENCE = f"{TOKENS_URL}/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
OAUTH_USER = "oauth2accesstoken"
"""The user whose password is an access token."""
HOST_ENDING = "-docker.pkg.dev"
ROWS_A_PAGE = 1000
MAKING_SECONDS = 60.0
MAKING_PAUSE_SECONDS = 0.5


def open_gar(plane: ControlPlane) -> Strategies:
    """Return Artifact Registry's strategies; without a key, those that need no API."""
    digests = GarTags(plane.http)
    if plane.keyless == "gcp":
        machine = MachineTokens(plane.name)

        def current() -> str:
            return machine.lease().token

        gar = Gar(plane, machine.project, current)
        return Strategies(
            login=GarLogin(machine),
            repositories=GarRepositories(gar),
            tags_with_digests=digests,
            maker=GarMaker(gar),
            webhooks=GarSubscriptions(Gar(plane.at(PUBSUB_URL), machine.project, current)),
        )
    key = _key(plane)
    if key is None:
        return Strategies(tags_with_digests=digests)
    project, tokens = key["project_id"], KeyTokens(plane, key)
    gar = Gar(plane, project, tokens.current)
    return Strategies(
        repositories=GarRepositories(gar),
        tags_with_digests=digests,
        maker=GarMaker(gar),
        webhooks=GarSubscriptions(Gar(plane.at(PUBSUB_URL), project, tokens.current)),
    )


class GarLogin:
    """The machine's access token, as the registry takes it: the password of oauth2accesstoken."""

    def __init__(self, machine: MachineTokens) -> None:
        self._machine = machine

    def login(self) -> Credential:
        """Return a token that holds, and when to get the next."""
        lease = self._machine.lease()
        return Credential(OAUTH_USER, lease.token, renew_at=lease.renew_at)


def _key(plane: ControlPlane) -> dict[str, str] | None:
    """Return the service account's key, None where the credential is something else."""
    credential = plane.credential()
    text = credential.password
    try:
        if credential.username == "_json_key_base64":
            text = base64.b64decode(text, validate=True).decode()
        elif credential.username != "_json_key":
            return None
        value = json.loads(text)
        return {name: str(value[name]) for name in ("client_email", "private_key", "project_id")}
    except (binascii.Error, ValueError, LookupError, TypeError):
        raise errors.InvalidConfiguration(
            f"the credential of {plane.name} is no key of a service account",
            field="credentials",
            hint="give the JSON of the key, whole, as the password of _json_key",
        ) from None


class Gar:
    """Requests to Artifact Registry's API in one location, as one identity."""

    def __init__(self, plane: ControlPlane, project: str, token: Callable[[], str]) -> None:
        """`project` is the identity's own; `token` tells an access token that holds."""
        self._plane = plane
        self._token = token
        self.registry = plane.name
        self.project = project
        host = plane.hosts[0]
        self.location = host.removesuffix(HOST_ENDING) if host.endswith(HOST_ENDING) else "us"

    def parent(self, project: str) -> str:
        """Return the path of what holds a project's repositories."""
        return f"/v1/projects/{quote(project, safe='')}/locations/{self.location}"

    def ask(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask the API; raises RegistryError."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        return self._plane.call(method, path, headers=headers, body=body, accept=accept)

    def pages(
        self, path: str, member: str, token: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """Yield pages of a list, each with the token of the next one, "" at the end."""
        while True:
            query = f"?pageSize={ROWS_A_PAGE}" + (f"&pageToken={quote(token)}" if token else "")
            value = self.ask("GET", f"{path}{query}").value
            rows = value.get(member, []) if isinstance(value, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise errors.ProtocolError(f"{self.registry}: its API answers no {member}")
            following = str(value.get("nextPageToken") or "")
            if following and following == token:
                raise errors.ProtocolError(f"{self.registry}: {member} go in a circle")
            yield rows, following
            if not following:
                return
            token = following


class KeyTokens:
    """Access tokens for a service account's key (RFC 7523). For any number of threads."""

    def __init__(self, plane: ControlPlane, key: Mapping[str, str]) -> None:
        self._tokens = plane.at(TOKENS_URL)
        self._key = key
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0
        self.registry = plane.name

    def current(self) -> str:
        """Return a token that holds; raises RegistryError."""
        with self._lock:
            if time.monotonic() >= self._renew_at:
                before = time.monotonic()
                form = {"grant_type": GRANT, "assertion": self._assertion()}
                value = self._tokens.call("POST", "/token", form=form).value
                try:
                    self._token = str(value["access_token"])
                    life = float(value["expires_in"])
                except (LookupError, TypeError, ValueError):
                    raise errors.ProtocolError(f"{self.registry}: no token for its API") from None
                self._renew_at = before + life * 0.8
            return self._token

    def _assertion(self) -> str:
        """Return a JWT of five minutes, signed by the key (RS256)."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        now = int(time.time())
        claims = {
            "iss": self._key["client_email"],
            "scope": SCOPE,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
        }
        parts = [_packed({"alg": "RS256", "typ": "JWT"}), _packed(claims)]
        try:
            key = serialization.load_pem_private_key(self._key["private_key"].encode(), None)
        except ValueError:
            key = None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise errors.InvalidConfiguration(
                f"the service account's key of {self.registry} has no private key that can be read",
                field="credentials",
            )
        signature = key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


class GarRepositories:
    """Packages of the Docker repositories of the service account's own project and the host's location."""

    def __init__(self, gar: Gar) -> None:
        self._gar = gar

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield images' names, a page for a page of repositories."""
        if not self._gar.project:
            raise errors.Unsupported(
                f"{self._gar.registry}: the machine's identity belongs to no project",
                registry=self._gar.registry,
                hint="set GOOGLE_CLOUD_PROJECT where workers run, or name the repositories in the rule",
            )
        project, parent = self._gar.project, self._gar.parent(self._gar.project)
        path = f"{parent}/repositories"
        for rows, following in self._gar.pages(path, "repositories", cursor or ""):
            names: list[str] = []
            for row in rows:
                if row.get("format") == "DOCKER":
                    repository = str(row.get("name")).rpartition("/")[2]
                    names += self._of(parent, project, repository)
            yield RepositoryPage(tuple(names), following or None)

    def _of(self, parent: str, project: str, repository: str) -> Iterator[str]:
        path = f"{parent}/repositories/{quote(repository, safe='')}/packages"
        for rows, _ in self._gar.pages(path, "packages"):
            for row in rows:
                image = unquote(str(row.get("name")).rpartition("/packages/")[2])
                yield f"{project}/{repository}/{image}"


class GarMaker:
    """The repository of Artifact Registry: the second part of an image's name, in the project of the first."""

    def __init__(self, gar: Gar) -> None:
        self._gar = gar

    def place(self, repository: str) -> str:
        """Return project/repository."""
        return "/".join(repository.split("/")[:2])

    def exists(self, place: str) -> bool:
        """Whether there is such a repository."""
        project, _, name = place.partition("/")
        path = f"{self._gar.parent(project)}/repositories/{quote(name, safe='')}"
        return self._gar.ask("GET", path, accept=(200, 404)).status == 200

    def make(self, place: str) -> None:
        """Make a Docker repository, and wait until it is there; raises Denied, ServerError."""
        project, _, name = place.partition("/")
        path = f"{self._gar.parent(project)}/repositories?repositoryId={quote(name, safe='')}"
        reply = self._gar.ask("POST", path, body={"format": "DOCKER"}, accept=(200, 409))
        deadline = time.monotonic() + MAKING_SECONDS
        operation = reply.value if reply.status == 200 else {"done": True}
        while not (isinstance(operation, dict) and operation.get("done")):
            if time.monotonic() > deadline or not isinstance(operation, dict):
                raise errors.ServerError(
                    f"{self._gar.registry}: making {place} takes too long",
                    registry=self._gar.registry,
                )
            time.sleep(MAKING_PAUSE_SECONDS)
            operation = self._gar.ask("GET", f"/v1/{operation.get('name')}").value
        if isinstance(operation.get("error"), dict):
            raise errors.Rejected(
                f"{self._gar.registry}: {place} was not made: "
                f"{str(operation['error'].get('message'))[:200]!r}",
                registry=self._gar.registry,
            )


class GarTags:
    """The `manifest` that /tags/list of Google's registries has beside the tags, all in one page."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield one page of tag to digest."""
        target = f"/v2/{validate_repository(repository)}/tags/list"
        access = Access("pull", repository)
        answer = self._http.request("GET", "tags", target, access, limit=MAX_ANSWER_BYTES)
        if answer.status != 200:
            raise self._http.error(answer, "GET", target, "tags")
        try:
            manifests = json.loads(answer.body).get("manifest") or {}
            yield {tag: digest for digest, row in manifests.items() for tag in row.get("tag") or ()}
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise errors.ProtocolError(f"{self._http.name}: a list of tags that is none") from None


def _packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
