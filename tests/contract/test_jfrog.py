"""contract:jfrog. Repository keys, listings and uploads at the fake Artifactory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract.jfrog import FakeJfrog
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

USERS = {"ci": "t0ken", "reader": "also"}


@pytest.fixture
def jfrog() -> Iterator[FakeJfrog]:
    with FakeJfrog(USERS, frozenset({"ci"})) as fake:
        yield fake


@pytest.fixture
def ci(jfrog: FakeJfrog) -> Iterator[RegistryClient]:
    made = client(jfrog.url, credential=Credential("ci", "t0ken"))
    yield made
    made.close()


def made(jfrog: FakeJfrog) -> list[str]:
    return [one.path for one in jfrog.log if one.method == "PUT" and "/api/" in one.path]


def test_first_push_makes_the_repository_key_once(jfrog: FakeJfrog, ci: RegistryClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(ci, f"new-local/app{n}", "v1", b"x" * n), range(8)))

    assert jfrog.keys == {"new-local": "docker"}
    assert made(jfrog) == ["/artifactory/api/repositories/new-local"]
    assert len(jfrog.storage.repositories()) == 8
    assert ci.provided.provider.name == "jfrog", "its own headers tell"


def test_key_that_another_process_has_made_meanwhile_is_a_success(
    jfrog: FakeJfrog, ci: RegistryClient
) -> None:
    jfrog.keys["team-docker"] = "docker"
    maker = ci.provided.strategies().maker or pytest.fail("not recognised")

    maker.make("team-docker")

    assert jfrog.keys == {"team-docker": "docker"}


@pytest.fixture(autouse=True)
def introduced(ci: RegistryClient) -> None:
    """Have the registry tell who it is: its first answer does."""
    ci.ping()


def test_user_that_may_not_make_keys_is_told_so(jfrog: FakeJfrog) -> None:
    reader = client(jfrog.url, credential=Credential("reader", "also"))

    with pytest.raises(errors.Denied) as caught:
        push(reader, "new-local/app", "v1", b"one")

    assert "no repository new-local" in caught.value.message
    assert "local Docker repository" in (caught.value.hint or "")


def test_images_of_all_keys_are_listed_and_gone_on_with(
    jfrog: FakeJfrog, ci: RegistryClient
) -> None:
    jfrog.keys |= {"a-local": "docker", "b-oci": "oci", "c-npm": "npm", "d-secret": "docker"}
    jfrog.hidden.add("d-secret")
    names = [f"{key}/team/app{n}" for key in ("a-local", "b-oci") for n in range(5)]
    for name in names:
        push(ci, name, "v1", name.encode())

    pages = list(ci.list_repositories())
    rest = list(ci.list_repositories(cursor=pages[0].next))

    assert sorted(name for page in pages for name in page.repositories) == names
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]


def test_nothing_is_ever_mounted(jfrog: FakeJfrog, ci: RegistryClient) -> None:
    jfrog.keys["a-local"] = "docker"
    push(ci, "a-local/app", "v1", b"layer")
    digest = Digest.of(b"layer")

    outcome = ci.mount_blob("a-local/other", digest, "a-local/app")

    assert outcome is None
    assert jfrog.mounts == 0, "it was asked for what it refuses"


def test_rule_copies_into_a_key_that_is_not_there(
    jfrog: FakeJfrog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_JFROG", "t0ken")
    layers = [some_bytes(f"layer{number}", 3000) for number in range(3)]
    with open_world(tmp_path) as world:
        credentials = CredentialSpec("ci", password_env="TRANSSHIP_SECRET_JFROG")
        endpoint = RegistryEndpoint("jfrog", jfrog.url, credentials=credentials)
        world.services.registries.put(endpoint, document={})
        for number in range(4):
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))

        execution = plan(world, mirror("app*", to="{name}-docker/app", registry="jfrog"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    assert set(jfrog.keys) == {"app0-docker", "app1-docker"}
    assert jfrog.mounts == 0
    assert sorted(jfrog.storage.tags("app0-docker/app") or ()) == ["v0", "v2"]
