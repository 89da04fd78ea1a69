"""A contract fake of Volcengine CR: its API on one port, its registry on another.

Sources: [api] version 2022-05-12 with the members that volcengine-python-sdk (volcenginesdkcr) has; [sign]
volcengine.com/docs/6369; test_volcengine.py holds it to the vendor's own signer. The codes of errors are in neither
and are guesses: on them hangs which error a user reads, and that a tag that is gone counts as deleted. Strict: an action that is not in them is refused.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from service.registry.providers.volcengine import sign
from tests.contract.ending import EndingUsers
from tests.contract.leaks import Secret

ACCESS_KEY, SECRET_KEY = "AKLTEXAMPLEEXAMPLEEXAMPLE", "c2VjcmV0RVhBTVBMRXNlY3JldA=="
REGISTRY, REGION = "enterprise-1", "cn-beijing"
JSON = {"Content-Type": "application/json"}
VOLCENGINE = Profile(name="volcengine", deletes_tags=False)


class VolcengineError(Exception):
    """[api] An Error in ResponseMetadata, with its HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Auth(BearerAuth):
    """The token service is at whatever host the registry is asked by."""

    def check(self, request: Request, resource: str, action: str) -> None:
        """See Auth."""
        realm = f"http://{request.headers['host']}/token"
        BearerAuth(self.tokens, realm).check(request, resource, action)


