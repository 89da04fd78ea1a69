"""contract:gar. Repositories, digests and whole uploads at the fake, which Google's libraries judge."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
from google.cloud.artifactregistry_v1.services.artifact_registry.transports.rest import (
    ArtifactRegistryRestTransport,
)
from google.oauth2 import service_account

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.providers import gar as strategies
from service.registry.providers.table import PROVIDERS
from tests.contract.gar import KEY, FakeGar
from tests.integration.registry.support import blob, client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

COMPACT = json.dumps(KEY, separators=(",", ":"))
USER = Credential("_json_key", COMPACT)
MIB = 1 << 20


@pytest.fixture
def gar(request: pytest.FixtureRequest) -> Iterator[FakeGar]:
    with FakeGar(looks=getattr(request, "param", 1)) as fake:
        yield fake


def open_client(gar: FakeGar, credential: Credential = USER, **endpoint: Any) -> RegistryClient:
    keys = {"provider": "gar", "api_url": gar.control.url, **endpoint}
    return client(gar.url, credential=credential, endpoint=keys)


@pytest.fixture
def mover(gar: FakeGar) -> Iterator[RegistryClient]:
    made = open_client(gar)
    yield made
    made.close()


def test_googles_libraries_speak_with_the_fake(gar: FakeGar, mover: RegistryClient) -> None:
    push(mover, "fleet/apps/team/app", "v1", b"one")
    info = {**KEY, "token_uri": f"{gar.control.url}/token"}
    issued = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        info, scopes=[strategies.SCOPE]
    )
    transport = ArtifactRegistryRestTransport(
        host=gar.control.authority, credentials=issued, url_scheme="http"
    )
    sdk = ArtifactRegistryClient(transport=transport)

    parent = "projects/fleet/locations/us"
    found = [row.name for row in sdk.list_repositories(parent=parent)]
    assert found == [f"{parent}/repositories/apps", f"{parent}/repositories/zz-maven"]
    packages = [row.name for row in sdk.list_packages(parent=found[0])]
    assert packages == [f"{found[0]}/packages/team%2Fapp"]


def test_api_is_googles() -> None:
    url = PROVIDERS["gar"].api_url("us-docker.pkg.dev")
    assert url == "https://artifactregistry.googleapis.com"


@pytest.mark.parametrize("gar", [2], indirect=True)
def test_first_push_makes_the_repository_and_waits_for_it(
    gar: FakeGar, mover: RegistryClient
) -> None:
    push(mover, "fleet/apps/app", "v1", b"one")
    push(mover, "fleet/apps/other", "v1", b"two")

    assert gar.repositories == {"apps"}
    assert sum(1 for one in gar.control.log if one.method == "POST" and "/repos" in one.path) == 1
    assert [one for one in gar.control.log if "/operations/" in one.path]


def test_project_that_may_not_be_touched_is_told(gar: FakeGar, mover: RegistryClient) -> None:
    words = b'{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}'
    gar.fault("/v2/strange/", status=404, body=words, times=9)

    with pytest.raises(errors.Denied):
        push(mover, "strange/apps/app", "v1", b"one")


def test_images_of_all_repositories_are_listed_and_gone_on_with(
    gar: FakeGar, mover: RegistryClient
) -> None:
    names = [f"fleet/r{n}/team/app{m}" for n in range(3) for m in range(3)]
    for name in names:
        push(mover, name, "v1", name.encode())

    pages = list(mover.list_repositories())

    assert [name for page in pages for name in page.repositories] == names
    assert list(mover.list_repositories(cursor=pages[0].next)) == pages[1:]


def test_digests_come_in_one_page(gar: FakeGar, mover: RegistryClient) -> None:
    digests = {
        f"v{n}": str(push(mover, "fleet/a/app", f"v{n}", b"%d" % n).digest) for n in range(5)
    }

    told = mover.tags_with_digests("fleet/a/app")

    assert told is not None
    assert list(told) == [digests]


def test_upload_goes_whole_also_when_it_broke_off(gar: FakeGar, mover: RegistryClient) -> None:
    gar.repositories.add("a")
    data, descriptor = blob(3 * MIB)
    mover.put_blob("fleet/a/src", descriptor.digest, data)
    broken = gar.fault("fleet/a/dst.+digest=", method="PUT", reset_request_at=MIB, close=True)

    copy_blob(mover, "fleet/a/src", mover, "fleet/a/dst", descriptor)

    assert broken.fired == 1
    assert [one for one in gar.log if one.method == "PATCH"] == []


def test_key_that_is_none_is_a_configuration_error(gar: FakeGar) -> None:
    for user, text in (("_json_key", "{}"), ("_json_key_base64", base64.b64encode(b"x").decode())):
        with pytest.raises(errors.InvalidConfiguration, match="no key of a service account"):
            open_client(gar, Credential(user, text)).head_manifest("fleet/a/app", "v1")


def test_key_in_base64_is_read_as_well(gar: FakeGar) -> None:
    gar.tokens.users = {"_json_key_base64": base64.b64encode(COMPACT.encode()).decode()}
    user = Credential("_json_key_base64", gar.tokens.users["_json_key_base64"])

    push(open_client(gar, user), "fleet/apps/app", "v1", b"one")

    assert gar.repositories == {"apps"}


def test_private_key_leaves_for_the_registrys_token_service_only(
    gar: FakeGar, mover: RegistryClient
) -> None:
    push(mover, "fleet/apps/app", "v1", b"one")
    assert list(mover.list_repositories())

    key = base64.b64encode(f"_json_key:{COMPACT}".encode()).decode()
    with_key = [one for one in gar.log if key in str(one.headers)]
    assert {one.path.partition("?")[0] for one in with_key} == {"/token"}
    assert not [one for one in gar.control.log if key in str(one.headers)]
    assert not [one for one in gar.log if "ya29" in str(one.headers)]


def test_rule_copies_into_a_repository_that_is_not_there(gar: FakeGar, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(KEY, indent=2))  # as Google writes it
    spec = CredentialSpec("_json_key", password_file=str(file))
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "gar", gar.url, provider="gar", api_url=gar.control.url, credentials=spec
        )
        world.services.registries.put(endpoint, document={})
        for number in range(8):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))
        rule = mirror("app", to="fleet/apps/{name}", registry="gar")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        before = len(gar.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert [one.path for one in gar.log[before:] if "/manifests/" in one.path] == []
