"""A contract fake of Huawei SWR: its logins, its API over the sample registry.

Sources: [login] support.huaweicloud.com "Obtaining a Long-Term Valid Login Command": user REGION@AK, password the
hexadecimal HMAC-SHA256 of the AK with the SK as key; [api] goharbor/harbor src/pkg/reg/adapter/huawei; [token] the same,
getJwtToken; [delete] support.huaweicloud.com/api-swr/swr_02_0036 (DeleteRepoTag, / of a repository as $); [sign] ibid.
"AK/SK Signing and Authentication". Strict: what is not in them is 404.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import json
import re
import subprocess
import threading
import time
from urllib.parse import unquote

from api.samples.auth import BearerAuth, TokenService, basic_credentials
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json;charset=utf-8"}
SWR = Profile(name="swr", referrers_api=False, deletes_tags=False, single_post=False)
TOKENS = "/swr/auth/v2/registry/auth"


def documented_password(access_key: str, secret_key: str) -> str:
    """The command that the documentation tells to run: printf AK | openssl dgst -binary -sha256 -hmac SK | od."""
    words = ["openssl", "dgst", "-sha256", "-hmac", secret_key]
    told = subprocess.run(
        words, input=access_key.encode(), capture_output=True, check=True, timeout=30
    )
    return told.stdout.decode().strip().rpartition(" ")[2]


class FakeSwr(SampleRegistry):
    """SWR of one region for one access key; `others` are organizations of other accounts."""

    def __init__(self, region: str, access_key: str, secret_key: str) -> None:
        self.keys = access_key, secret_key
        self.user = f"{region}@{access_key}"
        self.secret_key = secret_key
        self.password = documented_password(access_key, secret_key)
        self.tokens = TokenService({self.user: self.password}, service="dockyard", ttl_seconds=5)
        auth = BearerAuth(self.tokens)
        super().__init__(profile=SWR, auth=auth)
        auth.realm = f"{self.url}{TOKENS}"
        self.organizations: set[str] = set()
        self.others: set[str] = set()
        self.may_make = True
        self._making = threading.Lock()

    def secrets(self) -> list[Secret]:
        """The secret key is never sent."""
        return [Secret(self.secret_key)]

    def _handle(self, request: Request) -> Response:
        if request.path == TOKENS:
            return self.tokens.handle(request)
        if request.path.startswith("/dockyard/"):
            try:
                return self._api(request)
            except ApiError as error:
                return Response(error.status, dict(JSON), error.body)
        if request.path.startswith("/v2/manage/"):
            try:
                return self._manage(request)
            except ApiError as error:
                return Response(error.status, dict(JSON), error.body)
        if request.path == "/v2/_catalog":
            return Response(404, dict(JSON), b'{"errors":[{"code":"NOT_FOUND"}]}')
        answer = super()._handle(request)
        name = request.path.removeprefix("/v2/")
        if answer.status < 300 and "/" in name and name.partition("/")[0] not in self.organizations:
            document = {
                "errors": [{"code": "NAMESPACE_NOT_FOUND", "message": "namespace not exist"}]
            }
            return Response(404, dict(JSON), json.dumps(document).encode())
        return answer

    def _api(self, request: Request) -> Response:
        if basic_credentials(request) != (self.user, self.password):
            raise ApiError(401, "SVCSTG.SWR.4010000", "Authenticate Error")
        path = request.path.removeprefix("/dockyard/v2")
        if (path, request.method) == ("/repositories", "GET"):
            if request.query().get("filter") != "center::self":
                raise ApiError(400, "SVCSTG.SWR.4001020", "Invalid filter")
            return self._repositories()
        if (path, request.method) == ("/namespaces", "POST"):
            return self._make(json.loads(request.body.read(1 << 16))["namespace"])
        name = path.removeprefix("/namespaces/")
        if name != path and request.method == "GET":
            if name not in self.organizations:
                raise ApiError(404, "SVCSTG.SWR.4040404", "Namespace not exist")
            return Response(
                200, dict(JSON), json.dumps({"id": 7, "name": name, "auth": 7}).encode()
            )
        raise ApiError(404, "NOT_FOUND")

    def _manage(self, request: Request) -> Response:
        """[delete]"""
        self._hold_to_signature(request)
        place = r"/v2/manage/namespaces/([^/]+)/repos/([^/]+)/tags/([^/]+)"
        found = re.fullmatch(place, unquote(request.path))
        if request.method != "DELETE" or found is None:
            raise ApiError(404, "SVCSTG.SWR.4040000", "The API does not exist")
        name = f"{found[1]}/{found[2].replace('$', '/')}"
        if not self.storage.delete_tag(name, found[3]):
            raise ApiError(404, "SVCSTG.SWR.4040404", "Image tag not exist")
        return Response(204)

    def _hold_to_signature(self, request: Request) -> None:
        """[sign]"""
        headers = request.headers
        stamp, names = headers.get("x-sdk-date", ""), "content-type;host;x-sdk-date"
        asked = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        lines = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
        path = request.path.replace("$", "%24")
        nothing = hashlib.sha256(request.body.read(1)).hexdigest()
        canonical = f"{request.method}\n{path}/\n\n{lines}\n{names}\n{nothing}"
        text = f"SDK-HMAC-SHA256\n{stamp}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key, secret = self.keys
        signature = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
        wanted = f"SDK-HMAC-SHA256 Access={key}, SignedHeaders={names}, Signature={signature}"
        if headers.get("authorization") != wanted or abs(time.time() - asked) > 900:
            raise ApiError(401, "APIGW.0301", "Incorrect IAM authentication information")

    def _repositories(self) -> Response:
        rows = []
        for full in self.storage.repositories():
            namespace, _, name = full.partition("/")
            row = {"name": name, "namespace": namespace, "is_public": False, "size": 1}
            rows.append({**row, "tags": sorted(self.storage.tags(full) or {})})
        return Response(200, dict(JSON), json.dumps(rows).encode())

    def _make(self, name: str) -> Response:
        if not self.may_make:
            raise ApiError(403, "SVCSTG.SWR.4030003", "Operation forbidden")
        with self._making:
            if name in self.organizations | self.others:
                raise ApiError(409, "SVCSTG.SWR.4090000", "Namespace has already existed")
            self.organizations.add(name)
        return Response(201, dict(JSON))
