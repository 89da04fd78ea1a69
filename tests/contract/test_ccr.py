"""contract:ccr. Namespaces, listings and deletions at the fake, which Tencent's SDK judges."""

from __future__ import annotations

import json
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
from service.registry.providers.table import PROVIDERS
from tests.contract.ccr import PASSWORD, USER, FakeCcr
from tests.contract.tcr import SECRET_ID, SECRET_KEY
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

TOGETHER = json.dumps({"password": PASSWORD, "secret_id": SECRET_ID, "secret_key": SECRET_KEY})
OWNER = Credential(USER, TOGETHER)


@pytest.fixture
def ccr() -> Iterator[FakeCcr]:
    with FakeCcr() as fake:
        yield fake


def open_client(ccr: FakeCcr, given: Credential = OWNER) -> RegistryClient:
    endpoint = {"provider": "ccr", "api_url": ccr.control.url}
    return client(ccr.url, credential=given, endpoint=endpoint)


@pytest.fixture
def owner(ccr: FakeCcr) -> Iterator[RegistryClient]:
    made = open_client(ccr)
    yield made
    made.close()


def asked_by_sdk(ccr: FakeCcr, action: str, **members: Any) -> Any:
    """What Tencent's own client reads from the fake."""
    http = HttpProfile(protocol="http", endpoint=ccr.control.authority, reqTimeout=20)
    made = TcrClient(
        credential.Credential(SECRET_ID, SECRET_KEY),
        "ap-guangzhou",
        ClientProfile(httpProfile=http, signMethod="TC3-HMAC-SHA256"),
    )
    request = getattr(models, f"{action}Request")()
    for name, value in members.items():
        setattr(request, name, value)
    return getattr(made, action)(request)


def test_sdk_speaks_with_the_fake(ccr: FakeCcr, owner: RegistryClient) -> None:
    asked_by_sdk(ccr, "CreateNamespacePersonal", Namespace="team")
    with pytest.raises(TencentCloudSDKException, match="ErrorNamespaceExist"):
        asked_by_sdk(ccr, "CreateNamespacePersonal", Namespace="team")
    asked_by_sdk(ccr, "CreateRepositoryPersonal", RepoName="team/other", Public=0)
    push(owner, "team/app", "v1", b"one")

    assert asked_by_sdk(ccr, "ValidateNamespaceExistPersonal", Namespace="team").Data.IsExist
    assert not asked_by_sdk(ccr, "ValidateRepositoryExistPersonal", RepoName="team/x").Data.IsExist
    found = asked_by_sdk(ccr, "DescribeRepositoryOwnerPersonal", Offset=0, Limit=100).Data
    assert [row.RepoName for row in found.RepoInfo] == ["team/app", "team/other"]
    assert found.TotalCount == 2
    tags = asked_by_sdk(ccr, "DescribeImagePersonal", RepoName="team/app").Data
    assert [row.TagName for row in tags.TagInfo] == ["v1"]
    assert asked_by_sdk(ccr, "DeleteImagePersonal", RepoName="team/app", Tag="v1").RequestId
    with pytest.raises(TencentCloudSDKException, match="ResourceNotFound"):
        asked_by_sdk(ccr, "DeleteImagePersonal", RepoName="team/app", Tag="v1")


def test_host_tells_provider_and_api() -> None:
    row = PROVIDERS["ccr"]

    assert row.has_host("ccr.ccs.tencentyun.com")
    assert row.has_host("hkccr.ccs.tencentyun.com")
    assert row.api_url("ccr.ccs.tencentyun.com") == "https://tcr.tencentcloudapi.com"


def test_first_push_makes_namespace_and_repository_once(ccr: FakeCcr) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = [open_client(ccr) for _ in range(3)]
        list(pool.map(lambda n: push(made[n % 3], "team/a/b", f"v{n}", b"x" * n), range(6)))

    assert (ccr.namespaces, ccr.repositories) == ({"team"}, {"team/a/b"})
    assert len(ccr.storage.tags("team/a/b") or ()) == 6


def test_namespace_of_another_account_is_told(ccr: FakeCcr, owner: RegistryClient) -> None:
    ccr.taken.add("theirs")

    with pytest.raises(errors.Rejected, match="ErrorNamespaceExist"):
        push(owner, "theirs/app", "v1", b"one")


