"""contract:tcr. Temporary tokens, namespaces, digests and deletions at the fake, which Tencent's SDK judges."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.tcr.v20190924 import models
from tencentcloud.tcr.v20190924.tcr_client import TcrClient

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.strategies import Receiver
from service.registry.providers.table import PROVIDERS
from tests.contract.tcr import SECRET_ID, SECRET_KEY, FakeTcr
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

OWNER = Credential(SECRET_ID, SECRET_KEY)


@pytest.fixture
def tcr() -> Iterator[FakeTcr]:
    with FakeTcr() as fake:
        yield fake


def open_client(tcr: FakeTcr, credential: Credential = OWNER) -> RegistryClient:
    endpoint = {"provider": "tcr", "api_url": tcr.control.url}
    return client(tcr.url, credential=credential, endpoint=endpoint)


@pytest.fixture
def owner(tcr: FakeTcr) -> Iterator[RegistryClient]:
    made = open_client(tcr)
    yield made
    made.close()


def asked_by_sdk(tcr: FakeTcr, action: str, **members: Any) -> Any:
    """What Tencent's own client reads from the fake."""
    http = HttpProfile(protocol="http", endpoint=tcr.control.authority, reqTimeout=20)
    made = TcrClient(
        credential.Credential(SECRET_ID, SECRET_KEY),
        "ap-shanghai",
        ClientProfile(httpProfile=http, signMethod="TC3-HMAC-SHA256"),
    )
    request = getattr(models, f"{action}Request")()
    for name, value in members.items():
        setattr(request, name, value)
    return getattr(made, action)(request)


def test_sdk_speaks_with_the_fake(tcr: FakeTcr, owner: RegistryClient) -> None:
    pushed = push(owner, "team/app", "v1", b"one")
    one = {"RegistryId": "tcr-fake"}
    named = {**one, "NamespaceName": "team", "RepositoryName": "app"}

    name = models.Filter()
    name.Name, name.Values = "RegistryName", ["127"]
    found = asked_by_sdk(tcr, "DescribeInstances", AllRegion=True, Filters=[name])
    assert found.Registries[0].RegistryId == "tcr-fake"
    assert asked_by_sdk(tcr, "CreateInstanceToken", TokenType="temp", **one).Token.startswith(
        "temp"
    )
    assert asked_by_sdk(tcr, "DescribeNamespaces", All=True, **one).NamespaceList[0].Name == "team"
    repositories = asked_by_sdk(tcr, "DescribeRepositories", Limit=100, Offset=1, **one)
    assert [row.Name for row in repositories.RepositoryList] == ["team/app"]
    images = asked_by_sdk(tcr, "DescribeImages", Limit=100, Offset=1, **named).ImageInfoList
    assert [(row.ImageVersion, row.Digest) for row in images] == [("v1", str(pushed.digest))]
    asked_by_sdk(tcr, "CreateNamespace", NamespaceName="other", IsPublic=False, **one)
    with pytest.raises(TencentCloudSDKException, match="FailedOperation"):
        asked_by_sdk(tcr, "CreateNamespace", NamespaceName="other", IsPublic=False, **one)
    asked_by_sdk(tcr, "DeleteImage", ImageVersion="v1", **named)
    assert tcr.storage.tags("team/app") == {}


def test_api_is_tencents() -> None:
    url = PROVIDERS["tcr"].api_url("fleet.tencentcloudcr.com")
    assert url == "https://tcr.tencentcloudapi.com"


