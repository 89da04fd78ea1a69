"""Identities of the machine at fakes of what tells them, spoken with by each vendor's own library."""

from __future__ import annotations

import itertools
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth.compute_engine._metadata as google_metadata
import pytest
import trustme

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint, TLSOptions
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract import aliyun, volcengine
from tests.contract.acr import FakeAcr
from tests.contract.aliyun import FakeAliyun
from tests.contract.ecr import KEY, SECRET, FakeEcr
from tests.contract.gar import FakeGar
from tests.contract.identities import (
    FakeAlibabaMachine,
    FakeAzureMachine,
    FakeEntra,
    FakeGoogleMachine,
    FakeSts,
    FakeVolcengineMachine,
    Issue,
)
from tests.contract.stands import stand
from tests.contract.volcengine import FakeVolcengine
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.processes import wait_until
from tests.support.world import World, open_world

LOOPBACK = ("127.0.0.1",)
ROLE = "arn:aws:iam::123456789012:role/mover"
OWN = ("AKIAMACHINEEXAMPLE00", "the machine's own secret key, which STS is not shown")
VARIABLES = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "VOLCENGINE_ACCESS_KEY",
    "VOLCENGINE_SECRET_KEY",
    "VOLCENGINE_SESSION_TOKEN",
    "VOLCENGINE_OIDC_TOKEN_FILE",
    "VOLCENGINE_OIDC_ROLE_TRN",
    "VOLCENGINE_CLI_CONFIG_FILE",
    "VOLCENGINE_ECS_METADATA",
    "VOLCENGINE_ECS_METADATA_DISABLED",
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose files and variables tell nothing yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))


def keyless(
    registry: FakeEcr | FakeAcr | FakeGar, spec: CredentialSpec, provider: str
) -> RegistryClient:
    control = getattr(registry, "control", None)
    return RegistryClient(
        RegistryEndpoint(
            "it",
            registry.url,
            provider=provider,
            api_url=None if control is None else control.url,
            credentials=spec,
        ),
        lambda: pytest.fail("no credential is configured"),
        identity_hosts=LOOPBACK,
    )


# ---- AWS -----------------------------------------------------------------------------------------


@pytest.fixture
def ecr() -> Iterator[FakeEcr]:
    with FakeEcr() as fake:
        fake.session = "no session yet"
        yield fake


@pytest.fixture
def sts(ecr: FakeEcr, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSts]:
    numbers = itertools.count(1)

    def issue() -> str:
        ecr.session = f"session-{next(numbers)}"
        return ecr.session

    with FakeSts(ROLE, "contract-7", (KEY, SECRET), issue) as fake:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWN[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWN[1])
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fake.url)
        yield fake


def test_effect_registries_credentials_role(ecr: FakeEcr, sts: FakeSts) -> None:
    made = keyless(ecr, CredentialSpec(keyless="aws", role=ROLE, external_id="contract-7"), "ecr")

    push(made, "team/app", "v1", b"one")
    made.delete_manifest("team/app", "v1")
    made.close()

    assert ecr.storage.tags("team/app") == {}
    assert [one["RoleArn"] for one in sts.asked] == [ROLE], "assumed once"
    assert sts.asked[0]["RoleSessionName"] == "transship"
    assert sts.regions == ["us-east-1"], "the registry's, where nothing else is said"


def test_effect_registries_credentials_external_id(ecr: FakeEcr, sts: FakeSts) -> None:
    for wrong in (None, "contract-8"):
        made = keyless(ecr, CredentialSpec(keyless="aws", role=ROLE, external_id=wrong), "ecr")
        with pytest.raises(errors.AuthenticationFailed, match="AccessDenied") as told:
            made.ping()
        assert "external id" in told.value.hint
    assert [one.get("ExternalId") for one in sts.asked] == [None, "contract-8"]


def test_role_is_assumed_anew_before_its_session_ends(ecr: FakeEcr, sts: FakeSts) -> None:
    sts.life = timedelta(minutes=5)  # within botocore's mandatory time of renewal
    made = keyless(ecr, CredentialSpec(keyless="aws", role=ROLE, external_id="contract-7"), "ecr")
    push(made, "team/app", "v1", b"one")
    made.delete_manifest("team/app", "v1")
    made.close()
    assert len(sts.asked) > 1
    assert ecr.storage.tags("team/app") == {}


# ---- Azure ---------------------------------------------------------------------------------------


