"""A contract fake of Tencent TCR, enterprise: its API on one port, its registry on another.

Sources: [api] cloud.tencent.com/document/api/1141 (2019-09-24) as tencentcloud-sdk-python-tcr has it, which
judges this fake in test_tcr.py; [sign] document/api/1141/41585 ("Signature v3"), judged by the SDK's own
signer; [auth] Harbor's token service, which TCR names harbor-registry.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from tencentcloud.common.sign import Sign

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.ending import EndingUsers
from tests.contract.leaks import Secret

SECRET_ID, SECRET_KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
JSON = {"Content-Type": "application/json"}
TCR = Profile(name="tcr", deletes_tags=False)


class TcrError(Exception):
    """[api] An Error in a Response, whose status is 200."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FakeTcr(SampleRegistry):
    """One instance in ap-shanghai; its name is the first part of its host."""

    def __init__(self, *, ttl_seconds: float = 5.0, page: int = 100) -> None:
        self.tokens = TokenService({}, service="harbor-registry", ttl_seconds=5)
        super().__init__(profile=TCR, auth=BearerAuth(self.tokens))
        self.users = EndingUsers()
        self.tokens.users = self.users
        self.control = HttpServer(self._handle_control)
        self.namespaces: set[str] = set()
        self.forbidden: set[str] = set()  # namespaces that the SecretId may not make
        self.repositories: set[str] = set()
        self.actions: list[str] = []
        self.hooks: dict[int, tuple[str, dict[str, Any]]] = {}
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
        """The secret key signs and is never sent."""
        return [Secret(SECRET_KEY)]

    def _handle(self, request: Request) -> Response:
        if (found := re.fullmatch(r"/v2/([^/]+)/.+/(blobs|manifests|tags)/.*", request.path)) and (
            found[1] not in self.namespaces
        ):
            error = ApiError(404, "NOT_FOUND", f"project {found[1]} not found")
            return Response(error.status, dict(JSON), error.body)
        if request.path == "/v2/_catalog":
            return Response(401, dict(JSON), b"{}")
        return super()._handle(request)

    # ---- the API -------------------------------------------------------------------------------------

    def _handle_control(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is not None and rule.body is not None:
            return Response(200, dict(JSON), rule.body)
        body = request.body.read(1 << 20)
        try:
            self._hold_to_signature(request, body)
            value = self._act(request.headers.get("x-tc-action", ""), request, json.loads(body))
        except TcrError as error:
            value = {"Error": {"Code": error.code, "Message": error.message}}
        told = {"Response": {**value, "RequestId": "3c140219-cfe9-470e-b241-907877d6fb03"}}
        return Response(200, dict(JSON), json.dumps(told).encode())

    def _hold_to_signature(self, request: Request, body: bytes) -> None:
        """[sign]"""
        given, stamp = request.headers["authorization"], request.headers["x-tc-timestamp"]
        found = re.fullmatch(
            r"TC3-HMAC-SHA256 Credential=([^/]+)/([0-9-]+)/tcr/tc3_request, "
            r"SignedHeaders=content-type;host, Signature=([0-9a-f]{64})",
            given,
        )
        if found is None or found[1] != SECRET_ID:
            raise TcrError("AuthFailure.SecretIdNotFound", "The SecretId is not found")
        if abs(time.time() - int(stamp)) > 300:
            raise TcrError("AuthFailure.SignatureExpire", "The request is expired")
        headers = request.headers
        canonical = (
            f"POST\n/\n\ncontent-type:{headers['content-type']}\nhost:{headers['host']}\n\n"
            f"content-type;host\n{hashlib.sha256(body).hexdigest()}"
        )
        text = (
            f"TC3-HMAC-SHA256\n{stamp}\n{found[2]}/tcr/tc3_request\n"
            f"{hashlib.sha256(canonical.encode()).hexdigest()}"
        )
        if Sign.sign_tc3(SECRET_KEY, found[2], "tcr", text) != found[3]:
            raise TcrError("AuthFailure.SignatureFailure", "The signature does not match")

    def _act(self, action: str, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        if request.headers.get("x-tc-version") != "2019-09-24":
            raise TcrError("NoSuchVersion", "The version is not there")
        if action == "DescribeInstances":
            return self._instances(asked)
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateInstanceToken": self._token,
            "DescribeNamespaces": self._namespaces,
            "CreateNamespace": self._create_namespace,
            "DescribeRepositories": self._repositories,
            "CreateRepository": self._create_repository,
            "DescribeImages": self._images,
            "DeleteImage": self._delete,
            "DescribeWebhookTrigger": self._triggers,
            "CreateWebhookTrigger": self._create_trigger,
            "ModifyWebhookTrigger": self._modify_trigger,
            "DeleteWebhookTrigger": self._delete_trigger,
        }
        if action not in actions:
            raise TcrError("InvalidAction", action)
        if asked.get("RegistryId") != "tcr-fake" or request.headers["x-tc-region"] != "ap-shanghai":
            raise TcrError("ResourceNotFound.ErrNoInstance", "no such instance in this region")
        self.actions.append(action)
        return actions[action](asked)

    def _instances(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = self.host.partition(".")[0]
        wanted = [value for rule in asked.get("Filters", []) for value in rule["Values"]]
        row = {
            "RegistryId": "tcr-fake",
            "RegistryName": name,
            "RegistryType": "basic",
            "Status": "Running",
            "PublicDomain": self.host,
            "CreatedAt": "2026-01-01T00:00:00Z",
            "RegionName": "ap-shanghai",
            "RegionId": 4,
        }
        rows = [row] if name in wanted and asked.get("AllRegion") else []
        return {"TotalCount": len(rows), "Registries": rows}

    def _token(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("TokenType") not in ("temp", "longterm"):
            raise TcrError("InvalidParameter", "TokenType")
        with self._lock:
            self._count += 1
            user = f"10001234{self._count:04}"  # one a token: all of them hold until they end
        self.users.let_in(user, f"temp-{user}", self._ttl_seconds)
        ends = int((time.time() + self._ttl_seconds) * 1000)
        return {"Username": user, "Token": f"temp-{user}", "ExpTime": ends, "TokenId": ""}

    def _namespaces(self, asked: dict[str, Any]) -> dict[str, Any]:
        names = [n for n in sorted(self.namespaces) if asked.get("NamespaceName", "") in n]
        rows = [
            {"Name": n, "CreationTime": "2026-01-01 00:00:00", "Public": False, "NamespaceId": 1}
            for n in names
        ]
        return {"NamespaceList": rows, "TotalCount": len(rows)}

    def _create_namespace(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["NamespaceName"] in self.forbidden:
            raise TcrError("UnauthorizedOperation", "you are not authorized to do it")
        with self._lock:
            if asked["NamespaceName"] in self.namespaces:
                raise TcrError("FailedOperation", "the namespace is there")
            if asked["IsPublic"] is not False:
                raise TcrError("InvalidParameter", "this fake's users want private ones")
            self.namespaces.add(asked["NamespaceName"])
        return {}

    def _names(self) -> list[str]:
        return sorted({*self.repositories, *self.storage.repositories()})

    def _repositories(self, asked: dict[str, Any]) -> dict[str, Any]:
        start = asked.get("NamespaceName", "")
        part = asked.get("RepositoryName", "")
        names = [
            n for n in self._names() if n.startswith(f"{start}/" if start else "") and part in n
        ]
        rows = [
            {
                "Name": n,
                "Namespace": n.partition("/")[0],
                "CreationTime": "2026-01-01 00:00:00",
                "Public": False,
                "Description": "",
                "BriefDescription": "",
                "UpdateTime": "2026-01-01 00:00:00",
            }
            for n in names
        ]
        return self._listed("RepositoryList", rows, asked)

    def _create_repository(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"{asked['NamespaceName']}/{asked['RepositoryName']}"
        if asked["NamespaceName"] not in self.namespaces:
            raise TcrError("ResourceNotFound", "no such namespace")
        with self._lock:
            if name in self.repositories:
                raise TcrError("FailedOperation", "the repository is there")
            self.repositories.add(name)
        return {}

    def _images(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"{asked['NamespaceName']}/{asked['RepositoryName']}"
        if name not in self._names():
            raise TcrError("ResourceNotFound.ErrNoRepo", "no such repository")
        rows = [
            {
                "Digest": d,
                "Size": 1,
                "ImageVersion": t,
                "UpdateTime": "2026-01-01 00:00:00",
                "Kind": "",
            }
            for t, d in sorted((self.storage.tags(name) or {}).items())
        ]
        return self._listed("ImageInfoList", rows, asked)

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"{asked['NamespaceName']}/{asked['RepositoryName']}"
        if not self.storage.delete_tag(name, asked["ImageVersion"]):
            raise TcrError("ResourceNotFound", "no such image")
        return {}

    def _triggers(self, asked: dict[str, Any]) -> dict[str, Any]:
        rows = [
            {**body, "Id": number, "NamespaceId": 1}
            for number, (where, body) in self.hooks.items()
            if where == asked["Namespace"]
        ]
        return self._listed("Triggers", rows, asked)

    def _create_trigger(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["Namespace"] not in self.namespaces:
            raise TcrError("ResourceNotFound", "no such namespace")
        if not asked["Trigger"]["Condition"]:
            raise TcrError("InvalidParameter", "Condition")
        with self._lock:
            number = len(self.hooks) + 1
            self.hooks[number] = (asked["Namespace"], asked["Trigger"])
        return {"Trigger": {**asked["Trigger"], "Id": number}}

    def _modify_trigger(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["Trigger"]["Id"] not in self.hooks:
            raise TcrError("ResourceNotFound", "no such trigger")
        self.hooks[asked["Trigger"]["Id"]] = (asked["Namespace"], asked["Trigger"])
        return {}

    def _delete_trigger(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.hooks.pop(asked["Id"], None) is None:
            raise TcrError("ResourceNotFound", "no such trigger")
        return {}

    def _listed(self, member: str, rows: list[Any], asked: dict[str, Any]) -> dict[str, Any]:
        """[api] Offset is the number of a page, from 1; Limit is 100 at most."""
        if not 1 <= asked.get("Limit", 20) <= 100:
            raise TcrError("InvalidParameter", "Limit")
        start = (asked.get("Offset", 1) - 1) * asked.get("Limit", 20)
        return {member: rows[start : start + asked.get("Limit", 20)], "TotalCount": len(rows)}
