"""contract:dockerhub. Lists, digests and deletions by hub.docker.com's API at the fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.table import PROVIDERS
from tests.contract.dockerhub import FakeHub
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import World, open_world

USER = Credential("crew", "s3cret")


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[FakeHub]:
    with FakeHub("crew", "s3cret", page=getattr(request, "param", 2)) as fake:
        yield fake


def open_client(hub: FakeHub, credential: Credential = USER) -> RegistryClient:
    endpoint = {"provider": "dockerhub", "api_url": hub.hub.url}
    return client(hub.url, credential=credential, endpoint=endpoint)


@pytest.fixture
def crew(hub: FakeHub) -> Iterator[RegistryClient]:
    made = open_client(hub)
    yield made
    made.close()


@pytest.mark.parametrize("left", [2, 0], ids=["used-up", "empty"])
def test_second_account_pulls_where_the_firsts_quota_is_used_up(hub: FakeHub, left: int) -> None:
    """Told by the header of its last pull, it costs no refusal; found out by a 429, one."""
    owner = open_client(hub)
    for number in range(4):
        push(owner, "crew/app", f"v{number}", b"%d" % number)
    owner.close()
    hub.tokens.users = {"crew": "s3cret", "crew2": "s3cret2"}
    hub.pulls = {"crew": left, "crew2": 9}
    first = len(hub.log)
    endpoint = RegistryEndpoint(
        "hub",
        hub.url,
        provider="dockerhub",
        api_url=hub.hub.url,
        credentials=CredentialSpec("crew", password_env="X"),
        more_credentials=(CredentialSpec("crew2", password_env="Y"),),
    )
    made = RegistryClient(endpoint, lambda: USER, more=[lambda: Credential("crew2", "s3cret2")])
    for number in range(4):
        made.get_manifest("crew/app", f"v{number}")
        assert made.head_manifest("crew/app", f"v{number}")
    made.close()

    assert hub.pulls == {"crew": 0, "crew2": 9 - (4 - left)}
    refused = [line for line in hub.log[first:] if line.status == 429]
    assert len(refused) == (1 if left == 0 else 0)


def test_api_is_hub_docker_com() -> None:
    assert PROVIDERS["dockerhub"].api_url("registry-1.docker.io") == "https://hub.docker.com"


def test_repositories_of_the_users_namespaces_are_listed_and_gone_on_with(
    hub: FakeHub, crew: RegistryClient
) -> None:
    hub.namespaces = ["ship", "crew"]
    names = [f"{space}/app{n}" for space in ("crew", "ship") for n in range(3)]
    for name in [*names, "other/app"]:
        push(crew, name, "v1", name.encode())

    pages = list(crew.list_repositories())

    assert [name for page in pages for name in page.repositories] == names
    for position, page in enumerate(pages[:-1]):
        assert list(crew.list_repositories(cursor=page.next)) == pages[position + 1 :]


def test_anonymous_registry_has_no_list(hub: FakeHub) -> None:
    with pytest.raises(errors.Unsupported, match="no catalog"):
        list(open_client(hub, Credential()).list_repositories())
    assert hub.hub.log == []


def test_digests_come_by_the_page_and_unknown_ones_are_left_out(
    hub: FakeHub, crew: RegistryClient
) -> None:
    digests = {f"v{n}": str(push(crew, "crew/app", f"v{n}", b"%d" % n).digest) for n in range(5)}
    hub.without_digest = {"v3"}

    told = crew.tags_with_digests("crew/app")
    assert told is not None
    found = {tag: digest for page in told for tag, digest in page.items()}

    del digests["v3"]
    assert found == digests


def test_tag_is_deleted_and_its_sibling_stays(hub: FakeHub, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    push(crew, "crew/app", "latest", b"one")

    crew.delete_manifest("crew/app", "v1")

    assert list(hub.storage.tags("crew/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        crew.delete_manifest("crew/app", "v1")


def test_token_of_the_api_that_ended_is_replaced(hub: FakeHub, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    assert list(crew.list_repositories())
    hub.issued.clear()

    assert list(crew.list_repositories())
    assert set(hub.issued) == {"hub-2"}


def test_wrong_password_is_an_authentication_failure(hub: FakeHub) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        list(open_client(hub, Credential("crew", "wrong")).list_repositories())


@pytest.mark.parametrize(
    "spec", [CredentialSpec("crew", secret="hub"), CredentialSpec("crew", stored=True, named=True)]
)
def test_named_secret_is_shown_to_hosts_that_it_is_bound_to_only(
    hub: FakeHub, spec: CredentialSpec
) -> None:
    keys = {"provider": "dockerhub", "credentials": spec}
    unbound = client(hub.url, credential=USER, endpoint=keys)

    with pytest.raises(errors.InvalidConfiguration, match=r"would be shown to hub\.docker\.com"):
        list(unbound.list_repositories())
    bound = client(hub.url, credential=USER, endpoint={**keys, "api_url": hub.hub.url})
    assert list(bound.list_repositories())
    assert hub.hub.authority in bound.endpoint.audience


def test_password_and_tokens_reach_their_own_hosts_only(hub: FakeHub, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    assert list(crew.list_repositories())

    assert not [one for one in hub.log if "hub-" in str(one.headers)]
    assert not [one for one in hub.hub.log if "Basic" in str(one.headers)]
    bearers = {one.headers.get("authorization") for one in hub.hub.log}
    assert bearers == {None, "Bearer hub-1"}


@pytest.mark.parametrize("hub", [100], indirect=True)
def test_rule_out_of_all_namespaces_spends_no_pulls_on_looking(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_HUB", "s3cret")
    spec = CredentialSpec("crew", password_env="TRANSSHIP_SECRET_HUB")
    endpoint = RegistryEndpoint(
        "hub", hub.url, provider="dockerhub", api_url=hub.hub.url, credentials=spec
    )
    made = open_client(hub)
    for number in range(8):
        push(made, f"crew/app{number % 2}", f"v{number}", b"%d" % number)
    made.close()
    world: World
    with open_world(tmp_path) as world:
        world.services.registries.put(endpoint, document={})
        rule = mirror("**", source="hub")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        before = len(hub.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert len(world.west.storage.tags("mirror/crew/app1") or ()) == 4
    assert not [one for one in hub.log[before:] if "/manifests/" in one.path]