@pytest.fixture
def acr() -> Iterator[FakeAcr]:
    with FakeAcr("crew", "s3cret") as fake:
        yield fake


def entra_tokens(acr: FakeAcr) -> Issue:
    numbers = itertools.count(1)

    def issue() -> str:
        token = f"entra-access-{next(numbers)}-for-registries"
        acr.entra = {token: "mover"}
        return token

    return issue


AZURE = CredentialSpec(keyless="azure")


def use(registry: FakeAcr) -> None:
    """Push, read digests and delete, each with a scope of its own."""
    made = keyless(registry, AZURE, "acr")
    push(made, "crew/app", "v1", b"one")
    listed = made.tags_with_digests("crew/app")
    assert listed is not None
    assert set(next(iter(listed))) == {"v1"}
    made.delete_manifest("crew/app", "v1")
    made.close()
    assert registry.storage.tags("crew/app") == {}


def test_managed_identity_is_exchanged_for_the_registrys_token(
    acr: FakeAcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAzureMachine(entra_tokens(acr)) as imds:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url)
        use(acr)
    assert len(imds.asked) == 1
    assert len(acr.exchanged) == 1, "a refresh token is used for as long as it lives"
    accounts = {one.account for one in acr.tokens.requests if one.method == "POST"}
    assert accounts == {"mover"}


def test_user_assigned_identity_is_the_one_that_is_named(
    acr: FakeAcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAzureMachine(entra_tokens(acr), clients=("one", "two")) as imds:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url)
        with pytest.raises(errors.InvalidConfiguration, match="has no Azure identity"):
            use(acr)
        monkeypatch.setenv("AZURE_CLIENT_ID", "two")
        use(acr)
    assert imds.asked[-1]["client_id"] == "two"


