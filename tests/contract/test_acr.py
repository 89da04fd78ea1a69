"""contract:acr. Digests and deletions by /acr/v1 at the fake, which Microsoft's own client judges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.containerregistry import ContainerRegistryClient

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract.acr import FakeAcr
from tests.integration.registry.support import client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world, some_bytes

USER = Credential("crew", "s3cret")


@pytest.fixture
def acr() -> Iterator[FakeAcr]:
    with FakeAcr("crew", "s3cret", page=2) as fake:
        yield fake


@pytest.fixture
def crew(acr: FakeAcr) -> Iterator[RegistryClient]:
    made = client(acr.url, credential=USER, endpoint={"provider": "acr"})
    yield made
    made.close()


def test_sdk_reads_tags_and_deletes_one_at_the_fake() -> None:
    with FakeAcr("crew", "s3cret", page=2, public=True) as acr:
        made = client(acr.url, credential=USER, endpoint={"provider": "acr"})
        digests = {
            f"v{n}": str(push(made, "crew/app", f"v{n}", b"%d" % n).digest) for n in range(5)
        }
        made.close()
        plain = {"enforce_https": False}
        with ContainerRegistryClient(
            acr.url, credential=None, audience="https://management.azure.com"
        ) as sdk:
            found = {tag.name: tag.digest for tag in sdk.list_tag_properties("crew/app", **plain)}
            sdk.delete_tag("crew/app", "v3", **plain)

        assert found == digests
        assert "v3" not in (acr.storage.tags("crew/app") or {})


def test_digests_come_by_the_page_with_a_token_for_that(acr: FakeAcr, crew: RegistryClient) -> None:
    digests = {f"v{n}": str(push(crew, "crew/app", f"v{n}", b"%d" % n).digest) for n in range(5)}

    told = crew.tags_with_digests("crew/app")
    assert told is not None
    pages = list(told)

    assert {tag: digest for page in pages for tag, digest in page.items()} == digests
    assert len(pages) == 3
    assert ("repository:crew/app:metadata_read",) in {one.scopes for one in acr.tokens.requests}


def test_tag_is_deleted_and_its_sibling_stays(acr: FakeAcr, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    push(crew, "crew/app", "latest", b"one")

    crew.delete_manifest("crew/app", "v1")

    assert list(acr.storage.tags("crew/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        crew.delete_manifest("crew/app", "v1")


def test_locked_tag_is_kept_and_its_error_says_so(acr: FakeAcr, crew: RegistryClient) -> None:
    push(crew, "crew/app", "v1", b"one")
    acr.locked.add("v1")

    with pytest.raises(errors.Rejected, match="disallowed"):
        crew.delete_manifest("crew/app", "v1")


def test_unchanged_tags_of_a_rule_cost_pages_and_no_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_ACR", "s3cret")
    spec = CredentialSpec("crew", password_env="TRANSSHIP_SECRET_ACR")
    with FakeAcr("crew", "s3cret") as acr, open_world(tmp_path) as world:
        endpoint = RegistryEndpoint("acr", acr.url, provider="acr", credentials=spec)
        world.services.registries.put(endpoint, document={})
        for number in range(8):
            world.push("app", f"v{number}", [some_bytes("layer", 3000)], mark=str(number))
        rule = mirror("app", to="crew/{name}", registry="acr")
        first = plan(world, rule)
        assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
        before = len(acr.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.SUCCEEDED
        assert world.copies(again) == []
        assert [one.path for one in acr.log[before:] if "/manifests/" in one.path] == []
