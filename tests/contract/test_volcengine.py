"""contract:volcengine. Tokens, repositories, digests and deletions at the fake Volcengine CR."""

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
from service.registry.providers.volcengine import sign
from tests.contract.volcengine import (
    ACCESS_KEY,
    REGION,
    REGISTRY,
    SECRET_KEY,
    FakeVolcengine,
)
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes


@pytest.fixture
def volcengine() -> Iterator[FakeVolcengine]:
    with FakeVolcengine() as fake:
        yield fake


def endpoint(fake: FakeVolcengine, **members: object) -> RegistryEndpoint:
    """The fake by the host that the vendor would give it."""
    port = fake.url.rpartition(":")[2]
    url = f"http://{REGISTRY}-{REGION}.cr.volces.com:{port}"
    return RegistryEndpoint(
        "volcengine",
        url,
        connect_to=f"127.0.0.1:{port}",
        api_url=fake.control.url,
        **members,  # type: ignore[arg-type]
    )


def account(
    fake: FakeVolcengine, user: str = ACCESS_KEY, password: str = SECRET_KEY
) -> RegistryClient:
    wanted = endpoint(fake)
    members = {"connect_to": wanted.connect_to, "api_url": wanted.api_url}
    return client(wanted.url, credential=Credential(user, password), endpoint=members)


def test_signature_is_the_vendors_own() -> None:
    """Made by SignerV4.sign_only of the vendor's package volcengine, 1.0.229."""
    headers = sign(
        "AKLTEXAMPLEEXAMPLEEXAMPLE",
        "c2VjcmV0RVhBTVBMRXNlY3JldA==",
        region="cn-beijing",
        host="open.volcengineapi.com",
        query="Action=ListRepositories&Version=2022-05-12",
        body=b'{"Registry":"enterprise-1"}',
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
    )

    assert headers["Authorization"] == (
        "HMAC-SHA256 Credential=AKLTEXAMPLEEXAMPLEEXAMPLE/20261128/cn-beijing/cr/request, "
        "SignedHeaders=content-type;host;x-content-sha256;x-date, "
        "Signature=eb0b99399e7452e7770bd4c889332e50499f57175887739c044c47069f7e8658"
    )


def test_first_push_makes_namespace_and_repository_once(volcengine: FakeVolcengine) -> None:
    made = account(volcengine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(made, "new/app", f"v{n}", b"x" * n), range(8)))

    assert (volcengine.namespaces, volcengine.repositories) == ({"new"}, {"new/app"})
    assert volcengine.actions.count("CreateRepository") == 1
    assert made.provided.provider.name == "volcengine"


def test_repository_that_somebody_else_has_made_meanwhile_is_a_success(
    volcengine: FakeVolcengine,
) -> None:
    volcengine.namespaces.add("team")
    volcengine.repositories.add("team/app")
    maker = account(volcengine).provided.strategies().maker or pytest.fail("no maker")

    maker.make("team/app")

    assert volcengine.actions.count("CreateNamespace") == 0


def test_repositories_and_digests_are_listed_and_one_tag_goes(volcengine: FakeVolcengine) -> None:
    made = account(volcengine)
    names = [f"team{n % 2}/app{n:03}" for n in range(205)]
    volcengine.repositories |= set(names)
    one, other = (push(made, "team0/app000", tag, tag.encode()) for tag in ("v1", "v2"))

    pages = list(made.list_repositories())
    rest = list(made.list_repositories(cursor=pages[0].next))
    lister = made.provided.strategies().tags_with_digests or pytest.fail("no lister")
    told = {tag: digest for page in lister.pages("team0/app000") for tag, digest in page.items()}
    made.provided.delete_tag("team0/app000", "v1")

    assert sorted(n for page in pages for n in page.repositories) == sorted(names)
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]
    assert told == {"v1": str(one.digest), "v2": str(other.digest)}
    assert set(volcengine.storage.tags("team0/app000") or ()) == {"v2"}
    with pytest.raises(errors.ManifestNotFound):
        made.provided.delete_tag("team0/app000", "v1")


def test_wrong_secret_key_is_an_authentication_failure(volcengine: FakeVolcengine) -> None:
    wrong = account(volcengine, password="wrong")

    with pytest.raises(errors.AuthenticationFailed) as caught:
        list(wrong.list_repositories())

    assert "SignatureDoesNotMatch" in caught.value.message


def test_fixed_password_pushes_and_asks_no_api(volcengine: FakeVolcengine) -> None:
    volcengine.repositories.add("team/app")
    volcengine.users["ci@account"] = "fixed"

    push(account(volcengine, "ci@account", "fixed"), "team/app", "v1", b"one")

    assert volcengine.actions == []


def test_rule_copies_into_repositories_that_are_not_there(
    volcengine: FakeVolcengine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_VOLCENGINE", SECRET_KEY)
    layers = [some_bytes(f"layer{number}", 3000) for number in range(3)]
    with open_world(tmp_path) as world:
        credentials = CredentialSpec(ACCESS_KEY, password_env="TRANSSHIP_SECRET_VOLCENGINE")
        world.services.registries.put(endpoint(volcengine, credentials=credentials), document={})
        for number in range(4):
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))

        execution = plan(world, mirror("app*", to="{name}-team/app", registry="volcengine"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert volcengine.repositories == {"app0-team/app", "app1-team/app"}
    assert sorted(volcengine.storage.tags("app0-team/app") or ()) == ["v0", "v2"]