class FakeVolcengine(SampleRegistry):
    """One registry; `page` bounds a list's pages."""

    def __init__(self, *, ttl_seconds: float = 5.0, page: int = 100) -> None:
        self.users = EndingUsers()
        self.tokens = TokenService(self.users, service="volcengine-cr", ttl_seconds=5)
        super().__init__(profile=VOLCENGINE, auth=_Auth(self.tokens))
        self.control = HttpServer(self._handle_control)
        self.namespaces: set[str] = set()
        self.repositories: set[str] = set()
        self.actions: list[str] = []
        self.session = ""  # that the key's requests have to bear
        self._ttl_seconds = ttl_seconds
        self._page = page
        self._count = 0
        self._lock = threading.Lock()

    def start(self) -> Self:
        self.control.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.control.close()

    def secrets(self) -> list[Secret]:
        """The secret key signs and is never sent; its session's token is for the API."""
        api = frozenset({self.control.authority})
        return [Secret(SECRET_KEY), *(Secret(one, api) for one in (self.session,) if one)]

    def _handle(self, request: Request) -> Response:
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests|tags)/.*", request.path)
        if found is not None and found[1] not in self.repositories:
            error = ApiError(404, "NAME_UNKNOWN", f"repository {found[1]} not found")
            return Response(error.status, dict(JSON), error.body)
        if request.path == "/v2/_catalog":
            return Response(401, dict(JSON), b"{}")
        return super()._handle(request)

    # ---- the API -------------------------------------------------------------------------------------

    def _handle_control(self, request: Request) -> Response:
        body = request.body.read(1 << 20)
        action, status = request.query().get("Action", ""), 200
        told: dict[str, Any] = {
            "RequestId": "20261128004000010225000000000000",
            "Action": action,
            "Version": request.query().get("Version"),
            "Service": "cr",
            "Region": REGION,
        }
        result: dict[str, Any] = {}
        try:
            self._hold_to_signature(request, body)
            result = self._act(action, request, json.loads(body))
        except VolcengineError as error:
            status = error.status
            told["Error"] = {"Code": error.code, "Message": str(error)}
        document = {"ResponseMetadata": told, "Result": result}
        return Response(status, dict(JSON), json.dumps(document).encode())

    def _hold_to_signature(self, request: Request, body: bytes) -> None:
        """[sign]"""
        moment = datetime.strptime(request.headers["x-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - moment) > timedelta(minutes=15):
            raise VolcengineError(403, "InvalidTimestamp", "the request is expired")
        wanted = sign(
            ACCESS_KEY,
            SECRET_KEY,
            region=REGION,
            host=request.headers["host"],
            query=request.target.partition("?")[2],
            body=body,
            moment=moment,
            token=self.session,
        )
        if request.headers.get("x-security-token", "") != self.session:
            raise VolcengineError(401, "InvalidCredential", "the session token is not valid")
        if wanted["Authorization"] != request.headers["authorization"]:
            raise VolcengineError(401, "SignatureDoesNotMatch", "the signature does not match")

    def _act(self, action: str, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        if request.query().get("Version") != "2022-05-12":
            raise VolcengineError(404, "InvalidActionOrVersion", "no such version")
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "GetAuthorizationToken": self._token,
            "ListNamespaces": self._list_namespaces,
            "CreateNamespace": self._create_namespace,
            "ListRepositories": self._list_repositories,
            "CreateRepository": self._create_repository,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }
        if action not in actions:
            raise VolcengineError(404, "InvalidActionOrVersion", f"no action {action}")
        if asked.get("Registry") != REGISTRY:
            raise VolcengineError(404, "NotFound.Registry", "no such registry in this region")
        self.actions.append(action)
        return actions[action](asked)

    def _token(self, _asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._count += 1
            password = f"token-{self._count}"
            self.users.let_in(
                "cr-temp", password, self._ttl_seconds
            )  # the last one is not taken any more
        end = datetime.now(UTC) + timedelta(seconds=self._ttl_seconds)
        return {
            "Username": "cr-temp",
            "Token": password,
            "ExpireTime": end.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _list_namespaces(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = (asked.get("Filter") or {}).get("Names") or self.namespaces
        return self._listed(asked, [{"Name": n} for n in sorted(self.namespaces) if n in wanted])

    def _create_namespace(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if asked["Name"] in self.namespaces:
                raise VolcengineError(409, "AlreadyExists.Namespace", "the namespace exists")
            self.namespaces.add(asked["Name"])
        return {}

    def _list_repositories(self, asked: dict[str, Any]) -> dict[str, Any]:
        rule = asked.get("Filter") or {}
        rows = []
        for full in sorted(self.repositories):
            namespace, _, name = full.partition("/")
            if namespace in (rule.get("Namespaces") or [namespace]) and name in (
                rule.get("Names") or [name]
            ):
                rows.append({"Namespace": namespace, "Name": name, "AccessLevel": "Private"})
        return self._listed(asked, rows)

    def _create_repository(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["Namespace"] not in self.namespaces:
            raise VolcengineError(404, "NotFound.Namespace", "no such namespace")
        if asked["AccessLevel"] not in ("Private", "Public"):
            raise VolcengineError(400, "InvalidParameter.AccessLevel", "private or public")
        full = f"{asked['Namespace']}/{asked['Name']}"
        with self._lock:
            if full in self.repositories:
                raise VolcengineError(409, "AlreadyExists.Repository", "the repository exists")
            self.repositories.add(full)
        return {}

    def _list_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        full = f"{asked['Namespace']}/{asked['Repository']}"
        if full not in self.repositories:
            raise VolcengineError(404, "NotFound.Repository", "no such repository")
        tags = self.storage.tags(full) or {}
        return self._listed(
            asked, [{"Name": t, "Type": "Image", "Digest": d} for t, d in sorted(tags.items())]
        )

    def _delete_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        full = f"{asked['Namespace']}/{asked['Repository']}"
        for tag in asked["Names"]:
            if not self.storage.delete_tag(full, tag):
                raise VolcengineError(404, "NotFound.Tag", f"no tag {tag}")
        return {}

    def _listed(self, asked: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
        number, size = asked.get("PageNumber", 1), asked.get("PageSize", 10)
        if size > 100:
            raise VolcengineError(400, "InvalidParameter.PageSize", "at most 100")
        page = rows[(number - 1) * size : number * size]
        return {"Items": page, "TotalCount": len(rows), "PageNumber": number, "PageSize": size}
