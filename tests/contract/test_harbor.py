"""contract:harbor. Projects, listings, digests and deletions of tags at the fake Harbor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential
from service.registry.client import RegistryClient
from tests.contract.harbor import FakeHarbor
from tests.integration.registry.support import client, push

ROBOT = "robot$transship"
USERS = {ROBOT: "s3cret", "reader": "also"}


@pytest.fixture
def harbor() -> Iterator[FakeHarbor]:
    with FakeHarbor(USERS, frozenset({ROBOT})) as fake:
        yield fake


@pytest.fixture
def robot(harbor: FakeHarbor) -> Iterator[RegistryClient]:
    made = client(harbor.url, credential=Credential(ROBOT, "s3cret"))
    yield made
    made.close()


def api_calls(harbor: FakeHarbor, method: str) -> list[str]:
    return [one.path for one in harbor.log if one.method == method and "/api/" in one.path]


def test_first_push_makes_the_project_once(harbor: FakeHarbor, robot: RegistryClient) -> None:
    push(robot, "new/app", "v1", b"one")
    push(robot, "new/other", "v1", b"two")

    assert harbor.harbor.projects == {"new"}
    assert api_calls(harbor, "POST") == ["/api/v2.0/projects"]
    assert robot.provided.provider.name == "harbor"


def test_threads_that_push_first_at_once_make_one_project(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: push(robot, f"new/app{n}", "v1", b"x" * n), range(8)))

    assert api_calls(harbor, "POST") == ["/api/v2.0/projects"]
    assert len(harbor.storage.repositories()) == 8


def test_project_that_another_process_has_made_meanwhile_is_a_success(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    harbor.fault("/blobs/uploads/", method="POST", after=lambda *_: harbor.project("new"))

    push(robot, "new/app", "v1", b"one")

    assert harbor.storage.manifest("new/app", "v1") is not None
    assert api_calls(harbor, "POST") == []


def test_user_that_may_not_make_projects_is_told_so(harbor: FakeHarbor) -> None:
    reader = client(harbor.url, credential=Credential("reader", "also"))

    with pytest.raises(errors.Denied) as caught:
        push(reader, "new/app", "v1", b"one")

    assert "no project new" in caught.value.message
    assert "robot" in caught.value.hint


def test_tag_in_a_project_that_is_not_there_is_absent(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    assert robot.head_manifest("new/app", "v1") is None
    harbor.project("new")
    push(robot, "new/app", "v1", b"one")
    assert robot.head_manifest("new/app", "v1") is not None


def test_refused_tag_in_a_project_that_is_there_is_an_error(harbor: FakeHarbor) -> None:
    harbor.project("team")
    wrong = client(harbor.url, credential=Credential(ROBOT, "wrong"))

    with pytest.raises(errors.AuthenticationFailed):
        wrong.head_manifest("team/app", "v1")


def test_repositories_of_all_projects_are_listed_and_gone_on_with(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    names = [f"p{n}/app{m}" for n in range(5) for m in range(3)]
    for name in names:
        push(robot, name, "v1", name.encode())

    pages = list(robot.list_repositories())
    rest = list(robot.list_repositories(cursor=pages[0].next))

    assert sorted(name for page in pages for name in page.repositories) == sorted(names)
    assert [page.repositories for page in rest] == [page.repositories for page in pages[1:]]
    assert len(pages) == 3


def test_list_is_found_though_the_catalog_is_refused_before_anything_is_known(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    push(robot, "team/app", "v1", b"one")
    fresh = client(harbor.url, credential=Credential(ROBOT, "s3cret"))
    harbor.fault(
        "/v2/_catalog", status=401, headers={"Www-Authenticate": 'Basic realm="harbor"'}, times=9
    )

    (page,) = fresh.list_repositories()

    assert page.repositories == ("team/app",)
    fresh.close()


def test_digests_of_tags_come_by_the_page(harbor: FakeHarbor, robot: RegistryClient) -> None:
    digests = {f"v{n}": str(push(robot, "team/a/b", f"v{n}", b"%d" % n).digest) for n in range(5)}
    push(robot, "team/a/b", "again", b"4")
    before = len(harbor.log)

    pages = robot.tags_with_digests("team/a/b")
    assert pages is not None
    found = {tag: digest for page in pages for tag, digest in page.items()}

    assert found == {**digests, "again": digests["v4"]}
    assert len(harbor.log) - before == 3


def test_tag_is_deleted_and_its_sibling_stays(harbor: FakeHarbor, robot: RegistryClient) -> None:
    push(robot, "team/a/b", "v1", b"one")
    push(robot, "team/a/b", "latest", b"one")

    robot.delete_manifest("team/a/b", "v1")

    assert list(harbor.storage.tags("team/a/b") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        robot.delete_manifest("team/a/b", "v1")


def test_immutable_tag_is_refused_with_harbors_own_words(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    push(robot, "team/app", "v1", b"one")
    harbor.immutable.add("v1")

    with pytest.raises(errors.Rejected, match="immutable"):
        robot.delete_manifest("team/app", "v1")


def test_tokens_that_end_are_renewed(harbor: FakeHarbor, robot: RegistryClient) -> None:
    push(robot, "team/app", "v1", b"one")
    harbor.harbor.tokens.revoke_all()

    push(robot, "team/app", "v2", b"two" * 1_000_000)

    assert harbor.storage.manifest("team/app", "v2") is not None


def test_credentials_reach_their_own_host_only(harbor: FakeHarbor, robot: RegistryClient) -> None:
    with FakeHarbor(USERS) as other:
        harbor.fault(
            "/api/v2.0/projects", method="GET", status=302, headers={"Location": f"{other.url}/x"}
        )
        robot.ping()
        with pytest.raises(errors.RegistryError):
            list(robot.list_repositories())
        assert other.log == []


def test_links_of_the_api_to_other_places_are_refused(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    harbor.project("a", "b", "c")
    robot.ping()
    harbor.fault(
        "/api/v2.0/projects",
        method="GET",
        status=200,
        body=b"[]",
        headers={"Link": '</v2/_catalog>; rel="next"', "Content-Type": "application/json"},
    )

    with pytest.raises(errors.ProtocolError, match="elsewhere"):
        list(robot.list_repositories())


def test_digest_of_a_manifest_is_what_the_api_says(
    harbor: FakeHarbor, robot: RegistryClient
) -> None:
    pushed = push(robot, "team/app", "v1", b"one")
    (page,) = robot.tags_with_digests("team/app") or ()
    assert Digest.parse(page["v1"]) == pushed.digest
