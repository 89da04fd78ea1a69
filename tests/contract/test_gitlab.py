"""contract:gitlab. Repositories of the user's projects at the fake, which python-gitlab judges."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gitlab import Gitlab
from gitlab.exceptions import GitlabCreateError

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract.gitlab import FakeGitLab
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world

USER = Credential("crew", "glpat-s3cret")


@pytest.fixture
def gitlab() -> Iterator[FakeGitLab]:
    with FakeGitLab("crew", "glpat-s3cret", page=2) as fake:
        yield fake


def open_client(fake: FakeGitLab, credential: Credential = USER, **endpoint: Any) -> RegistryClient:
    """A client that is not told what it speaks to, only that its token service is elsewhere."""
    trusted = {"trusted_hosts": (fake.gitlab.authority,)}
    return client(fake.url, credential=credential, endpoint={**trusted, **endpoint})


def filled(fake: FakeGitLab, made: RegistryClient) -> list[str]:
    """Projects with and without a registry, and the repositories of the first."""
    names = ["team/app", "team/app/a", "team/app/b", "team/lib/x", "other/tool"]
    fake.projects |= {"team/app": True, "off/line": False, "team/lib": True, "other/tool": True}
    for name in [*names, "foreign/app"]:
        push(made, name, "v1", name.encode())
    return names


def test_sdk_reads_projects_and_repositories_from_the_fake(gitlab: FakeGitLab) -> None:
    names = filled(gitlab, open_client(gitlab))
    sdk = Gitlab(gitlab.gitlab.url, private_token="glpat-s3cret")

    found = [
        repository.path
        for project in sdk.projects.list(membership=True, iterator=True)
        if project.id != 2
        for repository in project.repositories.list(iterator=True)
    ]

    assert found == names


def test_sdk_makes_a_project_at_the_fake(gitlab: FakeGitLab) -> None:
    gitlab.groups = {"team": 7}
    sdk = Gitlab(gitlab.gitlab.url, private_token="glpat-s3cret")

    namespace = sdk.namespaces.get("team")
    made = sdk.projects.create(
        {"name": "app", "path": "app", "namespace_id": namespace.id, "visibility": "private"}
    )

    assert made.path_with_namespace == "team/app"
    assert sdk.projects.get("team/app").id == made.id
    with pytest.raises(GitlabCreateError, match="taken"):
        sdk.projects.create(
            {"name": "app", "path": "app", "namespace_id": 7, "visibility": "private"}
        )


@pytest.mark.parametrize(
    ("repository", "project"),
    [("team/app", "team/app"), ("team/sub/app", "team/sub/app"), ("team/new/a/b", "team/new")],
)
def test_first_push_makes_the_project_below_the_longest_group(
    gitlab: FakeGitLab, repository: str, project: str
) -> None:
    gitlab.groups = {"team": 7, "team/sub": 8}
    with ThreadPoolExecutor(4) as pool:
        made = [open_client(gitlab) for _ in range(4)]
        list(pool.map(lambda n: push(made[n], repository, f"v{n}", b"x" * n), range(4)))

    assert gitlab.projects == {project: True}
    assert len(gitlab.storage.tags(repository) or ()) == 4


def test_project_that_is_there_is_not_made_again(gitlab: FakeGitLab) -> None:
    gitlab.groups = {"team": 7}
    gitlab.projects["team/app"] = True

    push(open_client(gitlab), "team/app/deep/er", "v1", b"one")

    assert gitlab.projects == {"team/app": True}


def test_group_that_is_not_there_and_a_token_without_api_are_told(gitlab: FakeGitLab) -> None:
    gitlab.groups = {"team": 7}
    with pytest.raises(errors.Denied, match="no group"):
        push(open_client(gitlab), "nobody/app", "v1", b"one")
    gitlab.may_make = False

    with pytest.raises(errors.Denied, match="no project team/app") as caught:
        push(open_client(gitlab), "team/app", "v1", b"one")
    assert "api" in (caught.value.hint or "")


def test_deploy_token_is_told_the_registrys_own_refusal(gitlab: FakeGitLab) -> None:
    gitlab.groups = {"team": 7}
    gitlab.tokens.users = {**gitlab.tokens.users, "deploy": "d3ploy-t0ken"}  # not the API's

    with pytest.raises(errors.Denied) as caught:
        push(open_client(gitlab, Credential("deploy", "d3ploy-t0ken")), "team/app", "v1", b"one")
    assert "/blobs/uploads/" in caught.value.message
    assert gitlab.projects == {}


def test_repository_of_a_project_that_is_not_there_yet_is_absent(gitlab: FakeGitLab) -> None:
    gitlab.groups = {"team": 7}
    gitlab.fault("/manifests/", method="HEAD", status=403, times=9)
    made = open_client(gitlab, provider="gitlab")

    assert made.head_manifest("team/app", "v1") is None
    gitlab.projects["team/app"] = True
    with pytest.raises(errors.Denied):
        open_client(gitlab, provider="gitlab").head_manifest("team/app", "v1")


def test_repositories_of_the_users_projects_are_listed_and_gone_on_with(gitlab: FakeGitLab) -> None:
    made = open_client(gitlab)
    names = filled(gitlab, made)

    pages = list(made.list_repositories())

    assert made.provided.provider.name == "gitlab"
    assert [name for page in pages for name in page.repositories] == names
    assert len(pages) == 2
    assert list(made.list_repositories(cursor=pages[0].next)) == pages[1:]


def test_client_that_knows_nothing_yet_finds_the_api_by_itself(gitlab: FakeGitLab) -> None:
    names = filled(gitlab, open_client(gitlab))

    fresh = open_client(gitlab, provider="gitlab")

    assert [n for page in fresh.list_repositories() for n in page.repositories] == names


def test_token_service_that_is_not_trusted_is_shown_no_token(gitlab: FakeGitLab) -> None:
    made = client(gitlab.url, credential=USER, endpoint={"provider": "gitlab"})
    with FakeGitLab("crew", "glpat-s3cret") as other:
        realm = (
            f'Bearer realm="http://evil.example:{other.port}/jwt/auth",service="container_registry"'
        )
        gitlab.fault("/v2/", status=401, headers={"WWW-Authenticate": realm}, times=9)

        with pytest.raises(errors.AddressRefused):
            list(made.list_repositories())


def test_token_that_may_not_list_is_told_so(gitlab: FakeGitLab) -> None:
    filled(gitlab, open_client(gitlab))

    with pytest.raises(errors.AuthenticationFailed):
        list(open_client(gitlab, Credential("crew", "deploy")).list_repositories())


def test_rule_takes_what_the_user_is_a_member_of(
    gitlab: FakeGitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = filled(gitlab, open_client(gitlab))
    monkeypatch.setenv("TRANSSHIP_SECRET_GITLAB", "glpat-s3cret")
    spec = CredentialSpec("crew", password_env="TRANSSHIP_SECRET_GITLAB")
    endpoint = RegistryEndpoint(
        "gitlab", gitlab.url, credentials=spec, trusted_hosts=(gitlab.gitlab.authority,)
    )
    with open_world(tmp_path) as world:
        world.services.registries.put(endpoint, document={})
        execution = plan(world, mirror("**", source="gitlab"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
        assert sorted(world.west.storage.repositories()) == sorted(f"mirror/{n}" for n in names)