def test_app_services_identity_is_asked_for_at_its_own_address(
    acr: FakeAcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAzureMachine(entra_tokens(acr)) as app:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{app.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "shown")
        use(acr)
    assert len(app.asked) == 1


def test_workload_identity_presents_its_federated_token_to_entra(
    acr: FakeAcr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    (tmp_path / "token").write_text("a federated token of the cluster's")
    with FakeEntra(
        "tenant-1", "a federated token of the cluster's", entra_tokens(acr), tls
    ) as entra:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", entra.url)
        monkeypatch.setenv("AZURE_TENANT_ID", "tenant-1")
        monkeypatch.setenv("AZURE_CLIENT_ID", "app-1")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        use(acr)
    assert [one["client_id"] for one in entra.asked] == ["app-1"]


def test_refresh_token_is_renewed_before_it_ends(
    acr: FakeAcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    acr.refresh_seconds = 0.0  # each has ended when it comes
    with FakeAzureMachine(entra_tokens(acr)) as imds:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url)
        made = keyless(acr, AZURE, "acr")
        first = made.provided.credential()
        now = [first.renew_at or 0.0]
        made.provided._logins._clock = lambda: now[0]  # type: ignore[union-attr]
        second = made.provided.credential()
    assert first.identity_token != second.identity_token
    assert len(acr.exchanged) == 2


# ---- Alibaba -------------------------------------------------------------------------------------


def test_ram_roles_session_signs_at_alibaba(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand("aliyun-acr") as cloud:
        fake = cloud.registry
        assert isinstance(fake, FakeAliyun)
        numbers = itertools.count(1)

        def issue() -> str:
            fake.session = f"a session of a role, number {next(numbers)}"
            return fake.session

        with FakeAlibabaMachine((aliyun.ACCESS_KEY, aliyun.SECRET), issue) as machine:
            monkeypatch.setattr(
                "alibabacloud_credentials.utils.auth_util.environment_credentials_uri", machine.url
            )
            monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_URI", machine.url)
            monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
            endpoint = RegistryEndpoint(
                "it",
                cloud.url or fake.url,
                provider="aliyun-acr",
                credentials=CredentialSpec(keyless="aliyun"),
                **cloud.keys,
            )
            made = RegistryClient(
                endpoint,
                lambda: pytest.fail("no credential is configured"),
                identity_hosts=[*LOOPBACK, endpoint.host.partition(":")[0]],
            )
            push(made, "team/app", "v1", b"one")
            made.delete_manifest("team/app", "v1")
            made.close()
        assert fake.storage.tags("team/app") == {}
        assert len(machine.asked) == 1


# ---- Volcengine ----------------------------------------------------------------------------------


@pytest.fixture
def volcano() -> Iterator[FakeVolcengine]:
    with stand("volcengine") as cloud:
        assert isinstance(cloud.registry, FakeVolcengine)
        yield cloud.registry


@pytest.fixture
def ecs(
    volcano: FakeVolcengine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeVolcengineMachine]:
    """A metadata service at the address that the library has for it."""
    numbers = itertools.count(1)

    def issue() -> str:
        volcano.session = f"a session of a role, number {next(numbers)}"
        return volcano.session

    key = (volcengine.ACCESS_KEY, volcengine.SECRET_KEY)
    with FakeVolcengineMachine("mover", key, issue) as machine:
        monkeypatch.setattr(
            "volcenginesdkcore.auth.providers.ecs_role_provider._IMDS_ENDPOINT", machine.url
        )
        yield machine


def keyless_volcengine(fake: FakeVolcengine) -> RegistryClient:
    host = f"{volcengine.REGISTRY}-{volcengine.REGION}.cr.volces.com"
    endpoint = RegistryEndpoint(
        "it",
        f"http://{host}:{fake.port}",
        provider="volcengine",
        credentials=CredentialSpec(keyless="volcengine"),
        api_url=fake.control.url,
        connect_to=f"127.0.0.1:{fake.port}",
    )
    return RegistryClient(
        endpoint,
        lambda: pytest.fail("no credential is configured"),
        identity_hosts=[*LOOPBACK, host],
    )


def test_iam_roles_session_signs_at_volcengine(
    volcano: FakeVolcengine, ecs: FakeVolcengineMachine
) -> None:
    made = keyless_volcengine(volcano)

    push(made, "team/app", "v1", b"one")
    made.delete_manifest("team/app", "v1")
    made.close()

    assert volcano.storage.tags("team/app") == {}
    assert ecs.issued == 1, "a session is used for as long as it lives"


def test_iam_roles_session_is_renewed_before_it_ends(
    volcano: FakeVolcengine, ecs: FakeVolcengineMachine
) -> None:
    ecs.life = timedelta(minutes=4)  # within the library's time of renewal
    made = keyless_volcengine(volcano)

    push(made, "team/app", "v1", b"one")
    made.delete_manifest("team/app", "v1")
    made.close()

    assert ecs.issued > 1
    assert volcano.storage.tags("team/app") == {}


def test_machine_without_a_role_of_volcengines_is_told_so(
    volcano: FakeVolcengine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCENGINE_ECS_METADATA_DISABLED", "true")
    made = keyless_volcengine(volcano)
    with pytest.raises(errors.InvalidConfiguration, match="has no Volcengine identity"):
        made.ping()
    made.close()


# ---- Google --------------------------------------------------------------------------------------


@pytest.fixture
def gar() -> Iterator[FakeGar]:
    with FakeGar() as fake:
        yield fake


GCP = CredentialSpec(keyless="gcp")


def use_google(gar: FakeGar) -> None:
    """Have a repository made, push, list."""
    made = keyless(gar, GCP, "gar")
    push(made, "fleet/apps/app", "v1", b"one")
    names = [name for page in made.list_repositories() for name in page.repositories]
    made.close()
    assert "apps" in gar.repositories
    assert "fleet/apps/app" in names


@pytest.fixture
def metadata(gar: FakeGar, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGoogleMachine]:
    """A metadata server: google-auth reads GCE_METADATA_HOST when it is imported."""
    with FakeGoogleMachine(gar.issue_to_machine) as server:
        monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", server.authority)
        monkeypatch.setenv("GCE_METADATA_IP", server.authority)
        yield server


def test_metadata_servers_token_is_password_and_key_to_the_api(
    gar: FakeGar, metadata: FakeGoogleMachine
) -> None:
    use_google(gar)
    assert len(gar.machine) == 1, "one token for both, for as long as it lives"
    assert {one.account for one in gar.tokens.requests} == {"oauth2accesstoken"}


def test_google_token_is_renewed_before_it_ends(gar: FakeGar, metadata: FakeGoogleMachine) -> None:
    metadata.life_seconds = 0  # each has ended when it comes
    made = keyless(gar, GCP, "gar")
    first = made.provided.credential()
    wait_until(lambda: time.monotonic() >= (first.renew_at or 0.0), 5, "the token's end")
    second = made.provided.credential()
    made.close()
    assert first.password != second.password
    assert len(gar.machine) >= 2


def test_workload_identity_federation_exchanges_a_subject_token(
    gar: FakeGar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "subject").write_text("a token of another cloud's")
    with FakeGoogleMachine(gar.issue_to_machine, subject="a token of another cloud's") as google:
        pool = (
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
        )
        file = {
            "type": "external_account",
            "audience": pool,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{google.url}/v1/token",
            "credential_source": {"file": str(tmp_path / "subject")},
        }
        (tmp_path / "wif.json").write_text(json.dumps(file))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "wif.json"))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "fleet")
        use_google(gar)
    assert [one["audience"] for one in google.asked] == [pool]


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "provider", "other"),
    [
        (AZURE, "ecr", FakeEcr),
        (GCP, "ecr", FakeEcr),
        (CredentialSpec(keyless="aws"), "gar", FakeGar),
    ],
)
def test_identity_of_one_vendor_is_not_shown_to_another(
    spec: CredentialSpec, provider: str, other: type[FakeEcr | FakeGar]
) -> None:
    from service.registry.credentials import resolve

    with other() as registry:
        control = registry.control.url
        endpoint = RegistryEndpoint("it", registry.url, provider, api_url=control, credentials=spec)
        made = RegistryClient(
            endpoint,
            lambda: resolve(spec, "it.example", lambda: None),
            identity_hosts=LOOPBACK,
        )
        with pytest.raises(errors.InvalidConfiguration, match=f"no registry of {spec.keyless}"):
            made.head_manifest("team/app", "v1")
        made.close()


