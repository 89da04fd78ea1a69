"""A contract fake of Alibaba Cloud Container Registry, personal edition: its API on one port, its registry on another.

Sources: [api] alibabacloud-cr20160607 1.0.1, client.py and models.py (methods, paths, parameters); [answers] Harbor's
src/pkg/reg/adapter/aliacr/types.go; [sign] as in aliyun.py, with signatures by the vendor's own signer in
test_aliyun_personal.py. The codes of errors are in neither and are guesses, as in aliyun.py. Strict: what is not in them is refused.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import unquote

from api.samples.http_messages import Request, Response
from service.registry.providers.aliyun import sign
from tests.contract.aliyun import ACCESS_KEY, JSON, SECRET, AliyunError, FakeAliyun

HOST = "registry.cn-hangzhou.aliyuncs.com"


class FakeAliyunPersonal(FakeAliyun):
    """One account's registry in one region; `taken` are namespaces of other accounts."""

    def __init__(self, *, ttl_seconds: float = 5.0) -> None:
        super().__init__(ttl_seconds=ttl_seconds)
        self.taken: set[str] = set()

    def _handle_control(self, request: Request) -> Response:
        body = request.body.read(1 << 16)
        try:
            self._hold_to(request, body)
            data = self._act_on(request, json.loads(body or b"{}"))
        except AliyunError as error:
            told = {"requestId": "26FE2AF4", "code": error.code, "message": str(error)}
            return Response(error.status, dict(JSON), json.dumps(told).encode())
        return Response(200, dict(JSON), json.dumps({"data": data, "requestId": "1"}).encode())

    def _hold_to(self, request: Request, body: bytes) -> None:
        """[sign]"""
        headers = request.headers
        path, _, query = request.target.partition("?")
        moment = self._moment(headers["x-acs-date"])
        wanted = sign(
            ACCESS_KEY,
            SECRET,
            host=headers["host"],
            action=headers["x-acs-action"],
            query=query,
            moment=moment,
            nonce=headers["x-acs-signature-nonce"],
            method=request.method,
            path=path,
            body=body,
            version="2016-06-07",
        )
        if wanted["Authorization"] != headers["authorization"]:
            raise AliyunError(400, "SignatureDoesNotMatch", "the signature does not match")
        if headers["x-acs-version"] != "2016-06-07":
            raise AliyunError(400, "InvalidVersion", "no such version")

    def _act_on(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        """[api]"""
        action, method = request.headers["x-acs-action"], request.method
        path = unquote(request.target.partition("?")[0])
        self.actions.append(action)
        if (action, method, path) == ("GetAuthorizationToken", "GET", "/tokens"):
            told = self._token({})
            return {
                "tempUserName": told["TempUsername"],
                "authorizationToken": told["AuthorizationToken"],
                "expireDate": told["ExpireTime"],
            }
        if (action, method, path) == ("CreateNamespace", "PUT", "/namespace"):
            return self._new_namespace(body["Namespace"]["Namespace"])
        if (action, method, path) == ("CreateRepo", "PUT", "/repos"):
            return self._new_repo(body["Repo"])
        if (action, method, path) == ("GetRepoList", "GET", "/repos"):
            return self._page(request, "repos", [self._row(n) for n in sorted(self.repositories)])
        found = re.fullmatch(r"/namespace/([^/]+)", path)
        if found is not None and (action, method) == ("GetNamespace", "GET"):
            if found[1] not in self.namespaces:
                raise AliyunError(404, "NAMESPACE_NOT_EXIST", "namespace is not exist")
            return {"namespace": {"namespace": found[1]}}
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)(?:/tags(?:/([^/]+))?)?", path)
        if found is None:
            raise AliyunError(404, "InvalidAction.NotFound", f"no action {action}")
        return self._of_repo(request, action, found[1], found[2])

    def _of_repo(self, request: Request, action: str, name: str, tag: str | None) -> dict[str, Any]:
        if name not in self.repositories:
            raise AliyunError(404, "REPO_NOT_EXIST", "repo is not exist")
        if (action, request.method) == ("GetRepo", "GET"):
            return {"repo": self._row(name)}
        if (action, request.method) == ("GetRepoTags", "GET"):
            rows = [
                {"tag": one, "digest": digest.partition(":")[2], "status": "NORMAL"}
                for one, digest in sorted((self.storage.tags(name) or {}).items())
            ]
            return self._page(request, "tags", rows)
        if (action, request.method) == ("DeleteImage", "DELETE"):
            if not self.storage.delete_tag(name, str(tag)):
                raise AliyunError(404, "IMAGE_NOT_EXIST", "image is not exist")
            return {}
        raise AliyunError(404, "InvalidAction.NotFound", f"no action {action}")

    def _new_namespace(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name in self.namespaces | self.taken:
                raise AliyunError(409, "NAMESPACE_ALREADY_EXIST", "namespace is already exist")
            self.namespaces.add(name)
        return {"namespaceId": 1}

    def _new_repo(self, repo: dict[str, str]) -> dict[str, Any]:
        if repo["RepoNamespace"] not in self.namespaces:
            raise AliyunError(404, "NAMESPACE_NOT_EXIST", "namespace is not exist")
        if repo["RepoType"] not in ("PRIVATE", "PUBLIC") or not repo["Summary"]:
            raise AliyunError(400, "PARAMETER_ERROR", "RepoType and Summary are needed")
        full = f"{repo['RepoNamespace']}/{repo['RepoName']}"
        with self._lock:
            if full in self.repositories:
                raise AliyunError(409, "REPO_ALREADY_EXIST", "repo is already exist")
            self.repositories.add(full)
        return {"repoId": 1}

    def _row(self, full: str) -> dict[str, Any]:
        """[answers]"""
        namespace, _, name = full.partition("/")
        row = {"repoNamespace": namespace, "repoName": name, "repoId": 1, "repoType": "PRIVATE"}
        return {**row, "repoStatus": "NORMAL", "gmtCreate": int(time.time() * 1000)}

    def _page(self, request: Request, member: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """[answers] page, pageSize and total are numbers."""
        query = request.query()
        number, size = int(query.get("Page", "1")), int(query.get("PageSize", "30"))
        if size > 100:
            raise AliyunError(400, "PARAMETER_ERROR", "PageSize")
        page = rows[(number - 1) * size : number * size]
        return {member: page, "total": len(rows), "page": number, "pageSize": size}
