"""contract:ecr-public. Tokens, repositories, digests and deletions at the fake ECR Public, which boto3 judges."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from service.registry.providers.table import PROVIDERS
from tests.contract.ecr import KEY, REGION, SECRET
from tests.contract.ecr_public import FakeEcrPublic
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

OWNER = Credential(KEY, SECRET)


@pytest.fixture
def ecr() -> Iterator[FakeEcrPublic]:
    with FakeEcrPublic() as fake:
        yield fake


def open_client(ecr: FakeEcrPublic, credential: Credential = OWNER) -> RegistryClient:
    endpoint = {"provider": "ecr-public", "api_url": ecr.control.url}
    return client(ecr.url, credential=credential, endpoint=endpoint)


@pytest.fixture
def owner(ecr: FakeEcrPublic) -> Iterator[RegistryClient]:
    made = open_client(ecr)
    yield made
    made.close()


def sdk(ecr: FakeEcrPublic) -> Any:
    return boto3.client(
        "ecr-public",
        region_name=REGION,
        endpoint_url=ecr.control.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, proxies={}),
    )


def test_sdk_reads_what_the_fake_answers(ecr: FakeEcrPublic, owner: RegistryClient) -> None:
    made = sdk(ecr)

    token = made.get_authorization_token()["authorizationData"]
    assert token["authorizationToken"]
    assert token["expiresAt"].year > 2000
    assert made.create_repository(repositoryName="app")["repository"]["repositoryName"] == "app"
    with pytest.raises(ClientError, match="RepositoryAlreadyExistsException"):
        made.create_repository(repositoryName="app")
    pushed = push(owner, "crew/app", "v1", b"one")
    (registry,) = made.describe_registries()["registries"]
    assert {one["name"] for one in registry["aliases"]} == {"crew", "a1b2c3d4", "famous"}
    (row,) = made.describe_repositories()["repositories"]
    assert row["repositoryUri"] == "public.ecr.aws/crew/app"
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        made.describe_image_tags(repositoryName="none")
    (tag,) = made.describe_image_tags(repositoryName="app")["imageTagDetails"]
    assert tag["imageDetail"]["imageDigest"] == str(pushed.digest)
    done = made.batch_delete_image(
        repositoryName="app", imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}]
    )
    assert [one["imageTag"] for one in done["imageIds"]] == ["v1"]
    assert [one["failureCode"] for one in done["failures"]] == ["ImageNotFound"]


def test_host_tells_provider_and_api() -> None:
    row = PROVIDERS["ecr-public"]

    assert row.has_host("public.ecr.aws")
    assert row.api_url("public.ecr.aws") == "https://api.ecr-public.us-east-1.amazonaws.com"


def test_first_push_makes_the_repository_once(ecr: FakeEcrPublic) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [open_client(ecr) for _ in range(4)]
        list(pool.map(lambda n: push(made[n % 4], "crew/team/app", f"v{n}", b"x" * n), range(8)))
    push(made[0], "crew/team/app", "v8", b"more")

    assert set(ecr.repositories) == {"team/app"}
    assert len(ecr.storage.tags("crew/team/app") or ()) == 9


def test_nothing_is_asked_or_made_of_other_accounts(
    ecr: FakeEcrPublic, owner: RegistryClient
) -> None:
    other = push(owner, "famous/app", "v1", b"one")  # which this fake lets in

    assert owner.head_manifest("famous/app", "v1") is not None
    assert owner.head_manifest("famous/app", "v2") is None
    assert list(owner.tags_with_digests("famous/app") or ()) == []
    with pytest.raises(errors.Denied, match="another account"):
        owner.delete_manifest("famous/app", "v1")
    assert ecr.storage.tags("famous/app") == {"v1": str(other.digest)}
    assert ecr.repositories == {}


def test_lists_and_digests_come_by_the_page() -> None:
    with FakeEcrPublic(page=2) as ecr:
        made = open_client(ecr)
        names = [f"crew/team/app{n}" for n in range(5)]
        for name in names:
            push(made, name, "v1", name.encode())
        digests = {
            f"t{n}": str(push(made, "crew/team/app0", f"t{n}", b"%d" % n).digest) for n in range(4)
        }

        pages = list(made.list_repositories())
        rest = list(made.list_repositories(cursor=pages[0].next))
        told = made.tags_with_digests("crew/team/app0")
        assert told is not None
        found = {tag: digest for page in told for tag, digest in page.items()}

    assert [name for page in pages for name in page.repositories] == names
    assert rest == pages[1:]
    assert digests.items() <= found.items()
    assert len(found) == 5


def test_tag_is_deleted_and_its_sibling_stays(ecr: FakeEcrPublic, owner: RegistryClient) -> None:
    push(owner, "crew/app", "v1", b"one")
    push(owner, "crew/app", "latest", b"one")

    owner.delete_manifest("crew/app", "v1")

    assert list(ecr.storage.tags("crew/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        owner.delete_manifest("crew/app", "v1")


def test_keyless_takes_the_machines_identity(
    ecr: FakeEcrPublic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of this hour")
    ecr.session = "of this hour"
    spec = CredentialSpec(keyless="aws")
    endpoint = RegistryEndpoint(
        "it", ecr.url, api_url=ecr.control.url, credentials=spec, provider="ecr-public"
    )
    made = RegistryClient(
        endpoint,
        lambda: pytest.fail("no credential is configured"),
        identity_hosts=["127.0.0.1"],
    )

    push(made, "crew/app", "v1", b"one")
    made.delete_manifest("crew/app", "v1")

    assert ecr.storage.tags("crew/app") == {}
    made.close()


def test_anonymous_pulls_ask_no_api(ecr: FakeEcrPublic, owner: RegistryClient) -> None:
    pushed = push(owner, "crew/app", "v1", b"one")
    ecr.tokens.anonymous_pull = True
    before = len(ecr.control.log)
    nobody = open_client(ecr, Credential())

    assert nobody.get_manifest("crew/app", "v1").digest == pushed.digest
    assert len(ecr.control.log) == before


def test_secret_key_leaves_for_nobody(ecr: FakeEcrPublic, owner: RegistryClient) -> None:
    push(owner, "crew/app", "v1", b"one")

    for log in (ecr.log, ecr.control.log):
        assert log
        assert not [one for one in log if SECRET in f"{one.path}{one.headers}"]
    assert not [one for one in ecr.log if "AWS4-HMAC" in str(one.headers)]


def test_rule_copies_into_repositories_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ecr: FakeEcrPublic
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_PUBLIC", SECRET)
    spec = CredentialSpec(KEY, password_env="TRANSSHIP_SECRET_PUBLIC")
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "public", ecr.url, provider="ecr-public", api_url=ecr.control.url, credentials=spec
        )
        world.services.registries.put(endpoint, document={})
        for number in range(8):
            layers = [some_bytes("layer", 3000)]
            world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))
        rule = mirror("app*", to="crew/{name}", registry="public")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        assert set(ecr.repositories) == {"app0", "app1"}
        before = len(ecr.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert [one.path for one in ecr.log[before:] if "/manifests/" in one.path] == []
