"""Every provider's fake, set up alike: for tests that ask the same of all of them.

A stand is a fake that is empty but for what users make by hand, with the credential that its provider documents.
Its registry answers, its place (project, namespace, repository ...) is not there yet where the provider can make it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from api.samples.auth import BearerAuth, TokenService
from api.samples.faults import FaultRule
from api.samples.registry import SampleRegistry
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.registry.client import RegistryClient
from tests.contract import aliyun, ccr, ecr, ecr_public, tcr, volcengine
from tests.contract.acr import FakeAcr
from tests.contract.aliyun import FakeAliyun
from tests.contract.ccr import FakeCcr
from tests.contract.dockerhub import FakeHub
from tests.contract.ecr import FakeEcr
from tests.contract.ecr_public import FakeEcrPublic
from tests.contract.gar import KEY, FakeGar
from tests.contract.ghcr import FakeGitHub
from tests.contract.gitlab import FakeGitLab
from tests.contract.harbor import FakeHarbor
from tests.contract.jfrog import FakeJfrog
from tests.contract.quay import FakeQuay
from tests.contract.swr import FakeSwr
from tests.contract.tcr import FakeTcr
from tests.contract.volcengine import FakeVolcengine
from tests.integration.registry.support import client


@dataclass
class Stand:
    """One provider's fake; clients of it are closed with it."""

    provider: str
    registry: SampleRegistry
    credential: Credential
    place: str  # what names of repositories begin with
    keys: Mapping[str, Any] = field(default_factory=dict)  # of the endpoint, beside its provider
    url: str = ""  # by the host that the provider would give it; empty: the fake's own
    throttle: Callable[[], FaultRule] | None = None
    """Have the next calls of the provider's own API refused as it spells that; None: the registry answers 429."""
    _clients: list[RegistryClient] = field(default_factory=list)

    def repository(self, name: str = "app") -> str:
        """The full name of a repository in the place."""
        return f"{self.place}/{name}"

    def client(
        self, credential: Credential | None = None, provider: str | None = None, **keys: Any
    ) -> RegistryClient:
        """A client with these keys of the endpoint in place of the stand's; `provider` generic knows nothing of it."""
        members = {"provider": provider or self.provider, **self.keys, **keys}
        made = client(
            self.url or self.registry.url,
            name=self.provider,
            credential=credential or self.credential,
            endpoint=members,
        )
        self._clients.append(made)
        return made

    def ready_made(self) -> Credential:
        """What the registry itself takes: the credential, or what the provider's login gives for it."""
        given = self.client().provided.credential()
        return Credential(given.username, given.password)

    def endpoint(self, folder: Path) -> RegistryEndpoint:
        """The registry as a user configures it, by the name of its provider; its secret is in a file."""
        file = folder / f"{self.provider}.secret"
        file.write_text(self.credential.password)
        spec = CredentialSpec(self.credential.username, password_file=str(file))
        return RegistryEndpoint(
            self.provider,
            self.url or self.registry.url,
            provider=self.provider,
            credentials=spec,
            **self.keys,
        )

    def close(self) -> None:
        """Close the clients."""
        for one in self._clients:
            one.close()


def _harbor() -> Stand:
    user, password = "robot$mover", "harbor-s3cret"
    fake = FakeHarbor({user: password}, frozenset({user}))
    return Stand("harbor", fake, Credential(user, password), "team")


def _dockerhub() -> Stand:
    fake = FakeHub("crew", "dckr_pat_s3cret", page=2)
    keys = {"api_url": fake.hub.url}
    return Stand("dockerhub", fake, Credential("crew", "dckr_pat_s3cret"), "crew", keys)


def _aws(provider: str, fake: FakeEcr, place: str) -> Stand:
    def throttle() -> FaultRule:
        body = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'
        return fake.fault("^/$", method="POST", status=400, body=body, times=2)

    fake.api.mounts = True  # an account that has switched it on
    keys = {"api_url": fake.control.url}
    given = Credential(ecr.KEY, ecr.SECRET)
    return Stand(provider, fake, given, place, keys, throttle=throttle)


def _ecr() -> Stand:
    return _aws("ecr", FakeEcr(), "team")


def _ecr_public() -> Stand:
    return _aws("ecr-public", FakeEcrPublic(), ecr_public.ALIAS)


def _acr() -> Stand:
    return Stand("acr", FakeAcr("crew", "acr-s3cret"), Credential("crew", "acr-s3cret"), "team")


def _gar() -> Stand:
    fake = FakeGar()
    given = Credential("_json_key", json.dumps(KEY, separators=(",", ":")))
    return Stand("gar", fake, given, "fleet/apps", {"api_url": fake.control.url})


