"""contract:artifacthub. Charts in a registry are copied from there; those in a classic repository are converted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.samples.auth import BearerAuth, TokenService
from api.samples.faults import FaultRule
from api.samples.http_messages import WireFault
from api.samples.http_server import HttpServer
from api.samples.registry import SampleRegistry
from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential, RegistryEndpoint
from service.model.events.parsing import parse
from service.model.states import CopyState, ExecutionState
from service.registry import index_client
from service.registry.blob_copy import copy_blob
from service.registry.index_client import IndexClient
from service.registry.opening import open_client
from service.registry.providers.strategies import Receiver
from service.registry.providers.table import PROVIDERS
from tests.contract.artifacthub import FakeArtifactHub, archive
from tests.contract.skopeo import copy_by_skopeo, needs_skopeo
from tests.integration.registry.support import QUICK, Pauses, client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import open_world

EVENT = Path(__file__).parents[1] / "fixtures/events/artifacthub/push.json"
LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def chart(version: str, size: int = 10, name: str = "demo") -> bytes:
    noise = random.Random(version).randbytes(size).hex()
    told = f"apiVersion: v2\nname: {name}\nversion: {version}\ndescription: A chart\n"
    return archive({"Chart.yaml": told, "values.yaml": f"noise: {noise}\n"}, folder=name)


@pytest.fixture
def located() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


@pytest.fixture
def hub() -> Iterator[FakeArtifactHub]:
    with FakeArtifactHub(page=2) as fake:
        yield fake


def open_index(hub: FakeArtifactHub, *trusted: str, **options: Any) -> IndexClient:
    """A client to which hosts on this machine are as good as public ones."""
    endpoint = RegistryEndpoint(
        "hub", hub.url, provider="artifacthub", trusted_hosts=trusted or ("127.0.0.1",)
    )
    options.setdefault("credential", Credential)
    made = open_client(endpoint, timeouts=QUICK, sleep=Pauses(), **options)
    assert isinstance(made, IndexClient)
    return made


def test_host_tells_that_it_is_an_index() -> None:
    made = open_client(RegistryEndpoint("hub", "https://artifacthub.io"), Credential)

    assert isinstance(made, IndexClient)
    assert PROVIDERS["artifacthub"].index


def test_charts_are_listed_by_the_page_and_their_versions_are_tags(hub: FakeArtifactHub) -> None:
    for number in range(5):
        hub.add(f"app{number}", "1.0.0+a.1", chart("1.0.0+a.1"))
    hub.add("app0", "2.0.0", chart("2.0.0"))
    index = open_index(hub)

    pages = list(index.list_repositories())

    assert [name for page in pages for name in page.repositories] == [
        f"classic/app{number}" for number in range(5)
    ]
    assert list(index.list_repositories(cursor=pages[0].next)) == pages[1:]
    (tags,) = index.list_tags("classic/app0")
    assert tags.tags == ("2.0.0", "1.0.0_a.1")
    with pytest.raises(errors.RepositoryNotFound):
        list(index.list_tags("classic/none"))
    index.ping()
    index.close()


def test_chart_in_a_registry_is_read_as_it_lies_there(
    hub: FakeArtifactHub, located: SampleRegistry
) -> None:
    there = client(located.url)
    pushed = push(there, "charts/demo", "1.0.0", b"the layer")
    hub.add_located("demo", f"{located.host}/charts/demo", ["1.0.0"])
    index = open_index(hub)

    head = index.head_manifest("registry/demo", "1.0.0")

    assert head is not None
    assert head.digest == pushed.digest
    assert index.get_manifest("registry/demo", str(pushed.digest)).raw == pushed.raw
    layer = pushed.layers[0]
    assert index.read_blob("registry/demo", layer.digest, layer.size, 100) == b"the layer"
    assert index.probe_blob("registry/demo", layer.digest, layer.size)
    assert index.referrers("registry/demo", pushed.digest) == ()


def test_signature_of_a_chart_in_a_registry_is_listed(
    hub: FakeArtifactHub, located: SampleRegistry
) -> None:
    there = client(located.url)
    pushed = push(there, "charts/demo", "1.0.0", b"the layer")
    subject = {
        "mediaType": pushed.media_type,
        "digest": str(pushed.digest),
        "size": len(pushed.raw),
    }
    signature = push(there, "charts/demo", "signature", b"signed", subject=subject)
    hub.add_located("demo", f"{located.host}/charts/demo", ["1.0.0"])

    found = open_index(hub).referrers("registry/demo", pushed.digest)

    assert [one.digest for one in found or ()] == [signature.digest]


def test_index_that_is_asked_too_much_is_asked_again(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0"))
    struck = hub.faults.add(FaultRule("/packages/helm/", status=429, times=2))

    assert open_index(hub).head_manifest("classic/demo", "1.0.0") is not None
    assert struck.fired == 2


def test_chart_of_a_classic_repository_is_converted_and_the_same_for_all(
    hub: FakeArtifactHub,
) -> None:
    data = chart("1.0.0")
    hub.add("demo", "1.0.0", data)
    planner, worker = open_index(hub), open_index(hub)

    head = planner.head_manifest("classic/demo", "1.0.0")

    assert head is not None
    made = worker.get_manifest("classic/demo", str(head.digest))  # which has seen no tag of it
    assert made.digest == head.digest
    (layer,) = made.layers
    assert (layer.media_type, layer.digest) == (LAYER, Digest.of(data))
    assert worker.head_blob("classic/demo", layer.digest) == len(data)
    assert worker.read_blob("classic/demo", layer.digest, layer.size, 1 << 20) == data
    assert made.config is not None
    config = worker.read_blob("classic/demo", made.config.digest, made.config.size, 1 << 20)
    assert Digest.of(config) == made.config.digest
    assert b'"description":"A chart"' in config
    assert planner.head_manifest("classic/demo", "9.9.9") is None
    with pytest.raises(errors.ManifestNotFound):
        worker.get_manifest("classic/demo", str(Digest.of(b"other")))
    with pytest.raises(errors.BlobNotFound):
        worker.read_blob("classic/demo", Digest.of(b"other"), 5, 100)


def test_event_names_what_the_index_has(hub: FakeArtifactHub) -> None:
    hub.add("sample-package", "1.0.0+build.5", chart("1.0.0+build.5"))
    hub.listed[0].repository = "repo1"

    (event,) = parse("artifacthub", {}, EVENT.read_bytes()).events

    assert event.tag is not None
    assert open_index(hub).head_manifest(event.repository, event.tag) is not None


def test_version_that_was_released_a_moment_ago_is_found_by_its_name(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0"))
    index = open_index(hub)
    assert index.head_manifest("classic/demo", "2.0.0") is None

    hub.add("demo", "2.0.0", chart("2.0.0"))

    assert index.head_manifest("classic/demo", "2.0.0") is not None


def test_download_that_breaks_off_is_gone_on_with(
    hub: FakeArtifactHub, located: SampleRegistry
) -> None:
    data = chart("1.0.0", 3 << 20)
    hub.add("demo", "1.0.0", data)
    index = open_index(hub)
    (layer,) = index.get_manifest("classic/demo", "1.0.0").layers
    broken = hub.faults.add(FaultRule(r"demo-1\.0\.0", wire=WireFault(reset_at=2 << 20)))

    copy_blob(index, "classic/demo", client(located.url), "charts/demo", layer)

    assert broken.fired == 1
    assert located.storage.blob("charts/demo", str(layer.digest)) is not None
    assert [one.status for one in hub.classic.log][-1] == 206


def test_first_download_that_fails_is_tried_again(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0", 1 << 20))
    broken = hub.faults.add(FaultRule(r"demo", wire=WireFault(reset_at=1000)))
    busy = hub.faults.add(FaultRule(r"demo", status=503))

    assert open_index(hub).head_manifest("classic/demo", "1.0.0") is not None
    assert (broken.fired, busy.fired) == (1, 1)


def test_archive_with_another_digest_than_the_index_tells_is_corrupt(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0"))
    hub.archives["/charts/demo-1.0.0.tgz"] = chart("6.6.6")

    with pytest.raises(errors.Corrupt, match=r"1\.0\.0"):
        open_index(hub).head_manifest("classic/demo", "1.0.0")


def test_version_without_a_digest_is_refused_with_the_reason(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0"))
    hub.listed[0].digests.clear()

    with pytest.raises(errors.Unsupported, match="no sha256 digest"):
        open_index(hub).head_manifest("classic/demo", "1.0.0")
    assert hub.classic.log == []


def test_archive_that_is_no_chart_is_refused(hub: FakeArtifactHub) -> None:
    hub.add("demo", "1.0.0", b"<html>moved</html>")

    with pytest.raises(errors.InvalidManifest, match=r"classic/demo 1\.0\.0"):
        open_index(hub).head_manifest("classic/demo", "1.0.0")


def test_hosts_that_the_index_names_must_be_public(
    hub: FakeArtifactHub, located: SampleRegistry
) -> None:
    push(client(located.url), "charts/demo", "1.0.0", b"the layer")
    hub.add("demo", "1.0.0", chart("1.0.0"))
    hub.add_located("demo", f"{located.host}/charts/demo", ["1.0.0"])
    index = open_index(hub, "somewhere.example")
    before = len(located.log)

    with pytest.raises(errors.AddressRefused):
        index.head_manifest("classic/demo", "1.0.0")
    with pytest.raises(errors.AddressRefused):
        index.head_manifest("registry/demo", "1.0.0")
    assert (hub.classic.log, len(located.log)) == ([], before)


def test_index_that_is_spoken_to_over_tls_sends_nobody_to_plain_http() -> None:
    endpoint = RegistryEndpoint("hub", "https://artifacthub.io")
    index = open_client(endpoint, Credential)
    assert isinstance(index, IndexClient)
    archive_there = index_client.Archive("http://charts.example/demo.tgz", Digest.of(b"x"))

    with pytest.raises(errors.Rejected, match="over https only"):
        index.download(archive_there)


def test_api_key_is_shown_to_the_index_alone(located: SampleRegistry) -> None:
    with FakeArtifactHub(key=("the-id", "the-s3cret")) as hub:
        push(client(located.url), "charts/demo", "1.0.0", b"the layer")
        hub.add("demo", "1.0.0", chart("1.0.0"))
        hub.add_located("demo", f"{located.host}/charts/demo", ["1.0.0"])
        index = open_index(hub, credential=lambda: Credential("the-id", "the-s3cret"))

        assert index.head_manifest("classic/demo", "1.0.0") is not None
        assert index.head_manifest("registry/demo", "1.0.0") is not None
        with pytest.raises(errors.AuthenticationFailed):
            open_index(hub).head_manifest("classic/demo", "1.0.0")

        assert {one.headers.get("x-api-key-secret") for one in hub.api.log[:3]} == {"the-s3cret"}
        for one in (*hub.classic.log, *located.log):
            assert "s3cret" not in str(one.headers)


def test_registry_that_the_index_names_gives_its_tokens_to_anybody(hub: FakeArtifactHub) -> None:
    tokens = TokenService({"crew": "s3cret"}, anonymous_pull=True, ttl_seconds=5)
    with SampleRegistry(auth=BearerAuth(tokens)) as public:
        realm = HttpServer(tokens.handle)
        realm.start()
        public.api.auth.realm = realm.url  # type: ignore[union-attr]
        crew = client(
            public.url,
            credential=Credential("crew", "s3cret"),
            endpoint={"trusted_hosts": (realm.authority,)},
        )
        pushed = push(crew, "charts/demo", "1.0.0", b"the layer")
        hub.add_located("demo", f"{public.host}/charts/demo", ["1.0.0"])

        assert open_index(hub).get_manifest("registry/demo", "1.0.0").digest == pushed.digest
        realm.close()


def test_nothing_is_pushed_into_an_index(hub: FakeArtifactHub) -> None:
    with pytest.raises(errors.Unsupported, match="index of charts"):
        push(open_index(hub), "classic/demo", "1.0.0", b"one")


def test_charts_are_put_on_one_webhook_and_taken_off_it() -> None:
    with FakeArtifactHub(key=("the-id", "the-s3cret")) as hub:
        hub.add("one", "1.0.0", chart("1.0.0", name="one"))
        hub.add("two", "1.0.0", chart("1.0.0", name="two"))
        index = open_index(hub, credential=lambda: Credential("the-id", "the-s3cret"))
        hooks = index.provided.strategies().webhooks
        assert hooks is not None
        old = Receiver(
            "transship-hub", "https://transship.example/hooks/artifacthub/hub", "tsh_0ld"
        )
        new = Receiver(old.name, old.address, "tsh_n3w-s3cret")

        assert [hooks.register(f"classic/{name}", old) for name in ("one", "two", "one")] == [
            True,
            True,
            False,
        ]
        assert hooks.register("classic/one", new)

        (made,) = hub.hooks.values()
        assert (made["url"], made["secret"]) == (new.address, new.secret)
        assert {one["package_id"] for one in made["packages"]} == {"id-one", "id-two"}
        assert [hooks.remove(f"classic/{name}", new) for name in ("one", "one")] == [True, False]
        assert [one["packages"] for one in hub.hooks.values()] == [[{"package_id": "id-two"}]]
        assert hooks.remove("classic/two", new)
        assert hub.hooks == {}
        with pytest.raises(errors.RepositoryNotFound):
            hooks.register("classic/none", new)
        assert open_index(hub).provided.strategies().webhooks is None, "without a key there is none"


@needs_skopeo
def test_skopeo_reads_what_was_converted(
    hub: FakeArtifactHub, located: SampleRegistry, tmp_path: Path
) -> None:
    hub.add("demo", "1.0.0", chart("1.0.0"))
    index = open_index(hub)
    manifest = index.get_manifest("classic/demo", "1.0.0")
    there = client(located.url)
    assert manifest.config is not None
    for blob in (*manifest.layers, manifest.config):
        copy_blob(index, "classic/demo", there, "charts/demo", blob)
    there.put_manifest("charts/demo", "1.0.0", manifest)

    copy_by_skopeo(located.host, "any", "body", "charts/demo:1.0.0", "charts/two:2", tmp_path)

    found = located.storage.manifest("charts/two", "2")
    assert found is not None
    assert found.digest == str(manifest.digest)


def test_rule_copies_both_kinds_and_counts_what_it_refuses(
    hub: FakeArtifactHub, located: SampleRegistry, tmp_path: Path
) -> None:
    push(client(located.url), "charts/there", "1.0.0", b"the layer")
    hub.add_located("there", f"{located.host}/charts/there", ["1.0.0"])
    for version in ("1.0.0", "1.1.0+b", "2.0.0"):
        hub.add("demo", version, chart(version, 300_000))
    hub.add("bad", "1.0.0", chart("1.0.0", name="bad"))
    hub.add("bad", "2.0.0", chart("2.0.0", name="bad"))
    del hub.listed[-1].digests["1.0.0"]
    with open_world(tmp_path) as world:
        endpoint = RegistryEndpoint(
            "hub", hub.url, provider="artifacthub", trusted_hosts=("127.0.0.1",)
        )
        world.services.registries.put(endpoint, document={})
        rule = mirror("**", source="hub", to="charts/{name}")

        first = plan(world, rule)

        assert finish(world, first) is ExecutionState.PARTIAL, world.copies(first)
        storage = world.west.storage
        assert storage.tags("charts/there") == located.storage.tags("charts/there")
        assert sorted(storage.tags("charts/demo") or ()) == ["1.0.0", "1.1.0_b", "2.0.0"]
        assert list(storage.tags("charts/bad") or ()) == ["2.0.0"]
        (failed,) = [one for one in world.copies(first) if one.state is CopyState.FAILED]
        assert "no sha256 digest" in str(failed)
        downloads = len(hub.classic.log)

        again = plan(world, rule)

        assert finish(world, again) is ExecutionState.PARTIAL
        states = {one.state for one in world.copies(again)}
        assert CopyState.COPIED not in states
        assert len(hub.classic.log) == downloads + 4, "a new process downloads each version once"