CA = str(Path(__file__))
"""Any file: it is not read before the identity is refused."""


def others(**keys: Any) -> list[RegistryEndpoint]:
    """Registries that say that they are Azure's and Amazon's, at hosts of nobody's."""
    evil = {"url": "https://registry.evil.example", **keys}
    return [
        RegistryEndpoint("it", provider="acr", credentials=AZURE, **evil),
        RegistryEndpoint("it", provider="gar", credentials=GCP, **evil),
        RegistryEndpoint("it", provider="ecr", credentials=CredentialSpec(keyless="aws"), **evil),
        RegistryEndpoint("it", "http://crew.azurecr.io", "acr", credentials=AZURE),
        RegistryEndpoint(
            "it", "https://crew.azurecr.io", "acr", credentials=AZURE, tls=TLSOptions(insecure=True)
        ),
        RegistryEndpoint(
            "it", "https://crew.azurecr.io", "acr", credentials=AZURE, tls=TLSOptions(ca_file=CA)
        ),
        RegistryEndpoint(
            "it",
            "https://us-docker.pkg.dev",
            "gar",
            credentials=GCP,
            api_url="https://evil.example",
        ),
    ]


@pytest.mark.parametrize("endpoint", others())
def test_machines_identity_is_shown_to_no_host_that_is_not_its_vendors(
    endpoint: RegistryEndpoint,
) -> None:
    def nowhere(host: str, port: int) -> list[Any]:
        pytest.fail(f"{host}:{port} is asked")

    made = RegistryClient(
        endpoint, lambda: pytest.fail("no credential is configured"), resolve=nowhere
    )
    with pytest.raises(
        errors.InvalidConfiguration, match="not shown this machine's identity"
    ) as told:
        made.provided.credential()
    assert "TRANSSHIP_KEYLESS_HOSTS" in told.value.hint
    made.close()


def test_rule_from_azure_to_aws_without_a_password(
    ecr: FakeEcr, acr: FakeAcr, sts: FakeSts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crew = client(acr.url, credential=Credential("crew", "s3cret"), endpoint={"provider": "acr"})
    pushed = push(crew, "crew/app", "v1", b"a layer")
    crew.close()
    with (
        FakeAzureMachine(entra_tokens(acr)) as imds,
        open_world(tmp_path) as world,
    ):
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url)
        world.settings = replace(world.settings, keyless_hosts="127.0.0.1")
        world.services = world.open(world.settings)
        assumed = CredentialSpec(keyless="aws", role=ROLE, external_id="contract-7")
        save(world, RegistryEndpoint("east", acr.url, "acr", credentials=AZURE))
        control = ecr.control.url
        save(
            world,
            RegistryEndpoint("west", ecr.url, "ecr", api_url=control, credentials=assumed),
        )
        assert (
            finish(world, plan(world, mirror("crew/app", to="{repository}")))
            is ExecutionState.SUCCEEDED
        )
    assert ecr.storage.tags("crew/app") == {"v1": str(pushed.digest)}


def save(world: World, endpoint: RegistryEndpoint) -> None:
    world.services.registries.put(endpoint, document={})
