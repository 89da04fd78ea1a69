"""contract:quay. Listings and digests at the fake Quay."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract.quay import FakeQuay
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

TOKEN = "0auth-t0ken"
ROBOT = {"me+robot": "r0bot"}


@pytest.fixture
def quay() -> Iterator[FakeQuay]:
    with FakeQuay(TOKEN, ROBOT) as fake:
        fake.organizations = ["crew", "team"]
        yield fake


@pytest.fixture
def account(quay: FakeQuay) -> Iterator[RegistryClient]:
    made = client(
        quay.url, credential=Credential("$oauthtoken", TOKEN), endpoint={"provider": "quay"}
    )
    yield made
    made.close()


def asked(quay: FakeQuay) -> list[str]:
    return [one.path for one in quay.log if one.path.startswith("/api/")]


def test_repositories_of_all_namespaces_are_listed_and_gone_on_with(
    quay: FakeQuay, account: RegistryClient
) -> None:
    names = [f"{namespace}/app{n}" for namespace in ("crew", "me", "team") for n in range(3)]
    quay.organizations.append("other")
    for name in [*names, "other/app"]:
        push(account, name, "v1", name.encode())
    quay.organizations.remove("other")

    pages = list(account.list_repositories())
    rest = list(account.list_repositories(cursor=pages[0].next))

    assert [name for page in pages for name in page.repositories] == names
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]


def test_digests_of_tags_are_those_of_now(quay: FakeQuay, account: RegistryClient) -> None:
    pushed = {f"v{n}": str(push(account, "team/app", f"v{n}", b"x" * n).digest) for n in range(5)}
    quay.past = [{"name": "v0", "manifest_digest": "sha256:" + "0" * 64, "reversion": True}]
    lister = account.provided.strategies().tags_with_digests or pytest.fail("no lister")

    pages = list(lister.pages("team/app"))

    assert {tag: digest for page in pages for tag, digest in page.items()} == pushed
    assert len(pages) == 3


def test_first_push_makes_the_organization_once(quay: FakeQuay, account: RegistryClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(account, f"new/app{n}", "v1", b"x" * n), range(8)))

    assert quay.organizations.count("new") == 1
    assert [one.status for one in quay.log if one.path == "/api/v1/organization/"] == [201]
    assert len([name for name in quay.storage.repositories() if name.startswith("new/")]) == 8


def test_push_into_the_users_own_namespace_makes_nothing(
    quay: FakeQuay, account: RegistryClient
) -> None:
    push(account, "me/app", "v1", b"one")

    assert "/api/v1/organization/" not in asked(quay)


def test_organization_of_others_is_the_registrys_refusal(
    quay: FakeQuay, account: RegistryClient
) -> None:
    quay.taken.add("theirs")

    with pytest.raises((errors.AuthenticationFailed, errors.Denied)):
        push(account, "theirs/app", "v1", b"one")
    assert "/api/v1/organization/" not in asked(quay)


def test_token_that_may_not_make_organizations_is_told_so(
    quay: FakeQuay, account: RegistryClient
) -> None:
    quay.may_make = False

    with pytest.raises(errors.Denied, match="no organization new") as caught:
        push(account, "new/app", "v1", b"one")
    assert "user:admin" in (caught.value.hint or "")


def test_robot_asks_no_api(quay: FakeQuay) -> None:
    ((user, password),) = ROBOT.items()
    robot = client(quay.url, credential=Credential(user, password), endpoint={"provider": "quay"})

    push(robot, "me/app", "v1", b"one")

    assert [page.repositories for page in robot.list_repositories()] == [("me/app",)]
    assert asked(quay) == []


def test_token_that_is_not_taken_is_an_authentication_failure(quay: FakeQuay) -> None:
    wrong = client(
        quay.url, credential=Credential("$oauthtoken", "old"), endpoint={"provider": "quay"}
    )

    with pytest.raises(errors.AuthenticationFailed):
        list(wrong.list_repositories())


def test_unchanged_tags_cost_a_page_and_no_heads(
    quay: FakeQuay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_QUAY", TOKEN)
    quay._page = 100
    with open_world(tmp_path) as world:
        credentials = CredentialSpec("$oauthtoken", password_env="TRANSSHIP_SECRET_QUAY")
        endpoint = RegistryEndpoint("quay", quay.url, credentials=credentials, provider="quay")
        world.services.registries.put(endpoint, document={})
        for number in range(12):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))
        rule = mirror("app", to="team/app", registry="quay")
        assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED

        def heads() -> int:
            return sum(one.method == "HEAD" and "/manifests/" in one.path for one in list(quay.log))

        before = heads()

        assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED
        assert heads() == before
    assert sorted(quay.storage.tags("team/app") or ()) == sorted(f"v{n}" for n in range(12))
