"""contract:temporary. Clouds whose access keys get temporary tokens, and whose namespaces and repositories are made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential
from service.model.states import ExecutionState
from tests.contract.aliyun import FakeAliyun
from tests.contract.stands import Stand, stand
from tests.contract.volcengine import FakeVolcengine
from tests.integration.registry.support import push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

CLOUDS = {"aliyun-acr": "SignatureDoesNotMatch", "volcengine": "SignatureDoesNotMatch"}
"""By provider, how it spells that a signature is wrong."""

Fake = FakeAliyun | FakeVolcengine


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with stand(request.param) as made:
        yield made


@pytest.fixture
def fake(cloud: Stand) -> Fake:
    assert isinstance(cloud.registry, Fake)
    return cloud.registry


def test_host_tells_who_it_is(cloud: Stand) -> None:
    assert cloud.client(provider="auto").provided.provider.name == cloud.provider


def test_first_push_makes_namespace_and_repository_once(cloud: Stand, fake: Fake) -> None:
    made = cloud.client()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(made, "new/app", f"v{n}", b"x" * n), range(8)))

    assert (fake.namespaces, fake.repositories) == ({"new"}, {"new/app"})
    assert fake.actions.count("CreateRepository") == 1


def test_repository_that_somebody_else_has_made_meanwhile_is_a_success(
    cloud: Stand, fake: Fake
) -> None:
    fake.namespaces.add("team")
    fake.repositories.add("team/app")
    maker = cloud.client().provided.strategies().maker or pytest.fail("no maker")

    maker.make("team/app")

    assert fake.actions.count("CreateNamespace") == 0


def test_repositories_and_digests_are_listed_and_one_tag_goes(cloud: Stand, fake: Fake) -> None:
    made = cloud.client()
    names = [f"team{n % 2}/app{n:03}" for n in range(205)]
    fake.repositories |= set(names)
    one, other = (push(made, "team0/app000", tag, tag.encode()) for tag in ("v1", "v2"))

    pages = list(made.list_repositories())
    rest = list(made.list_repositories(cursor=pages[0].next))
    lister = made.provided.strategies().tags_with_digests or pytest.fail("no lister")
    told = {tag: digest for page in lister.pages("team0/app000") for tag, digest in page.items()}
    made.provided.delete_tag("team0/app000", "v1")

    assert sorted(n for page in pages for n in page.repositories) == sorted(names)
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]
    assert told == {"v1": str(one.digest), "v2": str(other.digest)}
    assert set(fake.storage.tags("team0/app000") or ()) == {"v2"}
    with pytest.raises(errors.ManifestNotFound):
        made.provided.delete_tag("team0/app000", "v1")


def test_wrong_secret_key_is_an_authentication_failure(cloud: Stand) -> None:
    wrong = cloud.client(Credential(cloud.credential.username, "wrong"))

    with pytest.raises(errors.AuthenticationFailed, match=CLOUDS[cloud.provider]):
        list(wrong.list_repositories())


def test_fixed_password_pushes_and_asks_no_api(cloud: Stand, fake: Fake) -> None:
    fake.repositories.add("team/app")
    fake.users["ci@account"] = "fixed"

    push(cloud.client(Credential("ci@account", "fixed")), "team/app", "v1", b"one")

    assert fake.actions == []


def test_rule_copies_into_repositories_that_are_not_there(
    cloud: Stand, fake: Fake, tmp_path: Path
) -> None:
    layers = [some_bytes(f"layer{number}", 3000) for number in range(3)]
    with open_world(tmp_path) as world:
        world.services.registries.put(cloud.endpoint(tmp_path), document={})
        for number in range(4):
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))

        execution = plan(world, mirror("app*", to="{name}-team/app", registry=cloud.provider))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert fake.repositories == {"app0-team/app", "app1-team/app"}
    assert sorted(fake.storage.tags("app0-team/app") or ()) == ["v0", "v2"]
