"""contract:acr. Webhooks by Resource Manager at its fake, which Microsoft's own client judges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.containerregistry import ContainerRegistryManagementClient

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.registry.client import RegistryClient
from service.registry.providers.acr_webhooks import arm_scope, webhook_name
from service.registry.providers.strategies import Receiver, Webhooks
from service.registry.providers.table import PROVIDERS
from service.replication.registration import webhooks_of
from tests.contract import proofs
from tests.contract.acr import FakeAcr
from tests.contract.arm import GROUP, SUBSCRIPTION, FakeArm
from tests.contract.identities import FakeAzureMachine
from tests.contract.stands import Stand

RECEIVER = Receiver("transship-it", "https://transship.example/hooks/acr/it", "tsh_s3cret")
PLAIN: dict[str, Any] = {"enforce_https": False}
AZURE = CredentialSpec(keyless="azure")


class Keyless(Stand):
    """ACR by the machine's identity, whose webhooks are told by Resource Manager."""

    def client(
        self, credential: Credential | None = None, provider: str | None = None, **keys: Any
    ) -> RegistryClient:
        """See Stand; a generic registry is given what the login gave."""
        if credential is not None:
            return super().client(credential, provider, **keys)
        endpoint = RegistryEndpoint(
            "it", self.registry.url, "acr", credentials=AZURE, api_url=self.keys["api_url"]
        )
        made = RegistryClient(
            endpoint,
            lambda: pytest.fail("no credential is configured"),
            identity_hosts=["127.0.0.1"],
        )
        self._clients.append(made)
        return made


class Registry(FakeAcr):
    """ACR, with the webhooks that its Resource Manager has."""

    def __init__(self, arm: FakeArm) -> None:
        super().__init__("crew", "acr-passw0rd")
        self.hooks = arm.hooks


@pytest.fixture
def arm() -> Iterator[FakeArm]:
    with FakeArm("127.0.0.1") as fake:
        yield fake


@pytest.fixture
def cloud(arm: FakeArm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyless]:
    numbers = itertools.count(1)
    for name in ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with Registry(arm) as registry:

        def issue() -> str:
            token = f"entra-access-{next(numbers)}-for-registries"
            registry.entra = {token: "mover"}
            return token

        with FakeAzureMachine(issue, issue_arm=arm.issue) as machine:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url)
            made = Keyless("acr", registry, Credential(), "team", {"api_url": arm.url})
            yield made
            made.close()


@pytest.fixture
def hooks(cloud: Keyless) -> Webhooks:
    return webhooks_of(cloud.client())


def test_webhook_is_made_set_right_and_removed(cloud: Keyless, arm: FakeArm) -> None:
    proofs.webhooks(cloud, "acr")
    assert len(arm.issued) == 1, "a token is used for as long as it lives"


class Fixed:
    """A credential of azure-core's that is a token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self._token, 1 << 40)


def test_sdk_reads_what_was_made_and_makes_and_deletes_at_the_fake(
    arm: FakeArm, hooks: Webhooks
) -> None:
    hooks.register(hooks.place("team/app"), RECEIVER)
    name = webhook_name(RECEIVER)
    where = (GROUP, "registry2")
    with ContainerRegistryManagementClient(
        Fixed(arm.issue()), SUBSCRIPTION, base_url=arm.url, polling_interval=0
    ) as sdk:
        servers = [one.properties.login_server for one in sdk.registries.list(**PLAIN)]
        made = sdk.webhooks.get(*where, name, **PLAIN)
        called = sdk.webhooks.get_callback_config(*where, name, **PLAIN)
        wanted = {
            "location": "westeurope",
            "properties": {"serviceUri": "https://other.example", "actions": ["push"]},
        }
        other = sdk.webhooks.begin_create(*where, "another", wanted, **PLAIN).result()
        changed = {"properties": {"actions": ["delete"]}}
        sdk.webhooks.begin_update(*where, "another", changed, **PLAIN).result()
        there = dict(arm.hooks)
        sdk.webhooks.begin_delete(*where, "another", **PLAIN).result()
        with pytest.raises(HttpResponseError, match="ResourceNotFound"):
            sdk.webhooks.get(*where, "none1", **PLAIN)

    assert servers == list(arm.registries.values())
    assert made.properties.status == "enabled"
    assert made.properties.actions == ["push", "delete"]
    assert made.properties.provisioning_state == "Succeeded"
    assert called.service_uri == RECEIVER.address
    assert called.custom_headers == {"Authorization": f"Bearer {RECEIVER.secret}"}
    assert other.name == "another"
    assert there["another"][1]["actions"] == ["delete"]


def test_webhook_that_somebody_has_switched_off_is_set_right(arm: FakeArm, hooks: Webhooks) -> None:
    place = hooks.place("team/app")
    hooks.register(place, RECEIVER)
    _, told = arm.hooks[webhook_name(RECEIVER)]
    told["status"] = "disabled"

    assert hooks.register(place, RECEIVER)
    assert not hooks.register(place, RECEIVER)
    assert arm.hooks[webhook_name(RECEIVER)][1]["status"] == "enabled"


def test_registry_that_the_identity_does_not_see_is_told(arm: FakeArm, hooks: Webhooks) -> None:
    del arm.registries["registry2"]

    with pytest.raises(errors.Denied, match=r"no registry 127\.0\.0\.1 that the machine's"):
        hooks.register(hooks.place("team/app"), RECEIVER)


def test_list_that_goes_on_at_another_host_is_not_followed(arm: FakeArm, hooks: Webhooks) -> None:
    arm.next_at = "https://evil.example"

    with pytest.raises(errors.ProtocolError, match="on at another host"):
        hooks.register(hooks.place("team/app"), RECEIVER)


def test_webhook_that_azure_could_not_make_is_a_failure(arm: FakeArm, hooks: Webhooks) -> None:
    arm.fails = True

    with pytest.raises(errors.Rejected, match="Failed"):
        hooks.register(hooks.place("team/app"), RECEIVER)


def test_user_and_password_are_told_that_they_make_none(arm: FakeArm) -> None:
    with FakeAcr("crew", "acr-passw0rd") as registry:
        keys = {"api_url": arm.url}
        made = Stand("acr", registry, Credential("crew", "acr-passw0rd"), "team", keys)
        with pytest.raises(
            errors.Unsupported, match="password, a service principal's too, do not tell the tenant"
        ):
            webhooks_of(made.client())
        made.close()
    assert arm.requests == []


def test_receivers_have_names_that_azure_takes_and_each_its_own() -> None:
    names = {
        webhook_name(Receiver(name, "", ""))
        for name in ("transship-a-b", "transship-ab", "transship-" + "x" * 100)
    }

    assert len(names) == 3
    assert all(name.isalnum() and 5 <= len(name) <= 50 for name in names)


@pytest.mark.parametrize(
    ("host", "api", "scope"),
    [
        ("crew.azurecr.io", "management.azure.com", "management.azure.com"),
        ("crew.azurecr.cn", "management.chinacloudapi.cn", "management.chinacloudapi.cn"),
        ("crew.azurecr.us", "management.usgovcloudapi.net", "management.core.usgovcloudapi.net"),
    ],
)
def test_resource_manager_is_the_one_of_the_registrys_cloud(
    host: str, api: str, scope: str
) -> None:
    assert PROVIDERS["acr"].api_url(host) == f"https://{api}"
    assert arm_scope(host) == f"https://{scope}/.default"
