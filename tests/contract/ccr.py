"""A contract fake of Tencent CCR, personal: its API on one port, its registry on another.

Sources: [api] cloud.tencent.com/document/api/1141 (2019-09-24), the *Personal calls, as tencentcloud-sdk-python-tcr has them, which
judges this fake in test_ccr.py; signatures as in tcr.py; [limit] ibid. DescribeRepositoryOwnerPersonal: Offset counts
repositories, Limit is 100 at most; [taken] ibid. CreateNamespacePersonal: names are unique over all accounts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.registry import SampleRegistry
from tests.contract.tcr import JSON, FakeTcr, TcrError

USER, PASSWORD = "100012345678", "f1xed-passw0rd"


class FakeCcr(FakeTcr):
    """One account's CCR; `taken` are namespaces of other accounts, `pushed` when tags of repositories were."""

    def __init__(self) -> None:
        super().__init__()
        self.api.profile = replace(self.profile, name="ccr", referrers_api=False)
        self.users[USER] = PASSWORD
        self.taken: set[str] = set()
        self.pushed: dict[tuple[str, str], str] = {}

    def _handle(self, request: Request) -> Response:
        found = re.fullmatch(r"/v2/([^/]+)/.+/(blobs|manifests|tags)/.*", request.path)
        answer = SampleRegistry._handle(self, request)
        if request.path == "/v2/_catalog":
            return Response(401, dict(JSON), b"{}")
        if answer.status < 300 and found is not None and found[1] not in self.namespaces:
            error = ApiError(404, "NAME_UNKNOWN", f"namespace {found[1]} is not there")
            return Response(error.status, dict(JSON), error.body)
        return answer

    def _act(self, action: str, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        if request.headers.get("x-tc-version") != "2019-09-24":
            raise TcrError("NoSuchVersion", "The version is not there")
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ValidateNamespaceExistPersonal": self._namespace_exists,
            "CreateNamespacePersonal": self._make_namespace,
            "ValidateRepositoryExistPersonal": self._repository_exists,
            "CreateRepositoryPersonal": self._make_repository,
            "DescribeRepositoryOwnerPersonal": self._owned,
            "DescribeImagePersonal": self._tags,
            "DeleteImagePersonal": self._delete_tag,
        }
        if action not in actions:
            raise TcrError("InvalidAction", action)
        self.actions.append(action)
        return actions[action](asked)

    def _namespace_exists(self, asked: dict[str, Any]) -> dict[str, Any]:
        there = asked["Namespace"] in self.namespaces
        return {"Data": {"IsExist": there, "IsPreserved": False}}

    def _make_namespace(self, asked: dict[str, Any]) -> dict[str, Any]:
        """[taken]"""
        with self._lock:
            if asked["Namespace"] in self.namespaces | self.taken:
                raise TcrError("FailedOperation.ErrorNamespaceExist", "the namespace is there")
            self.namespaces.add(asked["Namespace"])
        return {}

    def _repository_exists(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Data": {"IsExist": asked["RepoName"] in self._names()}}

    def _make_repository(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["RepoName"].partition("/")[0] not in self.namespaces:
            raise TcrError("ResourceNotFound.ErrNoNamespace", "no such namespace")
        if asked.get("Public") != 0:
            raise TcrError("InvalidParameter", "this fake's users want private ones")
        with self._lock:
            if asked["RepoName"] in self.repositories:
                raise TcrError("FailedOperation.ErrorRepoExist", "the repository is there")
            self.repositories.add(asked["RepoName"])
        return {}

    def _owned(self, asked: dict[str, Any]) -> dict[str, Any]:
        """[limit]"""
        start, most = asked.get("Offset", 0), asked.get("Limit", 20)
        if not 1 <= most <= 100:
            raise TcrError("InvalidParameter", "Limit")
        rows = [
            {
                "RepoName": name,
                "RepoType": "QCLOUD HUB",
                "TagCount": 1,
                "Public": 0,
                "IsUserFavor": False,
                "IsQcloudOfficial": False,
                "FavorCount": 0,
                "PullCount": 0,
                "Description": "",
                "CreationTime": "2026-01-01 00:00:00",
                "UpdateTime": "2026-01-01 00:00:00",
            }
            for name in self._names()
        ]
        page = rows[start : start + most]
        return {"Data": {"TotalCount": len(rows), "RepoInfo": page, "Server": self.host}}

    def _tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        """[limit] by the name of the tag: the order is not documented"""
        start, most = asked.get("Offset", 0), asked.get("Limit", 20)
        if not 1 <= most <= 100:
            raise TcrError("InvalidParameter", "Limit")
        name = self._known(asked)
        rows = [
            {
                "TagName": tag,
                "TagId": "",
                "ImageId": "",
                "SizeByte": 1,
                "UpdateTime": "2026-01-01 00:00:00",
                "PushTime": self.pushed.get((name, tag), "2026-01-01 00:00:00"),
            }
            for tag in sorted(self.storage.tags(name) or {})
        ]
        page = rows[start : start + most]
        told = {"TagCount": len(rows), "TagInfo": page, "RepoName": asked["RepoName"]}
        return {"Data": {**told, "Server": self.host}}

    def _delete_tag(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not self.storage.delete_tag(self._known(asked), asked["Tag"]):
            raise TcrError("ResourceNotFound.ErrNoTag", "no such tag")
        return {}

    def _known(self, asked: dict[str, Any]) -> str:
        if asked["RepoName"] not in self._names():
            raise TcrError("ResourceNotFound.ErrNoRepo", "no such repository")
        return str(asked["RepoName"])