def test_repositories_are_listed_by_the_page(ccr: FakeCcr, owner: RegistryClient) -> None:
    ccr.namespaces.add("team")
    ccr.repositories.update(f"team/r{number}" for number in range(230))

    pages = list(owner.list_repositories())
    rest = list(owner.list_repositories(cursor=pages[0].next))

    assert {name for page in pages for name in page.repositories} == ccr.repositories
    assert len(pages) == 3
    assert rest == pages[1:]


def test_tags_are_told_with_their_push_by_the_page(ccr: FakeCcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v0", b"one")
    raw = ccr.storage.manifest("team/app", "v0")
    assert raw is not None
    for number in range(1, 230):
        ccr.storage.put_manifest("team/app", raw, f"v{number}")
    ccr.pushed["team/app", "v7"] = "2026-02-01 08:00:00"
    ccr.pushed["team/app", "v8"] = "never"

    told = owner.pushed_tags("team/app")
    assert told is not None
    pages = list(told)

    found = {tag: at for page in pages for tag, at in page.items()}
    assert (len(pages), len(found)) == (3, 230)
    assert max(found, key=lambda tag: found[tag]) == "v7"
    assert found["v8"] == found["v9"]  # by its UpdateTime, then
    seen = asked_by_sdk(ccr, "DescribeImagePersonal", RepoName="team/app", Offset=200, Limit=100)
    assert [row.TagName for row in seen.Data.TagInfo] == list(found)[200:]
    assert seen.Data.TagInfo[0].PushTime
    assert open_client(ccr, Credential(USER, PASSWORD)).pushed_tags("team/app") is None


def test_tag_is_deleted_and_its_sibling_stays(ccr: FakeCcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    push(owner, "team/app", "latest", b"one")

    owner.delete_manifest("team/app", "v1")

    assert list(ccr.storage.tags("team/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        owner.delete_manifest("team/app", "v1")


def test_plain_password_needs_no_api(ccr: FakeCcr) -> None:
    ccr.namespaces.add("team")
    made = open_client(ccr, Credential(USER, PASSWORD))

    push(made, "team/app", "v1", b"one")

    assert ccr.control.log == []
    with pytest.raises(errors.Unsupported):
        made.delete_manifest("team/app", "v1")
    with pytest.raises(errors.Unsupported):
        list(made.list_repositories())


@pytest.mark.parametrize("text", ['{"password": "x"}', "{", '{"password":1}'])
def test_password_that_is_half_an_object_is_told(ccr: FakeCcr, text: str) -> None:
    with pytest.raises(errors.InvalidConfiguration, match="secret_id") as caught:
        open_client(ccr, Credential(USER, text)).head_manifest("team/app", "v1")
    assert text not in str(caught.value)


def test_wrong_key_is_an_authentication_failure(ccr: FakeCcr) -> None:
    wrong = json.dumps({"password": PASSWORD, "secret_id": SECRET_ID, "secret_key": "wrong"})

    with pytest.raises(errors.AuthenticationFailed, match="SignatureFailure"):
        list(open_client(ccr, Credential(USER, wrong)).list_repositories())


def test_throttled_call_is_tried_again(ccr: FakeCcr, owner: RegistryClient) -> None:
    told = (
        b'{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"20/s"},"RequestId":"x"}}'
    )
    struck = ccr.fault("^/$", method="POST", body=told, times=2)

    push(owner, "team/app", "v1", b"one")

    assert struck.fired == 2


def test_key_leaves_for_nobody_and_the_password_for_the_registry(
    ccr: FakeCcr, owner: RegistryClient
) -> None:
    push(owner, "team/app", "v1", b"one")

    for log in (ccr.log, ccr.control.log):
        assert log
        assert not [one for one in log if SECRET_KEY in f"{one.path}{one.headers}"]
    assert not [one for one in ccr.control.log if "Basic" in one.headers["authorization"]]
    assert [one.status for one in ccr.tokens.requests if one.status != 200] == []


def test_rule_copies_into_a_namespace_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ccr: FakeCcr
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_CCR", TOGETHER)
    spec = CredentialSpec(USER, password_env="TRANSSHIP_SECRET_CCR")
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "ccr", ccr.url, provider="ccr", api_url=ccr.control.url, credentials=spec
        )
        world.services.registries.put(endpoint, document={})
        for number in range(6):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))

        execution = plan(world, mirror("app", to="team/{name}", registry="ccr"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert ccr.namespaces == {"team"}
    assert len(ccr.storage.tags("team/app") or ()) == 6
