"""A contract fake of JFrog Artifactory: repository keys over the sample registry.

Sources, titles below jfrog.com/help/r/jfrog-rest-apis: [keys] get-repositories, [images] list-docker-repositories,
[create] create-repository,
[events] create-a-new-webhook-subscription and its neighbours; [mount] registries.md 3.2: mounts are refused. Strict: what is not in them is 404.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from api.samples.auth import BasicAuth, basic_credentials
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry

JSON = {"Content-Type": "application/json"}
JFROG = Profile(name="jfrog", single_post=False)
NODE = {"X-JFrog-Version": "Artifactory/7.111.4", "X-Artifactory-Node-Id": "node-1"}


class FakeJfrog(SampleRegistry):
    """Artifactory on one port; `makers` may create repositories, `keys` has key to package type."""

    def __init__(
        self, users: Mapping[str, str], makers: frozenset[str] = frozenset(), *, page: int = 2
    ) -> None:
        super().__init__(profile=JFROG, auth=BasicAuth(users, realm="Artifactory Realm"))
        self._users = users
        self._makers = makers
        self._page = page
        self._making = threading.Lock()
        self.keys: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.mounts = 0
        self.hooks: dict[str, tuple[str, dict[str, Any]]] = {}

    def _handle(self, request: Request) -> Response:
        answer = self._answer(request)
        answer.headers.update(NODE)
        return answer

    def _answer(self, request: Request) -> Response:
        if request.path.startswith("/event/"):
            return self._subscriptions(request)
        if not request.path.startswith("/artifactory/"):
            return self._registry(request)
        rule = self.faults.strike(request)
        if rule is not None and rule.status is not None:
            answer = Response(rule.status)
            rule.apply(answer)
            return answer
        try:
            return self._api(request)
        except ApiError as error:
            document = {"errors": [{"status": error.status, "message": str(error)}]}
            return Response(error.status, dict(JSON), json.dumps(document).encode())

    def _registry(self, request: Request) -> Response:
        """The distribution API: a key has to be there for whoever may see it."""
        name = request.path.removeprefix("/v2/")
        key = name.partition("/")[0]
        if self._user(request) and "/" in name and key not in self.keys:
            body = {
                "errors": [{"code": "NAME_UNKNOWN", "message": f"Repository '{key}' not found"}]
            }
            return Response(404, dict(JSON), json.dumps(body).encode())
        if request.path == "/v2/_catalog":  # [images] has it by the key only
            return Response(404, dict(JSON), b'{"errors":[{"code":"NOT_FOUND"}]}')
        if request.method == "POST" and "mount" in request.query():
            self.mounts += 1  # [mount]
            return Response(400, dict(JSON), b'{"errors":[{"code":"UNSUPPORTED"}]}')
        return super()._handle(request)

    def _subscriptions(self, request: Request) -> Response:
        """[events] /event/api/v1/subscriptions: an access token, and 201, 204 and 204; a secret is told as asterisks."""
        if request.headers.get("authorization") not in [
            f"Bearer {t}" for t in self._users.values()
        ]:
            return Response(401, dict(JSON), b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        key = request.path.removeprefix("/event/api/v1/subscriptions").lstrip("/")
        if request.method == "POST" and not key:
            body = json.loads(request.body.read(1 << 16))
            if body["key"] in self.hooks or body["event_filter"]["domain"] != "docker":
                return Response(400, dict(JSON))
            (where,) = body["event_filter"]["criteria"]["repoKeys"]
            self.hooks[body["key"]] = (where, body)
            return Response(201, dict(JSON), b"{}")
        if key not in self.hooks:
            return Response(404, dict(JSON), b'{"message":"Subscription not found"}')
        if request.method == "GET":
            _, body = self.hooks[key]
            handlers = [{**one, "secret": "********"} for one in body["handlers"]]
            return Response(200, dict(JSON), json.dumps({**body, "handlers": handlers}).encode())
        if request.method == "DELETE":
            del self.hooks[key]
        else:
            self.hooks[key] = (self.hooks[key][0], json.loads(request.body.read(1 << 16)))
        return Response(204)

    def _user(self, request: Request) -> str:
        found = basic_credentials(request)
        return found[0] if found is not None and self._users.get(found[0]) == found[1] else ""

    def _api(self, request: Request) -> Response:
        user = self._user(request)
        if not user:
            raise ApiError(401, "UNAUTHORIZED", "Bad credentials")
        parts = request.path.removeprefix("/artifactory/api/").split("/")
        if parts == ["repositories"] and request.method == "GET":
            return self._listed(request.query()["packageType"])
        if parts[0] == "repositories" and len(parts) == 2 and request.method == "PUT":
            return self._make(user, parts[1], json.loads(request.body.read(1 << 16)))
        if len(parts) == 4 and parts[2:] == ["v2", "_catalog"] and request.method == "GET":
            return self._images(request, parts[0], parts[1])
        raise ApiError(404, "NOT_FOUND", "Not Found")

    def _listed(self, kind: str) -> Response:
        """[keys] GET /api/repositories?packageType="""
        rows = [
            {
                "key": key,
                "type": "LOCAL",
                "url": f"{self.url}/{key}",
                "packageType": of.capitalize(),
            }
            for key, of in self.keys.items()
            if of == kind
        ]
        return Response(200, dict(JSON), json.dumps(rows).encode())

    def _make(self, user: str, key: str, body: Mapping[str, str]) -> Response:
        """[create] PUT /api/repositories/{repoKey}"""
        if user not in self._makers:
            raise ApiError(403, "FORBIDDEN", "Forbidden")
        if (body["key"], body["rclass"]) != (key, "local"):
            raise ApiError(400, "BAD_REQUEST", "Repository key does not match")
        with self._making:
            if key in self.keys:
                raise ApiError(400, "BAD_REQUEST", "Case insensitive repository key already exists")
            self.keys[key] = body["packageType"]
        return Response(200, {"Content-Type": "text/plain"}, b"Successfully created repository")

    def _images(self, request: Request, kind: str, key: str) -> Response:
        """[images] GET /api/docker/{repo-key}/v2/_catalog?n=&last="""
        if self.keys.get(key) != kind:
            raise ApiError(404, "NOT_FOUND", "Not Found")
        if key in self.hidden:
            raise ApiError(403, "FORBIDDEN", "Forbidden")
        last = request.query().get("last", "")
        start = f"{key}/"
        names = sorted(
            name.removeprefix(start)
            for name in self.storage.repositories()
            if name.startswith(start) and name.removeprefix(start) > last
        )
        headers = dict(JSON)
        page = names[: self._page]
        if len(names) > len(page):
            headers["Link"] = f'<{request.path}?n={self._page}&last={page[-1]}>; rel="next"'
        return Response(200, headers, json.dumps({"repositories": page}).encode())
