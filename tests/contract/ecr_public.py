"""A contract fake of ECR Public: its API on one port, its registry on another.

Sources: [api] Amazon ECR Public API Reference (2020-10-30) and botocore's ecr-public/2020-10-30/service-2.json, by which
boto3 judges this fake in test_ecr_public.py; [names] ibid. Repository.repositoryUri: public.ecr.aws/ALIAS/NAME;
[http] Amazon ECR Public User Guide, "Registry authentication": user AWS, Bearer by public.ecr.aws/token/; [delete] API reference,
BatchDeleteImage: a tag alone, the image with its last one. Strict: a request that is not signed right is refused.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from api.samples.auth import BearerAuth, TokenService, basic_credentials
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.registry import SampleRegistry
from tests.contract.ecr import ACCOUNT, JSON, FakeEcr

ALIAS = "crew"
OWN = re.compile(rf"/v2/{ALIAS}/(.+)/(?:blobs|manifests|tags|referrers)/.*")


class FakeEcrPublic(FakeEcr):
    """ECR Public of one account, whose alias is `crew`; the repositories of other aliases take no pushes."""

    target = "SpencerFrontendService"
    service = "ecr-public"

    def __init__(self, *, ttl_seconds: float = 5.0, page: int = 1000) -> None:
        super().__init__(ttl_seconds=ttl_seconds, page=page)
        self.users: dict[str, str] = {}
        self._lock = threading.Lock()
        self.tokens = TokenService(self.users, service="public.ecr.aws", ttl_seconds=5)
        auth = BearerAuth(self.tokens)
        self.api.auth = auth
        auth.realm = f"{self.url}/token/"

    def _handle(self, request: Request) -> Response:
        if request.path == "/token/":
            with self._lock:
                self._let_in(request)
                return self.tokens.handle(request)
        if request.path == "/v2/_catalog":
            return Response(404, dict(JSON), b'{"errors":[{"code":"UNSUPPORTED"}]}')
        answer = SampleRegistry._handle(self, request)
        found = OWN.fullmatch(request.path)
        if answer.status < 300 and found is not None and found[1] not in self.repositories:
            error = ApiError(404, "NAME_UNKNOWN", f"repository {found[1]} not found")
            return Response(error.status, dict(JSON), error.body)
        return answer

    def _let_in(self, request: Request) -> None:
        """[http] Every token that has not ended is a password of the user AWS."""
        _, token = basic_credentials(request) or ("", "")
        self.users.clear()
        if self.ecr.issued.get(token, 0) > time.time():
            self.users["AWS"] = token

    # ---- the API -------------------------------------------------------------------------------------

    def _actions(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {
            "GetAuthorizationToken": self._token,
            "DescribeRegistries": self._registries,
            "CreateRepository": self._create,
            "DescribeRepositories": self._describe,
            "DescribeImageTags": self._tags,
            "BatchDeleteImage": self._delete_public,
        }

    def _token(self, asked: dict[str, Any]) -> dict[str, Any]:
        del asked
        token, ends = self.ecr.issue()
        text = base64.b64encode(f"AWS:{token}".encode()).decode()
        return {"authorizationData": {"authorizationToken": text, "expiresAt": ends}}

    def _registries(self, asked: dict[str, Any]) -> dict[str, Any]:
        del asked
        aliases = [
            {
                "name": name,
                "status": status,
                "primaryRegistryAlias": name == ALIAS,
                "defaultRegistryAlias": name == "a1b2c3d4",
            }
            for name, status in ((ALIAS, "ACTIVE"), ("a1b2c3d4", "ACTIVE"), ("famous", "REJECTED"))
        ]
        row = {
            "registryId": ACCOUNT,
            "registryArn": f"arn:aws:ecr-public::{ACCOUNT}:registry/{ACCOUNT}",
            "registryUri": f"public.ecr.aws/{ALIAS}",
            "verified": False,
            "aliases": aliases,
        }
        return {"registries": [row]}

    def _row(self, name: str) -> dict[str, Any]:
        """[names]"""
        return {
            "repositoryArn": f"arn:aws:ecr-public::{ACCOUNT}:repository/{name}",
            "registryId": ACCOUNT,
            "repositoryName": name,
            "repositoryUri": f"public.ecr.aws/{ALIAS}/{name}",
            "createdAt": 1700000000.0,
        }

    def _tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = self._known(asked["repositoryName"])
        rows = [
            {
                "imageTag": tag,
                "createdAt": 1700000000.0,
                "imageDetail": {"imageDigest": digest, "imageSizeInBytes": 1},
            }
            for tag, digest in sorted((self.storage.tags(f"{ALIAS}/{name}") or {}).items())
        ]
        return self._listed("imageTagDetails", rows, asked)

    def _delete_public(self, asked: dict[str, Any]) -> dict[str, Any]:
        """[delete]"""
        name = f"{ALIAS}/{self._known(asked['repositoryName'])}"
        deleted, failures = [], []
        for one in asked["imageIds"]:
            digest = (self.storage.tags(name) or {}).get(one["imageTag"])
            if digest is None:
                failure = {"failureCode": "ImageNotFound", "failureReason": "not found"}
                failures.append({"imageId": one, **failure})
                continue
            self.storage.delete_tag(name, one["imageTag"])
            deleted.append({"imageDigest": digest, "imageTag": one["imageTag"]})
        return {"imageIds": deleted, "failures": failures}
