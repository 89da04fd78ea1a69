"""contract:swr. Logins, organizations and listings at the fake Huawei SWR."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.sdk_hmac import sign
from service.registry.providers.swr import long_term
from tests.contract.swr import FakeSwr, documented_password
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

ACCESS_KEY, SECRET_KEY = "RVHVMX4NEWEXAMPLE000", "H6mqE3xkEXAMPLEsecretkey0000000000000000"
HOST = "swr.cn-north-4.myhuaweicloud.com"
GIVEN = Credential(f"cn-north-4@{ACCESS_KEY}", SECRET_KEY)


@pytest.fixture
def swr() -> Iterator[FakeSwr]:
    with FakeSwr("cn-north-4", ACCESS_KEY, SECRET_KEY) as fake:
        yield fake


@pytest.fixture
def account(swr: FakeSwr) -> Iterator[RegistryClient]:
    endpoint = {"provider": "swr", "api_url": swr.url}
    made = client(swr.url, credential=GIVEN, endpoint=endpoint)
    yield made
    made.close()


@pytest.mark.parametrize("user", [ACCESS_KEY, f"cn-north-4@{ACCESS_KEY}"])
def test_login_is_what_the_documented_command_prints(user: str) -> None:
    found = long_term(Credential(user, SECRET_KEY), HOST, "swr")

    password = documented_password(ACCESS_KEY, SECRET_KEY)
    assert found == Credential(f"cn-north-4@{ACCESS_KEY}", password)
    assert long_term(found, HOST, "swr") == found, "it is one already"


def test_user_without_region_at_another_host_is_told_what_to_write() -> None:
    with pytest.raises(errors.Unsupported) as caught:
        long_term(Credential(ACCESS_KEY, SECRET_KEY), "images.example.com", "swr")

    assert "REGION@AK" in (caught.value.hint or "")
    assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "signature"),
    [
        ("app", "a04f43b435978c1adad70f5e9990e32e22d7f393d2d113b9aa84f10a838f73c7"),
        ("a$b", "be951e89092633d3e7e4b2c3cd8bcfc75449b58008220db6432d33aad6c69b1b"),
    ],
)
def test_signature_is_the_sdks(path: str, signature: str) -> None:
    """What huaweicloudsdkcore 3.1.219 makes of the same requests."""
    made = sign(
        ACCESS_KEY,
        SECRET_KEY,
        method="DELETE",
        path=f"/v2/manage/namespaces/team/repos/{path}/tags/{'v1' if path == 'app' else 'v1.0-x_y'}",
        host="swr-api.cn-north-4.myhuaweicloud.com",
        moment=datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC),
    )

    assert made["Authorization"].endswith(f"Signature={signature}")
    assert made["X-Sdk-Date"] == "20261128T010203Z"


def test_first_push_makes_the_organization_once(swr: FakeSwr, account: RegistryClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(account, f"new/app{n}", "v1", b"x" * n), range(8)))

    made = [one.status for one in swr.log if one.path == "/dockyard/v2/namespaces"]
    assert swr.organizations == {"new"}
    assert made == [201]
    assert len(swr.storage.repositories()) == 8


def test_organization_of_another_account_is_told(swr: FakeSwr, account: RegistryClient) -> None:
    swr.others.add("theirs")

    with pytest.raises(errors.Rejected) as caught:
        push(account, "theirs/app", "v1", b"one")

    assert "already existed" in caught.value.message


def test_key_that_may_not_make_organizations_is_told_so(
    swr: FakeSwr, account: RegistryClient
) -> None:
    swr.may_make = False

    with pytest.raises(errors.Denied) as caught:
        push(account, "new/app", "v1", b"one")

    assert "no organization new" in caught.value.message


def test_repositories_of_the_account_are_listed(swr: FakeSwr, account: RegistryClient) -> None:
    swr.organizations |= {"a", "b"}
    names = [f"{organization}/app/{n}" for organization in "ab" for n in range(3)]
    for name in names:
        push(account, name, "v1", name.encode())

    assert [page.repositories for page in account.list_repositories()] == [tuple(names)]


@pytest.mark.parametrize("name", ["team/app", "team/app/deep.er"])
def test_tag_is_deleted_and_its_sibling_stays(
    swr: FakeSwr, account: RegistryClient, name: str
) -> None:
    push(account, name, "v1", b"one")
    push(account, name, "latest", b"one")

    account.delete_manifest(name, "v1")

    assert list(swr.storage.tags(name) or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        account.delete_manifest(name, "v1")


def test_long_term_login_deletes_nothing_and_says_so(swr: FakeSwr) -> None:
    swr.organizations.add("team")
    made = client(
        swr.url,
        credential=Credential(swr.user, swr.password),
        endpoint={"provider": "swr", "api_url": swr.url},
    )
    push(made, "team/app", "v1", b"one")

    with pytest.raises(errors.Unsupported):
        made.delete_manifest("team/app", "v1")
    assert swr.storage.tags("team/app") is not None


def test_secret_key_leaves_for_nobody(swr: FakeSwr, account: RegistryClient) -> None:
    push(account, "team/app", "v1", b"one")
    account.delete_manifest("team/app", "v1")

    shown = base64.b64encode(f"{swr.user}:{SECRET_KEY}".encode()).decode()
    for one in swr.log:
        assert SECRET_KEY not in f"{one.path}{one.headers}"
        assert shown not in str(one.headers)


def test_rule_copies_into_an_organization_that_is_not_there(
    swr: FakeSwr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_SWR", SECRET_KEY)
    layers = [some_bytes(f"layer{number}", 3000) for number in range(3)]
    with open_world(tmp_path) as world:
        credentials = CredentialSpec(GIVEN.username, password_env="TRANSSHIP_SECRET_SWR")
        endpoint = RegistryEndpoint("swr", swr.url, credentials=credentials, provider="swr")
        world.services.registries.put(endpoint, document={})
        for number in range(4):
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))

        execution = plan(world, mirror("app*", to="{name}-team/app", registry="swr"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert swr.organizations == {"app0-team", "app1-team"}
    assert sorted(swr.storage.tags("app0-team/app") or ()) == ["v0", "v2"]
