"""contract:aliyun-personal. Temporary passwords, namespaces, digests and deletions at the fake personal edition."""

from __future__ import annotations

import threading
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
from service.registry.providers.table import PROVIDERS
from tests.contract.aliyun import ACCESS_KEY, SECRET
from tests.contract.aliyun_personal import HOST, FakeAliyunPersonal
from tests.contract.skopeo import copy_by_skopeo, needs_skopeo
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.processes import wait_until
from tests.support.world import open_world, some_bytes

OWNER = Credential(ACCESS_KEY, SECRET)


@pytest.fixture
def aliyun() -> Iterator[FakeAliyunPersonal]:
    with FakeAliyunPersonal() as fake:
        yield fake


def open_client(fake: FakeAliyunPersonal, credential: Credential = OWNER) -> RegistryClient:
    keys = {"api_url": fake.control.url, "connect_to": f"127.0.0.1:{fake.port}"}
    return client(f"http://{HOST}:{fake.port}", credential=credential, endpoint=keys)


@pytest.fixture
def owner(aliyun: FakeAliyunPersonal) -> Iterator[RegistryClient]:
    made = open_client(aliyun)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "signature"),
    [
        (
            "GET",
            "/tokens",
            "",
            b"",
            "dca394235dad3a18adc704025b55c3dd5c4d2fbc644e9c056dd9f125e8128c03",
        ),
        (
            "GET",
            "/repos/team/app/tags",
            "Page=1&PageSize=100",
            b"",
            "33676ab9c2284bc549a4e9ef1b432d9cd4c5b96224db28bdf479f2872a63778f",
        ),
        (
            "PUT",
            "/namespace",
            "",
            b'{"Namespace":{"Namespace":"team"}}',
            "089ecff84343e8d96ce8a1acb6c1956d4cf14e8a34af13212a08f7d21d8d6e4e",
        ),
        (
            "DELETE",
            "/repos/team/app/tags/v1.0",
            "",
            b"",
            "05a60aa04fd2f1c8a271a9728a7e4eea01c6bb2caf41b1452065397acea119e5",
        ),
    ],
    ids=["GET", "query", "body", "DELETE"],
)
def test_signature_is_the_vendors_own(
    method: str, path: str, query: str, body: bytes, signature: str
) -> None:
    """Made by the vendor's package alibabacloud-openapi-util, Client.get_authorization."""
    headers = sign(
        "LTAI5tEXAMPLEkeyid0001",
        "s3cret",
        host="cr.cn-hangzhou.aliyuncs.com",
        action="A",
        query=query,
        moment=datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC),
        nonce="n0nce",
        method=method,
        path=path,
        body=body,
        version="2016-06-07",
    )

    assert headers["Authorization"].endswith(f"Signature={signature}")


def test_host_tells_provider_and_api() -> None:
    row = PROVIDERS["aliyun-acr"]

    assert row.has_host(HOST)
    assert row.api_url(HOST) == "https://cr.cn-hangzhou.aliyuncs.com"
    assert (
        row.api_url("registry-vpc.cn-beijing.aliyuncs.com") == "https://cr.cn-beijing.aliyuncs.com"
    )


@needs_skopeo
def test_skopeo_logs_in_pushes_and_pulls_through_the_fake(
    aliyun: FakeAliyunPersonal, owner: RegistryClient, tmp_path: Path
) -> None:
    pushed = push(owner, "team/app", "v1", b"layer" * 100)
    aliyun.repositories.add("team/b")
    given = owner.provided.credential()
    names = ("team/app:v1", "team/b:2")
    copy_by_skopeo(aliyun.host, given.username, given.password, *names, tmp_path)

    found = aliyun.storage.manifest("team/b", "2")
    assert found is not None
    assert found.digest == str(pushed.digest)