def test_sdk_reads_the_trigger_that_was_made(tcr: FakeTcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    hooks = owner.provided.strategies().webhooks or pytest.fail("no webhooks")
    receiver = Receiver("transship-it", "https://transship.example/hooks/tcr/it", "tsh_s3cret")
    assert hooks.register("team", receiver)

    named = {"RegistryId": "tcr-fake", "Namespace": "team"}
    (made,) = asked_by_sdk(tcr, "DescribeWebhookTrigger", Limit=10, Offset=1, **named).Triggers

    assert (made.Name, made.Enabled, made.EventTypes) == (
        "transship-it",
        True,
        ["pushImage", "deleteImage"],
    )
    (target,) = made.Targets
    assert target.Address == receiver.address
    assert [(one.Key, one.Values) for one in target.Headers] == [
        ("Authorization", ["Bearer tsh_s3cret"])
    ]
    asked_by_sdk(tcr, "DeleteWebhookTrigger", Id=made.Id, **named)
    assert not hooks.remove("team", receiver)


def test_first_push_makes_namespace_and_repository_once(
    tcr: FakeTcr, owner: RegistryClient
) -> None:
    push(owner, "team/a/b", "v1", b"one")
    push(owner, "team/a/b", "v2", b"two")

    assert (tcr.namespaces, tcr.repositories) == ({"team"}, {"team/a/b"})
    assert tcr.actions.count("CreateNamespace") == tcr.actions.count("CreateRepository") == 1
    assert tcr.actions.count("CreateInstanceToken") == 1


def test_clients_that_push_first_at_once_make_all_there_is_to_make(tcr: FakeTcr) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = [open_client(tcr) for _ in range(3)]
        list(pool.map(lambda n: push(made[n % 3], "team/app", f"v{n}", b"x" * n), range(6)))

    assert len(tcr.storage.tags("team/app") or ()) == 6


def test_wrong_key_is_an_authentication_failure(tcr: FakeTcr) -> None:
    tcr.namespaces.add("team")

    with pytest.raises(errors.AuthenticationFailed, match="SignatureFailure"):
        open_client(tcr, Credential(SECRET_ID, "wrong")).head_manifest("team/app", "v1")


def test_long_lived_token_needs_no_api(tcr: FakeTcr) -> None:
    tcr.users["tcr$robot"] = "s3cret"
    tcr.namespaces.add("team")
    made = open_client(tcr, Credential("tcr$robot", "s3cret"))

    push(made, "team/app", "v1", b"one")

    assert tcr.control.log == []
    with pytest.raises(errors.Unsupported):
        made.delete_manifest("team/app", "v1")


def test_lists_and_digests_come_by_the_page(tcr: FakeTcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v0", b"one")
    tags = tcr.storage.tags("team/app") or {}
    raw = tcr.storage.manifest("team/app", "v0")
    assert raw is not None
    for number in range(1, 230):
        tcr.storage.put_manifest("team/app", raw, f"v{number}")
    tcr.repositories.update(f"team/r{number}" for number in range(250))

    pages = list(owner.list_repositories())
    rest = list(owner.list_repositories(cursor=pages[0].next))
    told = owner.tags_with_digests("team/app")
    assert told is not None
    found = {tag: digest for page in told for tag, digest in page.items()}

    assert len({name for page in pages for name in page.repositories}) == 251
    assert rest == pages[1:]
    assert found == {f"v{number}": tags["v0"] for number in range(230)}
    pushed = list(owner.pushed_tags("team/app") or ())
    assert {tag for page in pushed for tag in page} == set(found)
    assert {at for page in pushed for at in page.values()} == {1767225600.0}


def test_tag_is_deleted_and_its_sibling_stays(tcr: FakeTcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    push(owner, "team/app", "latest", b"one")

    owner.delete_manifest("team/app", "v1")

    assert list(tcr.storage.tags("team/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        owner.delete_manifest("team/app", "v1")


def test_throttled_call_is_tried_again(tcr: FakeTcr, owner: RegistryClient) -> None:
    told = (
        b'{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"20/s"},"RequestId":"x"}}'
    )
    struck = tcr.fault("^/$", method="POST", body=told, times=2)

    push(owner, "team/app", "v1", b"one")

    assert struck.fired == 2


def test_secret_key_leaves_for_nobody(tcr: FakeTcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")

    for log in (tcr.log, tcr.control.log):
        assert log
        assert not [one for one in log if SECRET_KEY in f"{one.path}{one.headers}"]
    assert not [one for one in tcr.log if "TC3" in str(one.headers)]
    assert not [one for one in tcr.control.log if "TC3" not in one.headers["authorization"]]


def test_rule_copies_into_a_namespace_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tcr: FakeTcr
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_TCR", SECRET_KEY)
    spec = CredentialSpec(SECRET_ID, password_env="TRANSSHIP_SECRET_TCR")
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "tcr", tcr.url, provider="tcr", api_url=tcr.control.url, credentials=spec
        )
        world.services.registries.put(endpoint, document={})
        for number in range(8):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))
        rule = mirror("app", to="team/{name}", registry="tcr")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        assert tcr.namespaces == {"team"}
        before = len(tcr.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert [one.path for one in tcr.log[before:] if "/manifests/" in one.path] == []
