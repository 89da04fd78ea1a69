"""A contract fake of Harbor 2: its token service, its refusals, its API over the sample registry.

Sources, by their path in goharbor/harbor: [auth] src/server/middleware/v2auth/auth.go, [manifest]
src/server/registry/manifest.go, [repository] src/server/v2.0/handler/repository.go, [swagger]
api/v2.0/swagger.yaml, [http] src/lib/http/error.go. Strict: what is not in them is answered by 404.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from api.samples.auth import TokenService, basic_credentials
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json"}
HARBOR = Profile(name="harbor", single_post=False, deletes_tags=False)


class HarborAuth:
    """Bearer tokens of /service/token, and Basic; `makers` are users that may create projects."""

    def __init__(self, users: Mapping[str, str], ttl_seconds: int) -> None:
        self.users = users
        self.tokens = TokenService(users, service="harbor-registry", ttl_seconds=ttl_seconds)
        self.base = ""
        self.projects: set[str] = set()

    def check(self, request: Request, resource: str, action: str) -> None:
        """[auth] reqChecker.check."""
        given = request.headers.get("authorization", "")
        if resource.startswith("repository:"):
            project = resource.removeprefix("repository:").partition("/")[0]
            if not given and request.method == "HEAD":
                self._refuse(request, resource, action, "authorize header needed to send HEAD")
            if project not in self.projects:  # no challenge, whoever asks
                raise _unauthorized(f"project {project} not found", "")
        if not self.allows(request, resource, action):
            self._refuse(request, resource, action, "unauthorized to access repository")

    def allows(self, request: Request, resource: str, action: str) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.tokens.grants(token, resource, action)
        found = basic_credentials(request)
        return found is not None and self.users.get(found[0]) == found[1]

    def _refuse(self, request: Request, resource: str, action: str, message: str) -> None:
        """[auth] getChallenge: whoever has sent an Authorization is asked for Basic."""
        if "authorization" in request.headers or request.path == "/v2/_catalog":
            raise _unauthorized(message, 'Basic realm="harbor"')
        challenge = f'Bearer realm="{self.base}/service/token",service="harbor-registry"'
        if resource:
            challenge += f',scope="{resource}:{"pull,push" if action == "push" else action}"'
        raise _unauthorized(message, challenge)


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, "UNAUTHORIZED", message, headers={"Www-Authenticate": challenge})


class FakeHarbor(SampleRegistry):
    """Harbor on one port. `makers` may create projects; `immutable` tags are not deleted."""

    def __init__(
        self,
        users: Mapping[str, str],
        makers: frozenset[str] = frozenset(),
        *,
        ttl_seconds: int = 5,
        page: int = 2,
    ) -> None:
        self.harbor = HarborAuth(users, ttl_seconds)
        super().__init__(profile=HARBOR, auth=self.harbor)
        self.harbor.base = self.url
        self._makers = makers
        self._page = page
        self._making = threading.Lock()
        self.immutable: set[str] = set()
        self.hooks: dict[int, tuple[str, dict[str, Any]]] = {}

    def secrets(self) -> list[Secret]:
        """Passwords and tokens: all is at one host."""
        here = frozenset({self.host})
        passwords = [Secret(text, here, (user,)) for user, text in self.harbor.users.items()]
        return passwords + [Secret(one, here, opaque=True) for one in self.harbor.tokens.issued]

    def project(self, *names: str) -> None:
        """Have these projects."""
        self.harbor.projects.update(names)

    def _handle(self, request: Request) -> Response:
        if request.path == "/service/token":
            return self.harbor.tokens.handle(request)
        if not request.path.startswith("/api/"):
            return super()._handle(request)
        rule = self.faults.strike(request)
        if rule is not None and rule.status is not None:
            answer = Response(rule.status)
            rule.apply(answer)
            return answer
        try:
            return self._answer(request)
        except ApiError as error:
            return Response(error.status, {**JSON, **error.headers}, error.body)

    def _answer(self, request: Request) -> Response:
        found = basic_credentials(request)
        if found is None or self.harbor.users.get(found[0]) != found[1]:
            raise ApiError(401, "UNAUTHORIZED", "unauthorized")  # [http]
        path = request.target.partition("?")[0].removeprefix("/api/v2.0/")
        parts = path.split("/")
        if parts == ["projects"]:
            return self._projects(request, found[0])
        if parts[0] == "projects" and parts[2:4] == ["webhook", "policies"]:
            return self._policies(request, found[0], unquote(parts[1]), parts[4:])
        if parts[0] == "projects" and len(parts) >= 3 and parts[2] == "repositories":
            project = unquote(parts[1])
            if project not in self.harbor.projects:
                raise ApiError(404, "NOT_FOUND", f"project {project} not found")
            names = [n for n in self.storage.repositories() if n.startswith(f"{project}/")]
            if len(parts) == 3:
                rows = [{"name": n, "artifact_count": 1} for n in names]
                return self._listed(request, rows)
            name = f"{project}/{unquote(unquote(parts[3]))}"  # [swagger] encoded twice
            if "/" in unquote(parts[3]):
                raise ApiError(404, "NOT_FOUND", f"path {path} was not found")
            if name not in names:
                raise ApiError(404, "NOT_FOUND", f"repository {name} not found")
            return self._artifacts(request, name, parts[4:])
        raise ApiError(404, "NOT_FOUND", f"path {path} was not found")

    def _projects(self, request: Request, user: str) -> Response:
        """[swagger] headProject, listProjects, createProject."""
        if request.method == "HEAD":
            there = request.query().get("project_name") in self.harbor.projects
            return Response(200 if there else 404)
        if request.method == "GET":
            return self._listed(request, [{"name": n} for n in sorted(self.harbor.projects)])
        body = json.loads(request.body.read(1 << 16))
        if user not in self._makers:
            raise ApiError(403, "FORBIDDEN", "Only system admin can create project")
        if body["metadata"]["public"] not in ("true", "false"):
            raise ApiError(422, "UNPROCESSABLE_ENTITY")
        with self._making:
            if body["project_name"] in self.harbor.projects:
                raise ApiError(409, "CONFLICT", f"The project named {body['project_name']} exists")
            self.project(body["project_name"])
        return Response(201, {"Location": f"/api/v2.0/projects/{len(self.harbor.projects)}"})

    def _policies(self, request: Request, user: str, project: str, rest: list[str]) -> Response:
        """[swagger] ListWebhookPoliciesOfProject, Create-, Update- and DeleteWebhookPolicyOfProject."""
        if project not in self.harbor.projects:
            raise ApiError(404, "NOT_FOUND", f"project {project} not found")
        if user not in self._makers:
            raise ApiError(403, "FORBIDDEN", "forbidden")
        mine = {number: body for number, (where, body) in self.hooks.items() if where == project}
        if request.method == "GET" and not rest:
            return self._listed(request, [{**body, "id": n} for n, body in sorted(mine.items())])
        if request.method == "POST" and not rest:
            body = json.loads(request.body.read(1 << 16))
            if any(one["name"] == body["name"] for one in mine.values()):
                raise ApiError(409, "CONFLICT", "the policy exists")
            with self._making:
                number = len(self.hooks) + 1
                self.hooks[number] = (project, body)
            return Response(201, {"Location": f"{request.path}/{number}"})
        number = int(rest[0])
        if number not in mine:
            raise ApiError(404, "NOT_FOUND", "no such policy")
        if request.method == "PUT":
            self.hooks[number] = (project, json.loads(request.body.read(1 << 16)))
        else:
            del self.hooks[number]
        return Response(200)

    def _artifacts(self, request: Request, name: str, rest: list[str]) -> Response:
        """[swagger] listArtifacts, deleteTag."""
        tags = self.storage.tags(name) or {}
        if rest == ["artifacts"] and request.method == "GET":
            by_digest: dict[str, list[str]] = {}
            for tag, digest in sorted(tags.items()):
                if not tag.startswith("sha256-"):  # accessories are no rows of their own
                    by_digest.setdefault(digest, []).append(tag)
            rows = [
                {
                    "digest": d,
                    "type": "IMAGE",
                    "tags": [{"name": t, "immutable": False} for t in ts],
                }
                for d, ts in by_digest.items()
            ]
            return self._listed(request, rows)
        if (
            request.method == "DELETE"
            and len(rest) == 4
            and (rest[0], rest[2]) == ("artifacts", "tags")
        ):
            tag = unquote(rest[3])
            if tag in self.immutable:
                raise ApiError(412, "PRECONDITION", f"the tag {tag} is immutable")
            if not self.storage.delete_tag(name, tag):
                raise ApiError(404, "NOT_FOUND", f"tag {tag} not found")
            return Response(200)
        raise ApiError(404, "NOT_FOUND")

    def _listed(self, request: Request, rows: list[dict[str, Any]]) -> Response:
        """[swagger] page, page_size, X-Total-Count and Link; pages here are short, as a server may."""
        query = request.query()
        number, size = int(query.get("page", "1")), min(int(query["page_size"]), self._page)
        headers = {**JSON, "X-Total-Count": str(len(rows))}
        if number * size < len(rows):
            keep = "".join(f"&{k}={v}" for k, v in query.items() if k != "page")
            path = request.target.partition("?")[0]
            headers["Link"] = f'<{path}?page={number + 1}{keep}>; rel="next"'
        page = rows[(number - 1) * size : number * size]
        return Response(200, headers, json.dumps(page).encode())