def _aliyun() -> Stand:
    fake = FakeAliyun()
    url = f"http://{aliyun.INSTANCE}-registry.{aliyun.REGION}.cr.aliyuncs.com:{fake.port}"
    keys = {"api_url": fake.control.url, "connect_to": f"127.0.0.1:{fake.port}"}
    return Stand(
        "aliyun-acr", fake, Credential(aliyun.ACCESS_KEY, aliyun.SECRET), "team", keys, url
    )


def _swr() -> Stand:
    access_key, secret_key = "RVHVMX4NEWEXAMPLE000", "H6mqE3xkEXAMPLEsecretkey0000000000000000"
    fake = FakeSwr("cn-north-4", access_key, secret_key)
    given = Credential(f"cn-north-4@{access_key}", secret_key)
    return Stand("swr", fake, given, "team", {"api_url": fake.url})


def _tencent(provider: str, fake: FakeTcr, given: Credential) -> Stand:
    def throttle() -> FaultRule:
        error = {"Code": "RequestLimitExceeded", "Message": "slow down"}
        body = json.dumps({"Response": {"Error": error, "RequestId": "1"}}).encode()
        return fake.fault("^/$", method="POST", body=body, times=2)

    keys = {"api_url": fake.control.url}
    return Stand(provider, fake, given, "team", keys, throttle=throttle)


def _tcr() -> Stand:
    return _tencent("tcr", FakeTcr(), Credential(tcr.SECRET_ID, tcr.SECRET_KEY))


def _ccr() -> Stand:
    key = {"secret_id": tcr.SECRET_ID, "secret_key": tcr.SECRET_KEY}
    both = json.dumps({"password": ccr.PASSWORD, **key})
    return _tencent("ccr", FakeCcr(), Credential(ccr.USER, both))


def _quay() -> Stand:
    fake = FakeQuay("0auth-t0ken")
    return Stand("quay", fake, Credential("$oauthtoken", "0auth-t0ken"), "team")


def _ghcr() -> Stand:
    fake = FakeGitHub("Crew", "ghp_s3cret", orgs=("Ship",), page=2)
    keys = {"api_url": fake.github.url}
    return Stand("ghcr", fake, Credential("crew", "ghp_s3cret"), "ship", keys)


def _gitlab() -> Stand:
    fake = FakeGitLab("crew", "glpat-s3cret", page=2)
    fake.groups = {"team": 7}
    keys = {"trusted_hosts": (fake.gitlab.authority,)}
    return Stand("gitlab", fake, Credential("crew", "glpat-s3cret"), "team/project", keys)


def _jfrog() -> Stand:
    fake = FakeJfrog({"ci": "jfrog-t0ken"}, frozenset({"ci"}))
    return Stand("jfrog", fake, Credential("ci", "jfrog-t0ken"), "team")


def _volcengine() -> Stand:
    fake = FakeVolcengine()
    url = f"http://{volcengine.REGISTRY}-{volcengine.REGION}.cr.volces.com:{fake.port}"
    keys = {"api_url": fake.control.url, "connect_to": f"127.0.0.1:{fake.port}"}
    given = Credential(volcengine.ACCESS_KEY, volcengine.SECRET_KEY)
    return Stand("volcengine", fake, given, "team", keys, url)


def _sample(provider: str = "generic") -> Stand:
    auth = BearerAuth(TokenService({"user": "sample-s3cret"}, ttl_seconds=5))
    return Stand(provider, SampleRegistry(auth=auth), Credential("user", "sample-s3cret"), "team")


STANDS: Mapping[str, Callable[[], Stand]] = {
    "acr": _acr,
    "aliyun-acr": _aliyun,
    "ccr": _ccr,
    "dockerhub": _dockerhub,
    "ecr": _ecr,
    "ecr-public": _ecr_public,
    "gar": _gar,
    "ghcr": _ghcr,
    "generic": _sample,
    "gitlab": _gitlab,
    "harbor": _harbor,
    "jfrog": _jfrog,
    "olareg": partial(_sample, "olareg"),
    "quay": _quay,
    "swr": _swr,
    "tcr": _tcr,
    "volcengine": _volcengine,
    "zot": partial(_sample, "zot"),
}
"""By provider, in the order of their names; the sample registry stands for what no fake is written of."""


@contextmanager
def stand(provider: str) -> Iterator[Stand]:
    """A provider's stand, serving."""
    made = STANDS[provider]()
    with made.registry:
        try:
            yield made
        finally:
            made.close()
