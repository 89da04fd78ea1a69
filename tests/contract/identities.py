"""Contract fakes of what tells a machine who it is: AWS STS, Azure's and Google's token services.

Sources: [sts] AWS STS API Reference, AssumeRole (2011-06-15), and botocore's sts/2011-06-15/service-2.json, whose client parses the
answers; [imds] learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token, spoken with by
azure-identity; [app] learn.microsoft.com/azure/app-service/overview-managed-identity (REST endpoint reference), ibid.; [entra] learn.microsoft.com/entra/
identity-platform/v2-oauth2-client-creds-grant-flow (third case: federated credential), ibid.; [gce]
cloud.google.com/compute/docs/access/authenticate-workloads (metadata server), spoken with by google-auth; [wif]
cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token (RFC 8693), ibid.; [ram] alibabacloud.com/help/ecs, "Instance RAM roles"
(/latest/meta-data/ram/security-credentials/ROLE), the same members as alibabacloud-credentials reads from a URI; [volc] Volcengine's
metadata service as volcenginesdk-core 5.0.54 speaks with it (auth/providers/ecs_role_provider.py).
"""

from __future__ import annotations

import json
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qsl

from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from tests.contract.leaks import Secret

XML = {"Content-Type": "text/xml"}
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "application/text"}
RESOURCE = "https://containerregistry.azure.net"
ARM = "https://management.azure.com"
Issue = Callable[[], str]


class Served(ABC):
    """A server for as long as a test has it; `asked` are the requests that were answered."""

    def __init__(self, tls: ssl.SSLContext | None = None, server_name: str = "") -> None:
        self.server = HttpServer(self.answer, tls=tls, server_name=server_name)
        self.url, self.authority = self.server.url, self.server.authority
        self.asked: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @abstractmethod
    def answer(self, request: Request) -> Response:
        """Answer one request."""

    def form(self, request: Request) -> dict[str, str]:
        """The fields of a request's body, kept in `asked`."""
        fields = dict(parse_qsl(request.body.read(1 << 16).decode()))
        self.asked.append(fields)
        return fields


class FakeSts(Served):
    """[sts] AssumeRole for one role and external id; it gives `key`, with a session that `issue` names."""

    def __init__(self, role: str, external_id: str, key: tuple[str, str], issue: Issue) -> None:
        super().__init__()
        self._role = role
        self._external_id = external_id
        self._key = key
        self._issue = issue
        self.life = timedelta(hours=1)
        self.regions: list[str] = []

    def answer(self, request: Request) -> Response:
        """Answer AssumeRole."""
        fields = self.form(request)
        signed = request.headers.get("authorization", "")
        self.regions.append(signed.partition("Credential=")[2].split("/")[2])
        known = signed.startswith("AWS4-HMAC-SHA256 ") and fields.get("RoleArn") == self._role
        if fields.get("Action") != "AssumeRole" or fields.get("Version") != "2011-06-15":
            return _sts_error(400, "InvalidAction")
        if not known or fields.get("ExternalId", "") != self._external_id:
            return _sts_error(403, "AccessDenied")
        end = (datetime.now(UTC) + self.life).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><Arn>{self._role}/{fields["RoleSessionName"]}</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>{self._key[0]}</AccessKeyId><SecretAccessKey>{self._key[1]}</SecretAccessKey>
<SessionToken>{self._issue()}</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""
        return Response(200, dict(XML), body.encode())


def _sts_error(status: int, code: str) -> Response:
    body = f"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>not allowed</Message></Error><RequestId>r</RequestId></ErrorResponse>"""
    return Response(status, dict(XML), body.encode())


class FakeAzureMachine(Served):
    """[imds] and [app]: a machine with identities; `issue` makes an access token for registries."""

    def __init__(
        self, issue: Issue, clients: tuple[str, ...] = ("",), issue_arm: Issue | None = None
    ) -> None:
        """`clients` are the identities' client ids, "" the system's own; `issue_arm` makes a token for Resource Manager."""
        super().__init__()
        self._issues = {RESOURCE: issue} | ({} if issue_arm is None else {ARM: issue_arm})
        self._clients = clients
        self.life_seconds = 86400

    def answer(self, request: Request) -> Response:
        """Answer for a token; a request without the header that shows it is no forgery is refused."""
        query = request.query()
        self.asked.append(query)
        if request.path == "/metadata/identity/oauth2/token":
            if request.headers.get("metadata") != "true" or query["api-version"] != "2018-02-01":
                return _json(400, {"error": "invalid_request"})
        elif request.path != "/msi/token" or request.headers.get("x-identity-header") != "shown":
            return _json(404, {"error": "not_found"})
        resource = query.get("resource", "")
        if resource not in self._issues or query.get("client_id", "") not in self._clients:
            said = {"error": "invalid_request", "error_description": "Identity not found"}
            return _json(400, said)
        end = int(time.time()) + self.life_seconds
        return _json(
            200,
            {
                "access_token": self._issues[resource](),
                "client_id": query.get("client_id", "c"),
                "expires_in": str(self.life_seconds),
                "expires_on": str(end),
                "ext_expires_in": str(self.life_seconds),
                "not_before": str(end - self.life_seconds),
                "resource": resource,
                "token_type": "Bearer",
            },
        )