def test_first_push_makes_namespace_and_repository_once(aliyun: FakeAliyunPersonal) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = [open_client(aliyun) for _ in range(3)]
        list(pool.map(lambda n: push(made[n % 3], "team/app", f"v{n}", b"x" * n), range(6)))

    assert (aliyun.namespaces, aliyun.repositories) == ({"team"}, {"team/app"})
    assert len(aliyun.storage.tags("team/app") or ()) == 6


def test_namespace_of_another_account_is_told(
    aliyun: FakeAliyunPersonal, owner: RegistryClient
) -> None:
    aliyun.taken.add("theirs")

    with pytest.raises(errors.Rejected, match="ALREADY_EXIST"):
        push(owner, "theirs/app", "v1", b"one")


def test_lists_and_digests_come_by_the_page(
    aliyun: FakeAliyunPersonal, owner: RegistryClient
) -> None:
    push(owner, "team/app", "v0", b"one")
    raw = aliyun.storage.manifest("team/app", "v0")
    assert raw is not None
    for number in range(1, 130):
        aliyun.storage.put_manifest("team/app", raw, f"v{number}")
    aliyun.repositories.update(f"team/r{number}" for number in range(120))

    pages = list(owner.list_repositories())
    told = owner.tags_with_digests("team/app")
    assert told is not None
    found = {tag: digest for page in told for tag, digest in page.items()}

    assert {name for page in pages for name in page.repositories} == aliyun.repositories
    assert list(owner.list_repositories(cursor=pages[0].next)) == pages[1:]
    assert found == aliyun.storage.tags("team/app")


def test_tag_is_deleted_and_its_sibling_stays(
    aliyun: FakeAliyunPersonal, owner: RegistryClient
) -> None:
    push(owner, "team/app", "v1", b"one")
    push(owner, "team/app", "latest", b"one")

    owner.delete_manifest("team/app", "v1")

    assert list(aliyun.storage.tags("team/app") or ()) == ["latest"]


def test_temporary_passwords_are_renewed_before_they_end() -> None:
    with FakeAliyunPersonal(ttl_seconds=1.0) as aliyun:
        made = open_client(aliyun)
        push(made, "team/app", "v0", b"one")
        pause = threading.Event()

        def look() -> bool:
            pause.wait(0.02)
            aliyun.tokens.revoke_all()  # so that the token service is shown the user each time
            assert made.head_manifest("team/app", "v0") is not None
            return aliyun.actions.count("GetAuthorizationToken") >= 3

        wait_until(look, 20, "three tokens")
        made.close()


def test_fixed_password_needs_no_api(aliyun: FakeAliyunPersonal) -> None:
    aliyun.users.let_in("crew@corp", "f1xed-passw0rd", 60)
    aliyun.repositories.add("team/app")
    made = open_client(aliyun, Credential("crew@corp", "f1xed-passw0rd"))

    push(made, "team/app", "v1", b"one")

    assert aliyun.control.log == []
    with pytest.raises(errors.Unsupported):
        made.delete_manifest("team/app", "v1")


def test_wrong_key_is_an_authentication_failure(aliyun: FakeAliyunPersonal) -> None:
    with pytest.raises(errors.AuthenticationFailed, match="SignatureDoesNotMatch"):
        list(open_client(aliyun, Credential(ACCESS_KEY, "wrong")).list_repositories())


def test_rule_copies_into_a_namespace_that_is_not_there(
    aliyun: FakeAliyunPersonal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_ALIYUN", SECRET)
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "aliyun",
            f"http://{HOST}:{aliyun.port}",
            credentials=CredentialSpec(ACCESS_KEY, password_env="TRANSSHIP_SECRET_ALIYUN"),
            api_url=aliyun.control.url,
            connect_to=f"127.0.0.1:{aliyun.port}",
        )
        world.services.registries.put(endpoint, document={})
        for number in range(6):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))
        rule = mirror("app", to="team/{name}", registry="aliyun")

        assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED
        before = len(aliyun.log)
        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert [one.path for one in aliyun.log[before:] if "/manifests/" in one.path] == []
    assert aliyun.namespaces == {"team"}
