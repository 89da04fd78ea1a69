"""A contract fake of Google Artifact Registry: oauth2 tokens, the REST API, the registry.

Sources: [oauth2] developers.google.com/identity/protocols/oauth2/service-account (judged by google-auth);
[rest] cloud.google.com/artifact-registry/docs/reference/rest/v1 (judged by google-cloud-artifact-registry);
[tags] the `manifest` member of tags/list, as go-containerregistry's google.Tags reads it; [whole]
cloud.google.com/artifact-registry/docs/docker/pushing-and-pulling: no chunked uploads; [missing] ibid.;
[pubsub] cloud.google.com/pubsub/docs/reference/rest/v1 (topics.create, subscriptions.create, get, modifyPushConfig, delete).
"""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json; charset=UTF-8"}
GAR = Profile(name="gar")
EMAIL = "mover@fleet.iam.gserviceaccount.com"
_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_PEM = _PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
PUBLIC_PEM = _PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
KEY = {
    "type": "service_account",
    "project_id": "fleet",
    "private_key_id": "1",
    "private_key": PRIVATE_PEM,
    "client_email": EMAIL,
    "token_uri": "https://oauth2.googleapis.com/token",
}


class FakeGar(SampleRegistry):
    """Artifact Registry in `us`; `repositories` are those of project fleet."""

    def __init__(self, *, ttl_seconds: int = 5, page: int = 2, looks: int = 1) -> None:
        self.tokens = TokenService(
            {"_json_key": json.dumps(KEY, separators=(",", ":"))},
            service="us-docker.pkg.dev",
            ttl_seconds=ttl_seconds,
        )
        super().__init__(profile=GAR, auth=BearerAuth(self.tokens))
        self.control = HttpServer(self._handle_control)
        self.repositories: set[str] = set()
        self.issued: dict[str, float] = {}
        self.machine: set[str] = set()  # those that a metadata server gave out
        self._ttl_seconds = ttl_seconds
        self._page = page
        self._looks = looks  # at an operation, until it is done
        self._operations: dict[str, int] = {}
        self._lock = threading.Lock()
        self.topic = False
        self.hooks: dict[str, tuple[str, dict[str, Any]]] = {}

    def start(self) -> Self:
        self.control.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.control.close()

    def secrets(self) -> list[Secret]:
        """Google's tokens are for its API; a machine's are the registry's password, too."""
        api = frozenset({self.control.authority})
        return [
            Secret(one, api | {self.host} if one in self.machine else api) for one in self.issued
        ]

    def issue_to_machine(self) -> str:
        """Return a new access token that API and registry take; the one before has ended."""
        token = f"ya29.machine-{len(self.issued)}-of-this-hour"
        self.machine.add(token)
        self.issued[token] = time.monotonic() + 3600
        self.tokens.users = {**self.tokens.users, "oauth2accesstoken": token}
        return token

    def _handle(self, request: Request) -> Response:
        if request.method == "PATCH":  # [whole]
            return Response(405, {"Content-Type": "application/json"}, b'{"errors":[]}')
        found = re.fullmatch(r"/v2/fleet/([^/]+)/.+/(blobs|manifests|tags)/.*", request.path)
        if found and found[1] not in self.repositories and "authorization" in request.headers:
            words = f'Repository "{found[1]}" not found'  # [missing]
            error = ApiError(404, "NAME_UNKNOWN", words)
            return Response(404, dict(JSON), error.body)
        answer = super()._handle(request)
        if request.path.endswith("/tags/list") and answer.status == 200:
            self._add_manifests(request, answer)
        return answer

    def _add_manifests(self, request: Request, answer: Response) -> None:
        """[tags]"""
        name = request.path.removeprefix("/v2/").removesuffix("/tags/list")
        rows: dict[str, dict[str, Any]] = {}
        for tag, digest in sorted((self.storage.tags(name) or {}).items()):
            row = rows.setdefault(digest, {"imageSizeBytes": "1", "timeCreatedMs": "0", "tag": []})
            row["tag"].append(tag)
        value = json.loads(bytes(answer.body))
        answer.body = json.dumps({**value, "child": [], "manifest": rows}).encode()

    # ---- the API -------------------------------------------------------------------------------------

    def _handle_control(self, request: Request) -> Response:
        if request.path == "/token":
            return self._token(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if time.monotonic() >= self.issued.get(token, 0.0):
            return _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        path = (
            unquote(request.path) if "%" not in request.target else request.target.partition("?")[0]
        )
        if found := re.fullmatch(
            r"/v1/projects/fleet/(topics|subscriptions)/([^/:]+)(:\w+)?", path
        ):
            return self._pubsub(request, found[1], found[2], found[3])
        parent = "/v1/projects/fleet/locations/us"
        if path == f"{parent}/repositories":
            return self._create(request) if request.method == "POST" else self._list(request)
        if path.startswith(f"{parent}/operations/"):
            return self._operation(path.rpartition("/")[2])
        if found := re.fullmatch(rf"{parent}/repositories/([^/]+)/packages", path):
            start = f"fleet/{found[1]}/"
            names = [n for n in self.storage.repositories() if n.startswith(start)]
            base = f"projects/fleet/locations/us/repositories/{found[1]}/packages"
            rows = [{"name": f"{base}/{quote(n.removeprefix(start), safe='')}"} for n in names]
            return self._page_of(request, "packages", rows)
        if found := re.fullmatch(rf"{parent}/repositories/([^/]+)", path):
            if found[1] in self.repositories:
                return _json(200, self._row(found[1]))
            return _error(404, "NOT_FOUND", "Requested entity was not found.")
        return _error(
            403, "PERMISSION_DENIED", f"Permission denied on {path} (or it may not exist)."
        )

    def _pubsub(self, request: Request, kind: str, name: str, verb: str | None) -> Response:
        """[pubsub]"""
        body = json.loads(request.body.read(1 << 16) or b"{}")
        if kind == "topics":
            if request.method != "PUT" or name != "gcr":
                return _error(400, "INVALID_ARGUMENT", "no such topic")
            if self.topic:
                return _error(409, "ALREADY_EXISTS", "Resource already exists in the project")
            self.topic = True
            return _json(200, {"name": "projects/fleet/topics/gcr"})
        if request.method == "PUT":
            if name in self.hooks:
                return _error(409, "ALREADY_EXISTS", "Resource already exists in the project")
            if not self.topic or body.get("topic") != "projects/fleet/topics/gcr":
                return _error(404, "NOT_FOUND", "Resource not found (resource=gcr).")
            self.hooks[name] = ("fleet", body)
            return _json(200, body)
        if name not in self.hooks:
            return _error(404, "NOT_FOUND", f"Resource not found (resource={name}).")
        if request.method == "DELETE":
            del self.hooks[name]
            return _json(200, {})
        if verb == ":modifyPushConfig":
            self.hooks[name] = ("fleet", {**self.hooks[name][1], **body})
            return _json(200, {})
        return _json(200, self.hooks[name][1])

    def _token(self, request: Request) -> Response:
        """[oauth2] Let google-auth read the assertion."""
        form = parse_qs(request.body.read(1 << 16).decode())
        if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return _json(400, {"error": "unsupported_grant_type"})
        try:
            claims = jwt.decode(
                form["assertion"][0],
                certs=PUBLIC_PEM,
                audience="https://oauth2.googleapis.com/token",
            )
        except Exception as error:  # whatever it is, the grant is none
            return _json(400, {"error": "invalid_grant", "error_description": str(error)})
        if claims["iss"] != EMAIL or "cloud-platform" not in claims["scope"]:
            return _json(400, {"error": "invalid_grant"})
        with self._lock:
            token = f"ya29.{len(self.issued)}"
            self.issued[token] = time.monotonic() + self._ttl_seconds
        body = {"access_token": token, "expires_in": self._ttl_seconds, "token_type": "Bearer"}
        return _json(200, body)

    def _row(self, name: str) -> dict[str, str]:
        return {"name": f"projects/fleet/locations/us/repositories/{name}", "format": "DOCKER"}

    def _list(self, request: Request) -> Response:
        rows = [self._row(name) for name in sorted(self.repositories)]
        other = {**self._row("zz-maven"), "format": "MAVEN"}
        return self._page_of(request, "repositories", [*rows, other])

    def _create(self, request: Request) -> Response:
        name = request.query()["repositoryId"]
        if json.loads(request.body.read(1 << 16)).get("format") != "DOCKER":
            return _error(400, "INVALID_ARGUMENT", "format")
        with self._lock:
            if name in self.repositories or name in self._operations:
                return _error(409, "ALREADY_EXISTS", "the repository already exists")
            self._operations[name] = self._looks
        return self._operation(name)

    def _operation(self, name: str) -> Response:
        with self._lock:
            self._operations[name] -= 1
            done = self._operations[name] <= 0
            if done:
                self.repositories.add(name)
        full = f"projects/fleet/locations/us/operations/{name}"
        return _json(200, {"name": full, **({"done": True, "response": {}} if done else {})})

    def _page_of(self, request: Request, member: str, rows: list[Any]) -> Response:
        query = request.query()
        start, size = int(query.get("pageToken") or 0), self._page
        more = {"nextPageToken": str(start + size)} if start + size < len(rows) else {}
        page = {member: rows[start : start + size]} if rows else {}  # proto3: empty is left out
        return _json(200, {**page, **more})


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())


def _error(status: int, kind: str, words: str) -> Response:
    return _json(status, {"error": {"code": status, "message": words, "status": kind}})
