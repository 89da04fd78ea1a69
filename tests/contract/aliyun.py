"""A contract fake of Alibaba Cloud Container Registry, Enterprise Edition: its API on one port, its registry on another.

Sources: [api] ACR API 2018-12-01 with the members that alibabacloud-cr20181201 has; [sign] "V3 request structure and
signature"; test_aliyun.py has a signature made by the vendor's own signer. The codes of errors are in neither
and are guesses: on them hangs which error a user reads, and that a tag that is gone counts as deleted. Strict: an action that is not in them is refused.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from api.samples.auth import BearerAuth
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from service.registry.providers.aliyun import sign
from tests.contract.ending import EndingTokens, EndingUsers
from tests.contract.leaks import Secret

ACCESS_KEY, SECRET = "LTAIEXAMPLEEXAMPLE00", "c2VjcmV0RVhBTVBMRQ"
INSTANCE, REGION, IDENTITY = "team-east", "cn-hangzhou", "cri-3k5example0000"
JSON = {"Content-Type": "application/json;charset=utf-8"}
ALIYUN = Profile(name="aliyun-acr", referrers_api=False, deletes_tags=False)


class AliyunError(Exception):
    """[api] Code and Message of an answer, with its HTTP status."""

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


class FakeAliyun(SampleRegistry):
    """One instance."""

    def __init__(self, *, ttl_seconds: float = 5.0) -> None:
        self.users = EndingUsers()
        self.tokens = EndingTokens(self.users, service="registry.aliyuncs.com", ttl_seconds=5)
        super().__init__(profile=ALIYUN, auth=_Auth(self.tokens))
        self.control = HttpServer(self._handle_control)
        self.namespaces: set[str] = set()
        self.repositories: set[str] = set()
        self.actions: list[str] = []
        self.hooks: dict[str, tuple[str, dict[str, Any]]] = {}
        self.nonces: set[str] = set()
        self.session = ""  # that the key's requests have to bear
        self._ttl_seconds = ttl_seconds
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
        return [Secret(SECRET)]

    def _handle(self, request: Request) -> Response:
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests|tags)/.*", request.path)
        if found is not None and found[1] not in self.repositories:
            error = ApiError(401, "UNAUTHORIZED", "authentication required")
            return Response(error.status, dict(JSON), error.body)
        if request.path == "/v2/_catalog":
            return Response(401, dict(JSON), b"{}")
        return super()._handle(request)

    # ---- the API -------------------------------------------------------------------------------------

    def _handle_control(self, request: Request) -> Response:
        status, told = 200, dict[str, Any]()
        asked = dict(request.query())
        try:
            self._hold_to_signature(request)
            told = {**self._act(request, asked), "Code": "success", "IsSuccess": True}
        except AliyunError as error:
            status = error.status
            told = {"Code": error.code, "Message": str(error), "HostId": request.headers["host"]}
        told["RequestId"] = "26FE2AF4-5CD8-5C23-B8CD-4A0F49C9E8C2"
        return Response(status, dict(JSON), json.dumps(told).encode())

    def _moment(self, text: str) -> datetime:
        """[sign] When a request says that it was signed."""
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - moment) > timedelta(minutes=15):
            raise AliyunError(400, "InvalidTimeStamp.Expired", "the time stamp is expired")
        return moment

    def _hold_to_signature(self, request: Request) -> None:
        """[sign]"""
        headers = request.headers
        moment = self._moment(headers["x-acs-date"])
        wanted = sign(
            ACCESS_KEY,
            SECRET,
            host=headers["host"],
            action=headers["x-acs-action"],
            query=request.target.partition("?")[2],
            moment=moment,
            nonce=headers["x-acs-signature-nonce"],
            token=self.session,
        )
        if headers.get("x-acs-security-token", "") != self.session:
            raise AliyunError(
                403, "InvalidSecurityToken.Mismatch", "the security token is not right"
            )
        if wanted["Authorization"] != headers["authorization"]:
            raise AliyunError(400, "SignatureDoesNotMatch", "the signature does not match")
        with self._lock:
            if headers["x-acs-signature-nonce"] in self.nonces:
                raise AliyunError(400, "SignatureNonceUsed", "the nonce was used")
            self.nonces.add(headers["x-acs-signature-nonce"])

    def _act(self, request: Request, asked: dict[str, str]) -> dict[str, Any]:
        action = request.headers["x-acs-action"]
        if request.headers["x-acs-version"] != "2018-12-01":
            raise AliyunError(400, "InvalidVersion", "no such version")
        if action == "ListInstance":
            rows = [{"InstanceId": IDENTITY, "InstanceName": INSTANCE, "RegionId": REGION}]
            return {"Instances": [r for r in rows if r["InstanceName"] == asked["InstanceName"]]}
        actions: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
            "GetAuthorizationToken": self._token,
            "ListNamespace": self._list_namespace,
            "CreateNamespace": self._create_namespace,
            "ListRepository": self._list_repository,
            "CreateRepository": self._create_repository,
            "ListRepoTag": self._list_repo_tag,
            "DeleteRepoTag": self._delete_repo_tag,
            "ListRepoTrigger": self._list_repo_trigger,
            "CreateRepoTrigger": self._create_repo_trigger,
            "DeleteRepoTrigger": self._delete_repo_trigger,
        }
        if action not in actions:
            raise AliyunError(404, "InvalidAction.NotFound", f"no action {action}")
        if asked.get("InstanceId") != IDENTITY:
            raise AliyunError(404, "INSTANCE_NOT_EXIST", "no such instance")
        self.actions.append(action)
        return actions[action](asked)

    def _token(self, _asked: dict[str, str]) -> dict[str, Any]:
        with self._lock:
            self._count += 1
            self.users.let_in("cr_temp_user", f"token-{self._count}", self._ttl_seconds)
        return {
            "TempUsername": "cr_temp_user",
            "AuthorizationToken": f"token-{self._count}",
            "ExpireTime": int((time.time() + self._ttl_seconds) * 1000),
        }

    def _list_namespace(self, asked: dict[str, str]) -> dict[str, Any]:
        start = asked.get("NamespaceName", "")
        rows = [{"NamespaceName": n} for n in sorted(self.namespaces) if n.startswith(start)]
        return self._listed("Namespaces", asked, rows)

    def _create_namespace(self, asked: dict[str, str]) -> dict[str, Any]:
        if asked["DefaultRepoType"] not in ("PRIVATE", "PUBLIC"):
            raise AliyunError(400, "INVALID_PARAMETER", "DefaultRepoType")
        with self._lock:
            if asked["NamespaceName"] in self.namespaces:
                raise AliyunError(400, "NAMESPACE_EXIST", "the namespace exists")
            self.namespaces.add(asked["NamespaceName"])
        return {}

    def _list_repository(self, asked: dict[str, str]) -> dict[str, Any]:
        rows = []
        for full in sorted(self.repositories):
            namespace, _, name = full.partition("/")
            rows.append(
                {"RepoNamespaceName": namespace, "RepoName": name, "RepoId": _identity(full)}
            )
        return self._listed("Repositories", asked, rows)

    def _create_repository(self, asked: dict[str, str]) -> dict[str, Any]:
        if asked["RepoNamespaceName"] not in self.namespaces:
            raise AliyunError(404, "NAMESPACE_NOT_EXIST", "the namespace does not exist")
        if asked["RepoType"] not in ("PRIVATE", "PUBLIC") or not asked["Summary"]:
            raise AliyunError(400, "INVALID_PARAMETER", "RepoType and Summary are needed")
        full = f"{asked['RepoNamespaceName']}/{asked['RepoName']}"
        with self._lock:
            if full in self.repositories:
                raise AliyunError(400, "REPO_EXIST", "the repository exists")
            self.repositories.add(full)
        return {"RepoId": _identity(full)}

    def _list_repo_tag(self, asked: dict[str, str]) -> dict[str, Any]:
        tags = self.storage.tags(self._named(asked["RepoId"])) or {}
        rows = [
            {"Tag": tag, "Digest": digest.partition(":")[2], "Status": "NORMAL"}
            for tag, digest in sorted(tags.items())
        ]
        return self._listed("Images", asked, rows)

    def _delete_repo_tag(self, asked: dict[str, str]) -> dict[str, Any]:
        if not self.storage.delete_tag(self._named(asked["RepoId"]), asked["Tag"]):
            raise AliyunError(404, "REPO_TAG_NOT_EXIST", "the tag does not exist")
        return {}

    def _list_repo_trigger(self, asked: dict[str, str]) -> dict[str, Any]:
        name = self._named(asked["RepoId"])
        rows = [
            {**body, "TriggerId": one} for one, (where, body) in self.hooks.items() if where == name
        ]
        return {"Triggers": rows}

    def _create_repo_trigger(self, asked: dict[str, str]) -> dict[str, Any]:
        if asked["TriggerType"] not in ("ALL", "TAG_LISTTAG", "TAG_REG_EXP"):
            raise AliyunError(400, "INVALID_PARAMETER", "TriggerType")
        with self._lock:
            identity = f"crw-{len(self.hooks)}-{len(asked['TriggerUrl'])}"
            self.hooks[identity] = (self._named(asked["RepoId"]), dict(asked))
        return {"TriggerId": identity}

    def _delete_repo_trigger(self, asked: dict[str, str]) -> dict[str, Any]:
        if self.hooks.pop(asked["TriggerId"], None) is None:
            raise AliyunError(404, "TRIGGER_NOT_EXIST", "no such trigger")
        return {}

    def _named(self, identity: str) -> str:
        for full in self.repositories:
            if _identity(full) == identity:
                return full
        raise AliyunError(404, "REPO_NOT_EXIST", "the repository does not exist")

    def _listed(
        self, member: str, asked: dict[str, str], rows: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """[api] PageNo, PageSize at most 100, TotalCount as a text."""
        number, size = int(asked.get("PageNo", "1")), int(asked.get("PageSize", "30"))
        if size > 100:
            raise AliyunError(400, "INVALID_PARAMETER", "PageSize")
        page = rows[(number - 1) * size : number * size]
        return {member: page, "TotalCount": str(len(rows)), "PageNo": number, "PageSize": size}


def _identity(full: str) -> str:
    return f"crr-{full.encode().hex()}"
