"""A contract fake of private ECR: its API on one port, its registry on another, blobs on a third.

Sources: [api] Amazon ECR API Reference (2015-09-21) and botocore's ecr/2015-09-21/service-2.json, held
to moto by test_ecr.py; [http] Amazon ECR User Guide, "Using HTTP API authentication"; [immutable] ibid.
"Image tag mutability"; [mount] ibid. "Blob mounting" (off unless the account switches it on);
[part] API reference, UploadLayerPart and LayerPartTooSmallException; [201] regclient answers PATCH with
201 as ECR does. Strict: a request that is not signed right is refused.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from api.samples.auth import basic_credentials
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.aws import AwsError
from tests.contract.eventbridge import FakeEventBridge
from tests.contract.leaks import Secret

ACCOUNT = "123456789012"
REGION = "us-east-1"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JSON = {"Content-Type": "application/x-amz-json-1.1"}
ECR = Profile(name="ecr", single_post=False, deletes_tags=False)


class EcrAuth:
    """[http] Basic with user AWS and a token that ends."""

    def __init__(self, ttl_seconds: float) -> None:
        self.ttl_seconds = ttl_seconds
        self.issued: dict[str, float] = {}
        self._count = 0

    def issue(self) -> tuple[str, float]:
        """Return a new token and the time at which it ends."""
        self._count += 1
        token = f"token-{self._count}"
        ends = time.time() + self.ttl_seconds
        self.issued[token] = ends
        return token, ends

    def check(self, request: Request, resource: str, action: str) -> None:
        if self.allows(request, resource, action):
            return
        found = basic_credentials(request)
        if found is not None and found[1] in self.issued:
            words = "Your authorization token has expired. Reauthenticate and try again."
            raise ApiError(403, "DENIED", words)
        challenge = f'Basic realm="https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/",'
        challenge += 'service="ecr.amazonaws.com"'
        raise ApiError(401, "UNAUTHORIZED", headers={"Www-Authenticate": challenge})

    def allows(self, request: Request, resource: str, action: str) -> bool:
        found = basic_credentials(request)
        return (
            found is not None and found[0] == "AWS" and self.issued.get(found[1], 0) > time.time()
        )


class FakeEcr(SampleRegistry):
    """ECR. `repositories` maps what is there to whether its tags are immutable."""

    target = "AmazonEC2ContainerRegistry_V20150921"
    service = "ecr"

    def __init__(self, *, ttl_seconds: float = 5.0, page: int = 1000, part: int = 5 << 20) -> None:
        self.ecr = EcrAuth(ttl_seconds)
        super().__init__(profile=ECR, auth=self.ecr, redirect_blobs=True)
        self.api.mounts = False  # [mount]
        self.control = HttpServer(self._handle_control)
        self.bridge = FakeEventBridge(REGION, ACCOUNT)
        self.repositories: dict[str, bool] = {}
        self._making = threading.Lock()
        self._page = page
        self._part = part
        self._parts: dict[str, list[int]] = {}
        self.actions: list[str] = []
        self.session = ""  # that the key's requests have to bear

    def start(self) -> Self:
        self.control.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.control.close()

    def secrets(self) -> list[Secret]:
        """The key signs and is never sent; its tokens are for the registry, not for its blobs' host."""
        tokens = [Secret(one, frozenset({self.host}), ("AWS",)) for one in self.ecr.issued]
        return [Secret(SECRET), *tokens]

    @property
    def hooks(self) -> dict[str, tuple[str, Any]]:
        """All that EventBridge has; it is of no repository."""
        return self.bridge.hooks()

    # ---- the registry --------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests|tags|referrers)/.*", request.path)
        if found is None:
            return super()._handle(request)
        name = found[1]
        try:
            self.ecr.check(request, "", "")
            if name not in self.repositories:
                words = f"The repository with name '{name}' does not exist in the registry with id"
                raise ApiError(404, "NAME_UNKNOWN", f"{words} '{ACCOUNT}'")  # noqa: TRY301
            self._hold_to_immutability(request, name)
            self._hold_to_parts(request)
        except ApiError as error:
            return Response(error.status, {**JSON, **error.headers}, error.body)
        answer = super()._handle(request)
        if request.method == "PATCH" and answer.status == 202:
            answer.status = 201  # [201]
        return answer

    def _hold_to_immutability(self, request: Request, name: str) -> None:
        """[immutable]"""
        tag = request.path.rpartition("/")[2]
        if (
            request.method == "PUT"
            and self.repositories[name]
            and tag in (self.storage.tags(name) or ())
        ):
            words = (
                f"The image tag '{tag}' already exists in the '{name}' repository and cannot be "
            )
            raise ApiError(400, "TAG_INVALID", words + "overwritten because the tag is immutable.")

    def _hold_to_parts(self, request: Request) -> None:
        """[part] Every part but the last has 5 MiB."""
        session = request.path.rpartition("/")[2]
        if request.method == "PATCH":
            self._parts.setdefault(session, []).append(request.body.length or 0)
        elif request.method == "PUT" and any(
            size < self._part for size in self._parts.pop(session, [])[:-1]
        ):
            raise ApiError(400, "BLOB_UPLOAD_INVALID", "Layer parts must be at least 5 MiB")

    # ---- the API -------------------------------------------------------------------------------------

    def _handle_control(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is not None and rule.status is not None:
            answer = Response(rule.status)
            rule.apply(answer)
            return answer
        body = request.body.read(1 << 20)
        try:
            target, _, action = request.headers.get("x-amz-target", "").rpartition(".")
            if target == "AWSEvents":
                self._hold_to_signature(request, body, "events")
                told = self.bridge.act(action, json.loads(body))
                return Response(200, dict(JSON), b"" if told is None else json.dumps(told).encode())
            self._hold_to_signature(request, body, self.service)
            actions = self._actions() if target == self.target else {}
            if action not in actions:
                raise AwsError("UnknownOperationException", "")  # noqa: TRY301
            self.actions.append(action)
            value = actions[action](json.loads(body))
            if rule is not None and rule.after is not None:
                rule.after(request, Response(200))
        except AwsError as error:
            told = {"__type": error.kind, "message": error.message}
            return Response(400, dict(JSON), json.dumps(told).encode())
        return Response(200, dict(JSON), json.dumps(value).encode())

    def _actions(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {
            "GetAuthorizationToken": self._token,
            "CreateRepository": self._create,
            "DescribeRepositories": self._describe,
            "ListImages": self._images,
            "BatchDeleteImage": self._delete,
        }

    def _hold_to_signature(self, request: Request, body: bytes, service: str) -> None:
        """Let botocore sign the same request at the same time."""
        given = request.headers.get("authorization", "")
        signed = re.search(r"SignedHeaders=([a-z0-9;-]+)", given)
        moment = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=UTC
        )
        if signed is None or abs(time.time() - moment.timestamp()) > 300:
            raise AwsError("InvalidSignatureException", "Signature expired")
        names = [name for name in signed[1].split(";") if name not in ("host", "x-amz-date")]
        again = AWSRequest(
            "POST",
            f"http://{request.headers['host']}/",
            data=body,
            headers={name: request.headers[name] for name in names},
        )
        again.context["timestamp"] = request.headers["x-amz-date"]
        if request.headers.get("x-amz-security-token", "") != self.session:
            raise AwsError("UnrecognizedClientException", "The security token is invalid")
        signer = SigV4Auth(Credentials(KEY, SECRET), service, REGION)
        again.headers["X-Amz-Date"] = request.headers["x-amz-date"]
        text = signer.string_to_sign(again, signer.canonical_request(again))
        if not given.endswith(f"Signature={signer.signature(text, again)}"):
            raise AwsError("InvalidSignatureException", "The signature does not match")

    def _token(self, asked: dict[str, Any]) -> dict[str, Any]:
        del asked
        token, ends = self.ecr.issue()
        row = {
            "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
            "expiresAt": ends,
            "proxyEndpoint": f"https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
        }
        return {"authorizationData": [row]}

    def _row(self, name: str) -> dict[str, Any]:
        return {
            "repositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}",
            "registryId": ACCOUNT,
            "repositoryName": name,
            "repositoryUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}",
            "createdAt": 1700000000.0,
            "imageTagMutability": "IMMUTABLE" if self.repositories[name] else "MUTABLE",
            "imageScanningConfiguration": {"scanOnPush": False},
            "encryptionConfiguration": {"encryptionType": "AES256"},
        }

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["repositoryName"]
        with self._making:
            if name in self.repositories:
                words = f"The repository with name '{name}' already exists in the registry"
                raise AwsError("RepositoryAlreadyExistsException", words)
            self.repositories[name] = asked.get("imageTagMutability") == "IMMUTABLE"
        return {"repository": self._row(name)}

    def _known(self, name: str) -> str:
        if name not in self.repositories:
            words = f"The repository with name '{name}' does not exist in the registry"
            raise AwsError("RepositoryNotFoundException", words)
        return name

    def _describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "repositoryNames" in asked:
            return {"repositories": [self._row(self._known(n)) for n in asked["repositoryNames"]]}
        return self._listed(
            "repositories", [self._row(n) for n in sorted(self.repositories)], asked
        )

    def _images(self, asked: dict[str, Any]) -> dict[str, Any]:
        tags = self.storage.tags(self._known(asked["repositoryName"])) or {}
        rows = [{"imageDigest": digest, "imageTag": tag} for tag, digest in sorted(tags.items())]
        return self._listed("imageIds", rows, asked)

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = self._known(asked["repositoryName"])
        deleted, failures = [], []
        for one in asked["imageIds"]:
            digest = (self.storage.tags(name) or {}).get(one["imageTag"])
            if digest is None:
                words = "Requested image not found"
                failures.append(
                    {"imageId": one, "failureCode": "ImageNotFound", "failureReason": words}
                )
                continue
            self.storage.delete_tag(name, one["imageTag"])
            deleted.append({"imageDigest": digest, "imageTag": one["imageTag"]})
        return {"imageIds": deleted, "failures": failures}

    def _listed(self, member: str, rows: list[Any], asked: dict[str, Any]) -> dict[str, Any]:
        most = min(asked.get("maxResults", 100), self._page)
        if not 1 <= asked.get("maxResults", 100) <= 1000:
            raise AwsError("InvalidParameterException", "maxResults")
        start = int(asked.get("nextToken") or 0)
        following = {"nextToken": str(start + most)} if start + most < len(rows) else {}
        return {member: rows[start : start + most], **following}