class FakeEntra(Served):
    """[entra] The token endpoint of one tenant, which trusts one federated token."""

    def __init__(self, tenant: str, assertion: str, issue: Issue, tls: ssl.SSLContext) -> None:
        super().__init__(tls=tls, server_name="localhost")
        self._tenant = tenant
        self._assertion = assertion
        self._issue = issue

    def secrets(self) -> list[Secret]:
        """The federated token is for it alone."""
        return [Secret(self._assertion, frozenset({self.authority}))]

    def answer(self, request: Request) -> Response:
        """Answer a client credentials grant."""
        fields = self.form(request)
        wanted = {
            "grant_type": "client_credentials",
            "scope": f"{RESOURCE}/.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._assertion,
        }
        if request.path != f"/{self._tenant}/oauth2/v2.0/token":
            return _json(404, {"error": "not_found"})
        if any(fields.get(key) != value for key, value in wanted.items()):
            return _json(401, {"error": "invalid_client", "error_description": "AADSTS700213"})
        return _json(
            200,
            {
                "token_type": "Bearer",
                "expires_in": 3599,
                "ext_expires_in": 3599,
                "access_token": self._issue(),
            },
        )


class FakeAlibabaMachine(Served):
    """[ram] What ALIBABA_CLOUD_CREDENTIALS_URI names: the key of a RAM role's session, as the metadata service tells it."""

    def __init__(self, key: tuple[str, str], issue: Issue) -> None:
        super().__init__()
        self._key = key
        self._issue = issue
        self.life = timedelta(hours=6)

    def answer(self, request: Request) -> Response:
        """Answer for the key that holds now."""
        self.asked.append(request.query())
        now = datetime.now(UTC)
        return _json(
            200,
            {
                "AccessKeyId": self._key[0],
                "AccessKeySecret": self._key[1],
                "Expiration": (now + self.life).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "SecurityToken": self._issue(),
                "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "Code": "Success",
            },
        )


class FakeVolcengineMachine(Served):
    """[volc] A metadata service with one IAM role, whose session has `key`; every other request bears its token."""

    def __init__(self, role: str, key: tuple[str, str], issue: Issue) -> None:
        super().__init__()
        self._role = role
        self._key = key
        self._issue = issue
        self.life = timedelta(hours=6)
        self.issued = 0

    def answer(self, request: Request) -> Response:
        """Answer for the token, the role's name or its key."""
        if request.path == "/latest/api/token":
            if request.method != "PUT" or "x-volc-ecs-metadata-token-ttl-seconds" not in (
                request.headers
            ):
                return Response(400, dict(TEXT), b"")
            return Response(200, dict(TEXT), b"a token of the metadata service")
        if request.headers.get("x-volc-ecs-metadata-token") != "a token of the metadata service":
            return Response(401, dict(TEXT), b"Unauthorized")
        self.asked.append(request.query())
        roles = "/volcstack/latest/iam/security_credentials"
        if request.path == roles and request.query() == {"type": "user", "format": "json"}:
            return _json(200, [self._role])
        if request.path != f"{roles}/{self._role}":
            return Response(404, dict(TEXT), b"")
        self.issued += 1
        now = datetime.now(UTC)
        return _json(
            200,
            {
                "AccessKeyId": self._key[0],
                "SecretAccessKey": self._key[1],
                "SessionToken": self._issue(),
                "CurrentTime": now.isoformat(timespec="seconds"),
                "ExpiredTime": (now + self.life).isoformat(timespec="seconds"),
            },
        )


class FakeGoogleMachine(Served):
    """[gce] A metadata server with a service account, and [wif] a token service for one subject token."""

    def __init__(self, issue: Issue, subject: str = "", life_seconds: int = 3600) -> None:
        super().__init__()
        self._issue = issue
        self._subject = subject
        self.life_seconds = life_seconds

    def secrets(self) -> list[Secret]:
        """The subject's token is for it alone."""
        return [Secret(self._subject, frozenset({self.authority}))] if self._subject else []

    def answer(self, request: Request) -> Response:
        """Answer what google-auth asks."""
        if request.path == "/v1/token":
            return self._exchange(request)
        flavor = {"Metadata-Flavor": "Google"}
        if request.headers.get("metadata-flavor") != "Google":
            return Response(403, flavor, b"Missing required header")
        self.asked.append(request.query())
        account = "/computeMetadata/v1/instance/service-accounts/default"
        answers: dict[str, Callable[[], Response]] = {
            "/": lambda: Response(200, dict(TEXT), b"computeMetadata/\n"),
            "/computeMetadata/v1/project/project-id": lambda: Response(200, dict(TEXT), b"fleet"),
            "/computeMetadata/v1/universe/universe-domain": lambda: Response(
                200, dict(TEXT), b"googleapis.com"
            ),
            f"{account}/": lambda: _json(
                200, {"aliases": ["default"], "email": "m@fleet", "scopes": ["cloud-platform"]}
            ),
            f"{account}/token": lambda: _json(
                200,
                {
                    "access_token": self._issue(),
                    "expires_in": self.life_seconds,
                    "token_type": "Bearer",
                },
            ),
        }
        path = request.path.replace("/m@fleet/", "/default/")  # by its email, once that is known
        made = answers.get(path, lambda: Response(404, {}, b""))()
        made.headers.update(flavor)
        return made

    def _exchange(self, request: Request) -> Response:
        fields = self.form(request)
        grant = "urn:ietf:params:oauth:grant-type:token-exchange"
        if fields.get("grant_type") != grant or fields.get("subject_token") != self._subject:
            return _json(400, {"error": "invalid_grant"})
        return _json(
            200,
            {
                "access_token": self._issue(),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": self.life_seconds,
            },
        )


def _json(status: int, value: Any) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
