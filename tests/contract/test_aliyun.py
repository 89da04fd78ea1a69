"""contract:aliyun. Tokens, repositories, digests and deletions at the fake Alibaba Cloud registry."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.aliyun import sign
from tests.contract.aliyun import (
    ACCESS_KEY,
    INSTANCE,
    REGION,
    SECRET,
    FakeAliyun,
)
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes


@pytest.fixture
def aliyun() -> Iterator[FakeAliyun]:
    with FakeAliyun() as fake:
        yield fake


def endpoint(fake: FakeAliyun, **members: object) -> RegistryEndpoint:
    """The fake by the host that the vendor would give it."""
    port = fake.url.rpartition(":")[2]
    url = f"http://{INSTANCE}-registry.{REGION}.cr.aliyuncs.com:{port}"
    return RegistryEndpoint(
        "aliyun",
        url,
        connect_to=f"127.0.0.1:{port}",
        api_url=fake.control.url,
        **members,  # type: ignore[arg-type]
    )


def account(fake: FakeAliyun, user: str = ACCESS_KEY, password: str = SECRET) -> RegistryClient:
    wanted = endpoint(fake)
    members = {"connect_to": wanted.connect_to, "api_url": wanted.api_url}
    return client(wanted.url, credential=Credential(user, password), endpoint=members)


def test_signature_is_the_vendors_own() -> None:
    """Made by the vendor's package alibabacloud-openapi-util, Client.get_authorization."""
    headers = sign(
        "LTAIEXAMPLEEXAMPLE00",
        "c2VjcmV0RVhBTVBMRQ",
        host="cr.cn-hangzhou.aliyuncs.com",
        action="ListRepository",
        query="InstanceId=cri-1&PageNo=1&PageSize=100",
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
        nonce="0123456789abcdef",
    )

    assert headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=LTAIEXAMPLEEXAMPLE00,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=1bcd554b07525dcfa271c20bbc7625525c6b28abfb251753214b58aaca7f2447"
    )


def test_first_push_makes_namespace_and_repository_once(aliyun: FakeAliyun) -> None:
    made = account(aliyun)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(made, "new/app", f"v{n}", b"x" * n), range(8)))

    assert (aliyun.namespaces, aliyun.repositories) == ({"new"}, {"new/app"})
    assert aliyun.actions.count("CreateRepository") == 1
    assert made.provided.provider.name == "aliyun-acr"


def test_repository_that_somebody_else_has_made_meanwhile_is_a_success(
    aliyun: FakeAliyun,
) -> None:
    aliyun.namespaces.add("team")
    aliyun.repositories.add("team/app")
    maker = account(aliyun).provided.strategies().maker or pytest.fail("no maker")

    maker.make("team/app")

    assert aliyun.actions.count("CreateNamespace") == 0


def test_repositories_and_digests_are_listed_and_one_tag_goes(aliyun: FakeAliyun) -> None:
    made = account(aliyun)
    names = [f"team{n % 2}/app{n:03}" for n in range(205)]
    aliyun.repositories |= set(names)
    one, other = (push(made, "team0/app000", tag, tag.encode()) for tag in ("v1", "v2"))

    pages = list(made.list_repositories())
    rest = list(made.list_repositories(cursor=pages[0].next))
    lister = made.provided.strategies().tags_with_digests or pytest.fail("no lister")
    told = {tag: digest for page in lister.pages("team0/app000") for tag, digest in page.items()}
    made.provided.delete_tag("team0/app000", "v1")

    assert sorted(n for page in pages for n in page.repositories) == sorted(names)
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]
    assert told == {"v1": str(one.digest), "v2": str(other.digest)}
    assert set(aliyun.storage.tags("team0/app000") or ()) == {"v2"}
    with pytest.raises(errors.ManifestNotFound):
        made.provided.delete_tag("team0/app000", "v1")


def test_wrong_secret_key_is_an_authentication_failure(aliyun: FakeAliyun) -> None:
    wrong = account(aliyun, password="wrong")

    with pytest.raises(errors.AuthenticationFailed) as caught:
        list(wrong.list_repositories())

    assert "SignatureDoesNotMatch" in caught.value.message


def test_fixed_password_pushes_and_asks_no_api(aliyun: FakeAliyun) -> None:
    aliyun.repositories.add("team/app")
    aliyun.users["ci@account"] = "fixed"

    push(account(aliyun, "ci@account", "fixed"), "team/app", "v1", b"one")

    assert aliyun.actions == []


def test_rule_copies_into_repositories_that_are_not_there(
    aliyun: FakeAliyun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_ALIYUN", SECRET)
    layers = [some_bytes(f"layer{number}", 3000) for number in range(3)]
    with open_world(tmp_path) as world:
        credentials = CredentialSpec(ACCESS_KEY, password_env="TRANSSHIP_SECRET_ALIYUN")
        world.services.registries.put(endpoint(aliyun, credentials=credentials), document={})
        for number in range(4):
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))

        execution = plan(world, mirror("app*", to="{name}-team/app", registry="aliyun"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert aliyun.repositories == {"app0-team/app", "app1-team/app"}
    assert sorted(aliyun.storage.tags("app0-team/app") or ()) == ["v0", "v2"]
