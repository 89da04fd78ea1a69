"""contract:ghcr. Packages and versions of the fake GitHub; referrers that lead to an HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.table import PROVIDERS
from tests.contract.ghcr import FakeGitHub
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world

USER = Credential("crew", "ghp_s3cret")


@pytest.fixture
def github(request: pytest.FixtureRequest) -> Iterator[FakeGitHub]:
    page = getattr(request, "param", 2)
    with FakeGitHub("Crew", "ghp_s3cret", orgs=("Ship", "Yard"), page=page) as fake:
        yield fake


def open_client(github: FakeGitHub, credential: Credential = USER) -> RegistryClient:
    endpoint = {"provider": "ghcr", "api_url": github.github.url}
    return client(github.url, credential=credential, endpoint=endpoint)


@pytest.fixture
def crew(github: FakeGitHub) -> Iterator[RegistryClient]:
    made = open_client(github)
    yield made
    made.close()


def test_api_is_githubs() -> None:
    assert PROVIDERS["ghcr"].api_url("ghcr.io") == "https://api.github.com"


def test_packages_of_user_and_organisations_are_listed_and_gone_on_with(
    github: FakeGitHub, crew: RegistryClient
) -> None:
    names = [f"{owner}/app{n}" for owner in ("crew", "ship", "yard") for n in range(3)]
    for name in [*names, "foreign/app"]:
        push(crew, name, "v1", name.encode())

    pages = list(crew.list_repositories())

    assert [name for page in pages for name in page.repositories] == names
    for position, page in enumerate(pages[:-1]):
        assert list(crew.list_repositories(cursor=page.next)) == pages[position + 1 :]


@pytest.mark.parametrize("owner", ["crew", "ship"])
def test_digests_come_by_the_page(github: FakeGitHub, crew: RegistryClient, owner: str) -> None:
    name = f"{owner}/team/app"
    digests = {f"v{n}": str(push(crew, name, f"v{n}", b"%d" % n).digest) for n in range(5)}

    told = crew.tags_with_digests(name)

    assert told is not None
    assert {tag: digest for page in told for tag, digest in page.items()} == digests


def test_tags_are_never_deleted(github: FakeGitHub, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")

    with pytest.raises(errors.Unsupported, match="cannot delete a tag"):
        crew.delete_manifest("crew/app", "v1")
    assert [one for one in github.log if one.method == "DELETE"] == []


def test_referrers_are_not_asked_for_where_an_html_page_answers(
    github: FakeGitHub, crew: RegistryClient
) -> None:
    pushed = push(crew, "crew/app", "v1", b"one")

    assert crew.referrers("crew/app", pushed.digest) is None
    assert [one for one in github.log if "/referrers/" in one.path] == []


def test_link_to_another_host_is_not_followed(github: FakeGitHub, crew: RegistryClient) -> None:
    with FakeGitHub("Crew", "ghp_s3cret") as other:
        github.wrong_link = f'<{other.github.url}/user/orgs?page=2>; rel="next"'
        with pytest.raises(errors.ProtocolError, match="elsewhere"):
            list(crew.list_repositories())
        assert other.github.log == []


def test_tokens_reach_their_own_hosts_only(github: FakeGitHub, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    assert list(crew.list_repositories())

    assert not [one for one in github.log if "ghp_s3cret" in str(one.headers)]
    assert {one.headers["authorization"] for one in github.github.log} == {"Bearer ghp_s3cret"}


@pytest.mark.parametrize("github", [100], indirect=True)
def test_rule_out_of_everything_that_the_user_has(
    github: FakeGitHub, crew: RegistryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_GITHUB", "ghp_s3cret")
    spec = CredentialSpec("crew", password_env="TRANSSHIP_SECRET_GITHUB")
    endpoint = RegistryEndpoint(
        "ghcr", github.url, provider="ghcr", api_url=github.github.url, credentials=spec
    )
    for number in range(8):
        push(crew, f"{('crew', 'ship')[number % 2]}/app", f"v{number}", b"%d" % number)
    with open_world(tmp_path) as world:
        world.services.registries.put(endpoint, document={})
        rule = mirror("**", source="ghcr")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        assert len(world.west.storage.tags("mirror/ship/app") or ()) == 4
        before = len(github.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
    assert [one.path for one in github.log[before:] if "/manifests/" in one.path] == []
