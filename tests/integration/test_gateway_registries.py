"""What a gateway does when registries do not do their part: others go on, and nothing wrong becomes whole (issue 10)."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert
from structlog.testing import capture_logs

from api.gateway.main import Gateway as Process
from api.samples.http_messages import WireFault
from api.samples.registry import SampleRegistry
from api.samples.storage import StoredManifest
from service.errors import InvalidConfiguration
from service.model.endpoint import Limits
from service.model.gateway import GatewayConfig, NameRule
from service.model.media_types import OCI_INDEX
from service.model.region import Link, Region
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import CopyState
from service.store.tables import copies, written_tags
from tests.support.gateway import Client
from tests.support.gateway_world import World
from tests.support.images import push_image
from tests.support.processes import wait_until
from tests.support.transship import transship

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("gateway"))
    yield made
    made.stores.database.close()


class Pair:
    """Two registries with the same images: SQL says that they are whole at the second, which is preferred."""

    def __init__(self, world: World, first: SampleRegistry, second: SampleRegistry) -> None:
        self.world = world
        self.first = first
        self.second = second

    def image(self, name: str, layer: bytes, *, push: bool = True) -> str:
        """Put an image of one layer at both, and say that it was copied."""
        if push:
            push_image(self.first, name, "v1", layers=[layer])
        digest = push_image(self.second, name, "v1", layers=[layer])

        def work(connection: Connection) -> None:
            row = {"registry": "second", "repository": name, "tag": "v1", "digest": digest}
            connection.execute(
                insert(written_tags).values(**row, rule="move", written_at=time.time())
            )

        self.world.stores.database.write(work)
        return digest

    def blob_of(self, layer: bytes) -> str:
        """The digest of a layer."""
        return f"sha256:{hashlib.sha256(layer).hexdigest()}"


@pytest.fixture(scope="module")
def pair(world: World) -> Iterator[Pair]:
    with SampleRegistry() as first, SampleRegistry() as second:
        world.registry("first", first.url)
        world.registry("second", second.url)
        everything = Selection(NameFilter(include=("**",)))
        rule = SyncRule("move", "first", (everything,), (Destination(registry="second"),))
        world.stores.rules.put(rule, document={"name": "move"})
        yield Pair(world, first, second)


@pytest.fixture(scope="module")
def gateway(world: World, pair: Pair) -> Iterator[Process]:
    names = (NameRule("first"),)
    process = world.gateway(GatewayConfig(names, anonymous=("**",), prefer=("second",)))
    yield process
    process.close(1.0)


@pytest.fixture
def puller(pair: Pair, gateway: Process) -> Iterator[Client]:
    gateway.routes._images.reading.places.pauses._until.clear()
    yield Client(gateway.server.port)
    pair.first.faults.clear()
    pair.second.faults.clear()


def _layer(seed: int, size: int = 3 << 20) -> bytes:
    return random.Random(seed).randbytes(size)


def _sample(process: Process, name: str, **labels: str) -> float:
    return process.figures.registry.get_sample_value(name, labels) or 0.0


def test_it_is_read_from_where_it_is_whole(pair: Pair, puller: Client) -> None:
    pair.image("app/near", _layer(1))
    before = len(pair.first.log)
    puller.pull("app/near", "v1")
    assert not [one for one in pair.first.log[before:] if "/blobs/" in one.path]
    # another image under the tag at the source: the copy of the old one is not served for it
    moved = push_image(pair.first, "app/near", "v1", mark="new", layers=[_layer(2)])
    wait_until(lambda: puller.pull("app/near", "v1") == moved, 10, "the new image")


@pytest.mark.parametrize("fault", ["reset_at", "truncate_at"])
def test_a_blob_that_breaks_off_is_gone_on_with_from_the_next_registry(
    pair: Pair, puller: Client, gateway: Process, fault: str
) -> None:
    layer = _layer(len(fault))
    pair.image(f"app/{fault.replace('_', '-')}", layer)
    name = f"app/{fault.replace('_', '-')}"
    rule = pair.second.fault(
        f"blobs/{pair.blob_of(layer)}", wire=WireFault(**{fault: 2_000_000}), times=9
    )
    puller.pull(name, "v1")
    assert rule.fired
    ranged = [
        one for one in pair.first.log if pair.blob_of(layer) in one.path and one.status == 206
    ]
    assert ranged
    assert ranged[-1].bytes < len(layer)
    assert _sample(
        gateway, "transship_gateway_passed_over_total", registry="second", **{"class": "network"}
    )


def test_bytes_that_are_not_the_digests_never_become_a_whole_answer(
    pair: Pair, puller: Client, gateway: Process
) -> None:
    layer = _layer(5)
    pair.image("app/wrong", layer)
    rule = pair.second.fault(f"blobs/{pair.blob_of(layer)}", wire=WireFault(flip_at=1000))
    puller.get("/v2/app/wrong/manifests/v1")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        puller.get(f"/v2/app/wrong/blobs/{pair.blob_of(layer)}")
    assert rule.fired
    assert _sample(gateway, "transship_gateway_cut_total", reason="corrupt") >= 1
    # who tries again gets it from the other registry
    assert puller.blob("app/wrong", pair.blob_of(layer), len(layer)) == layer


def test_a_blob_of_another_length_and_a_manifest_of_other_bytes_are_passed_over(
    pair: Pair, puller: Client
) -> None:
    layer = _layer(6)
    digest = pair.image("app/lies", layer)
    short = pair.second.fault(f"blobs/{pair.blob_of(layer)}", status=200, body=b"short")
    other = pair.second.fault(f"manifests/{digest}", status=200, body=b"{}")
    assert puller.pull("app/lies", "v1") == digest
    assert short.fired
    assert other.fired


@pytest.mark.parametrize("status", [500, 429, 403, 404])
def test_a_registry_that_refuses_is_passed_over(pair: Pair, puller: Client, status: int) -> None:
    layer = _layer(status)
    pair.image(f"app/s{status}", layer)
    rule = pair.second.fault(f"blobs/{pair.blob_of(layer)}", status=status, times=9)
    puller.pull(f"app/s{status}", "v1")
    assert rule.fired


def test_what_is_nowhere_is_not_found_and_what_nobody_answers_for_is_tried_later(
    pair: Pair, puller: Client, gateway: Process
) -> None:
    assert puller.get("/v2/app/none/manifests/v1").code == "MANIFEST_UNKNOWN"
    pair.first.fault("app/gone", status=503, times=99)
    answer = puller.get("/v2/app/gone/manifests/v1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    counted = "transship_gateway_requests_total"
    wait_until(
        lambda: _sample(gateway, counted, kind="manifests", status="503") >= 1, 10, "its count"
    )


def test_a_tag_that_is_deleted_at_its_source_is_gone(pair: Pair, puller: Client) -> None:
    pair.image("app/deleted", _layer(7))
    puller.pull("app/deleted", "v1")
    pair.first.storage.delete_tag("app/deleted", "v1")
    wait_until(lambda: puller.get("/v2/app/deleted/manifests/v1").status == 404, 10, "its end")


def test_the_last_known_image_is_served_while_the_source_is_away(
    pair: Pair, puller: Client
) -> None:
    digest = pair.image("app/known", _layer(8))
    assert puller.pull("app/known", "v1") == digest
    pair.first.fault("", status=503, times=10_000)
    for _ in range(5):
        assert puller.pull("app/known", "v1") == digest
    tags = json.loads(puller.get("/v2/app/known/tags/list").body)["tags"]
    assert tags == ["v1"]


def test_the_nearest_registry_is_read_and_none_behind_a_border(world: World) -> None:
    """By region and link; of two as near the copy before its source; behind a border only what the file names."""
    with SampleRegistry() as far, SampleRegistry() as near, SampleRegistry() as abroad:
        registries = {"far": far, "near": near, "abroad": abroad}
        regions = {"far": "us", "near": "eu", "abroad": "cn"}
        for name, registry in registries.items():
            world.registry(name, registry.url, region=regions[name])
        for region in ("us", "eu", "eu-2", "cn"):
            drawn = Region(region, "cn" if region == "cn" else "west")
            world.stores.regions.put(drawn, document={"name": region})
        world.stores.links.put(Link("cn", "eu-2"), document={})
        world.stores.links.put(Link("eu", "eu-2", cost_per_gib=0.01), document={})
        world.stores.links.put(Link("us", "eu-2", cost_per_gib=0.09), document={})
        everything = Selection(NameFilter(include=("**",)))
        to = (Destination(registry="near"), Destination(registry="abroad"))
        rule = SyncRule("spread", "far", (everything,), to)
        world.stores.rules.put(rule, document={"name": "spread"})
        for registry in registries.values():
            digest = push_image(registry, "app/x", "v1", layers=[b"layer" * 100])

        def work(connection: Connection) -> None:
            for name in ("near", "abroad"):
                row = {"registry": name, "repository": "app/x", "tag": "v1", "digest": digest}
                connection.execute(
                    insert(written_tags).values(**row, rule="spread", written_at=time.time())
                )

        world.stores.database.write(work)
        for region, prefer, wanted in (
            ("eu", (), "near"),
            ("eu-2", (), "near"),  # a byte from there costs less
            ("us", (), "far"),
            ("cn", (), "abroad"),
            ("us", ("abroad",), "abroad"),  # it is said
        ):
            config = GatewayConfig((NameRule("far"),), anonymous=("**",), prefer=prefer)
            process = world.gateway(config, region=region)
            try:
                Client(process.server.port).pull("app/x", "v1")
                read = [
                    name
                    for name in registries
                    if _sample(process, "transship_gateway_bytes_total", registry=name)
                ]
                assert read == [wanted], (region, prefer)
            finally:
                process.close(1.0)


def test_a_redirect_of_the_registrys_own_is_passed_on(world: World, pair: Pair) -> None:
    with SampleRegistry(redirect_blobs=True) as store:
        world.registry("redirecting", store.url, trusted_hosts=(store.cdn_host,))
        layer = _layer(9, 100_000)
        push_image(store, "app/x", "v1", layers=[layer])
        path = f"/v2/app/x/blobs/{pair.blob_of(layer)}"
        names = (NameRule("redirecting"),)
        for more, status in (
            ({}, 307),
            ({"redirects": False}, 200),
            ({"stream": ("redirecting",)}, 200),
        ):
            config = GatewayConfig(names, anonymous=("**",), **more)  # type: ignore[arg-type]
            process = world.gateway(config)
            try:
                puller = Client(process.server.port)
                puller.get("/v2/app/x/manifests/v1")
                answer = puller.get(path, Authorization="Basic dDp4")
                assert answer.status == status
                if status == 307:
                    assert answer.headers["location"].startswith(f"http://{store.cdn_host}/")
                else:
                    assert answer.body == layer
            finally:
                process.close(1.0)


def test_a_redirect_into_a_private_network_is_not_passed_on(world: World, pair: Pair) -> None:
    with SampleRegistry() as store:
        world.registry("misled", store.url)
        layer = _layer(10, 1000)
        push_image(store, "app/x", "v1", layers=[layer])
        store.fault(
            "/blobs/", status=307, headers={"Location": "http://127.0.0.2:9/secret"}, times=99
        )
        process = world.gateway(GatewayConfig((NameRule("misled"),), anonymous=("**",)))
        try:
            puller = Client(process.server.port)
            puller.get("/v2/app/x/manifests/v1")
            answer = puller.get(f"/v2/app/x/blobs/{pair.blob_of(layer)}")
            assert answer.status == 503
            assert "location" not in answer.headers
        finally:
            process.close(1.0)


def test_a_gateway_that_never_served_the_manifest_finds_the_blobs_repository(
    world: World, pair: Pair, puller: Client
) -> None:
    layer = _layer(11, 1000)
    pair.image("app/cold", layer)
    blob = pair.blob_of(layer)
    assert puller.blob("app/cold", blob, len(layer)) == layer
    assert puller.get(f"/v2/app/cold2/blobs/{blob}").status == 404
    # whoever asks for what is not there keeps nobody else from being found, and has not all searched again and again
    for number in range(9):
        puller.get(f"/v2/app/cold/blobs/{pair.blob_of(bytes([number]))}")
    before = len(pair.first.log)
    assert puller.get(f"/v2/app/cold/blobs/{pair.blob_of(b'more')}").status == 404
    assert len(pair.first.log) == before


def test_kept_blobs_are_served_from_disk_and_bounded(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    layers = [_layer(20 + n, 200_000) for n in range(8)]
    push_image(pair.first, "app/kept", "v1", layers=layers)
    config = GatewayConfig((NameRule("first"),), anonymous=("**",))
    for _ in range(2):  # the second one takes up what the first has left
        process = world.gateway(config, gateway_dir=str(tmp_path), gateway_cache_bytes=1_000_000)
        try:
            puller = Client(process.server.port)
            puller.pull("app/kept", "v1")
            before = len(pair.first.log)
            puller.blob("app/kept", pair.blob_of(layers[-1]), 200_000)
            answer = puller.get(
                f"/v2/app/kept/blobs/{pair.blob_of(layers[-1])}", Range="bytes=10-19"
            )
            assert answer.body == layers[-1][10:20]
            assert len(pair.first.log) == before
            kept = sum(file.stat().st_size for file in (tmp_path / "blobs").iterdir())
            assert 0 < kept <= 1_000_000
        finally:
            process.close(1.0)


def test_more_connections_than_allowed_are_refused(world: World, pair: Pair) -> None:
    config = GatewayConfig((NameRule("first"),), anonymous=("**",))
    process = world.gateway(config, gateway_connections=2)

    def answered(idle: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", process.server.port), timeout=20)
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: process.server.idle == idle, 5, f"{idle} with nothing to ask")
        return sock

    def open_ones() -> float:
        return _sample(process, "transship_gateway_connections")

    try:
        with answered(1) as one, answered(2) as two:
            # who has nothing to ask makes room for who has: the one that has been idle longest
            assert Client(process.server.port).get("/healthz").status == 200
            assert one.recv(10) == b""
            wait_until(lambda: open_ones() == 1, 5, "one alone")
            with answered(2) as other:
                for sock in (two, other):
                    sock.sendall(b"GET /healthz HTTP/1.1\r\n")  # and more to come
                wait_until(lambda: not process.server.idle, 5, "both being at work")
                with socket.create_connection(("127.0.0.1", process.server.port), 20) as third:
                    assert third.recv(4096).startswith(b"HTTP/1.1 503 ")
        wait_until(lambda: open_ones() == 0, 5, "their end")
        assert Client(process.server.port).get("/healthz").status == 200
    finally:
        process.close(1.0)


def test_a_pull_that_runs_is_let_end_and_a_new_one_is_refused(world: World, pair: Pair) -> None:
    layer = _layer(30, 24 << 20)
    push_image(pair.first, "app/drained", "v1", layers=[layer])
    process = world.gateway(GatewayConfig((NameRule("first"),), anonymous=("**",)))
    Client(process.server.port).get("/v2/app/drained/manifests/v1")
    idle = socket.create_connection(("127.0.0.1", process.server.port))
    connection = http.client.HTTPConnection("127.0.0.1", process.server.port, timeout=20)
    connection.request("GET", f"/v2/app/drained/blobs/{pair.blob_of(layer)}")
    answer = connection.getresponse()
    got = answer.read(1 << 20)
    ending = threading.Thread(target=process.close, args=(20.0,))
    ending.start()
    wait_until(process.server.draining, 5, "the drain")
    assert idle.recv(10) == b""  # who had nothing to ask is let go at once
    with pytest.raises(ConnectionError):
        Client(process.server.port).get("/healthz")
    got += answer.read()
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(layer).hexdigest()
    ending.join(20)
    assert not ending.is_alive()


def test_a_folder_is_one_gateways(world: World, tmp_path: Path) -> None:
    config = GatewayConfig((NameRule("first"),))
    process = world.gateway(config, gateway_dir=str(tmp_path))
    with pytest.raises(InvalidConfiguration, match="another gateway"):
        world.gateway(config, gateway_dir=str(tmp_path))
    process.close(1.0)
    (tmp_path / "known.db").write_bytes(b"no database, and longer than its head" * 100)
    world.gateway(config, gateway_dir=str(tmp_path)).close(1.0)


def test_a_large_blob_is_kept_when_it_is_pulled_again(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    layer = _layer(31, 33 << 20)
    push_image(pair.first, "app/large", "v1", layers=[layer])
    config = GatewayConfig((NameRule("first"),), anonymous=("**",))
    process = world.gateway(config, gateway_dir=str(tmp_path))
    puller = Client(process.server.port)
    try:
        for kept in (False, True):
            puller.pull("app/large", "v1")
            names = {file.name for file in (tmp_path / "blobs").iterdir()}
            assert (pair.blob_of(layer).replace(":", "-") in names) is kept
        before = len(pair.first.log)
        puller.blob("app/large", pair.blob_of(layer), len(layer))
        assert not [one for one in pair.first.log[before:] if "/blobs/" in one.path]
    finally:
        process.close(1.0)


def test_effect_limits_bandwidth_holds_a_gateway(world: World, pair: Pair) -> None:
    with SampleRegistry() as slow:
        world.registry("slow", slow.url, limits=Limits(bandwidth=2_000_000))
        layer = _layer(32, 300_000)
        push_image(slow, "app/x", "v1", layers=[layer])
        process = world.gateway(GatewayConfig((NameRule("slow"),), anonymous=("**",)))
        try:
            began = time.monotonic()
            Client(process.server.port).pull("app/x", "v1")
            assert time.monotonic() - began > 0.14  # at twice the rate it would be less
        finally:
            process.close(1.0)


def test_a_gateway_that_cannot_serve_says_why_and_what_to_do(world: World, tmp_path: Path) -> None:
    config = GatewayConfig((NameRule("first"),))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidConfiguration, match="cannot be listened on"):
            world.gateway(config, gateway_listen=listen)
    with pytest.raises(InvalidConfiguration, match="no tables"):
        world.gateway(config, database_url=f"sqlite:///{tmp_path / 'empty.db'}")
    done = transship("gateway", "-f", str(tmp_path / "none.yaml"), "--data", str(tmp_path))
    assert done.returncode == 2
    assert "none.yaml: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_image_beside_a_copy_is_not_had_by_its_digest(world: World, pair: Pair) -> None:
    """Two repositories were copied into one: who may read the first reads nothing of the second."""
    digest = push_image(pair.first, "merged/a", "v1", layers=[b"a"])
    secret = push_image(pair.second, "all/in-one", "v2", layers=[b"the other one's"])
    push_image(pair.second, "all/in-one", "v1", layers=[b"a"])
    signature = push_image(pair.second, "all/in-one", f"{secret.replace(':', '-')}.sig")
    rule = world.stores.rules.get("move").rule
    execution = world.stores.executions.create(rule, trigger="api").id

    def work(connection: Connection) -> None:
        row = {
            "execution_id": execution, "rule": "move", "region": "local", "state": CopyState.COPIED,
            "source_registry": "first", "source_repository": "merged/a", "source_reference": "v1",
            "destination_registry": "second", "destination_repository": "all/in-one",
            "destination_reference": "v1", "digest": digest, "updated_at": time.time(),
        }  # fmt: skip
        connection.execute(insert(copies).values(**row))

    world.stores.database.write(work)
    process = world.gateway(GatewayConfig((NameRule("first"),), anonymous=("**",)))
    try:
        puller = Client(process.server.port)
        puller.pull("merged/a", "v1")
        tag = f"{secret.replace(':', '-')}.sig"
        for reference in (secret, signature, tag):
            assert puller.get(f"/v2/merged/a/manifests/{reference}").status == 404
        pair.first.fault("", status=503, times=10_000)
        for reference in (secret, signature, tag):
            assert puller.get(f"/v2/merged/a/manifests/{reference}").status in (404, 503)
        answer = puller.get(f"/v2/merged/a/referrers/{secret}")
        assert answer.status == 503
        assert puller.get(f"/v2/merged/a/manifests/{digest}").status == 200
    finally:
        pair.first.faults.clear()
        process.close(1.0)


def test_a_place_that_two_repositories_are_copied_into_gives_neither_what_is_the_others(
    world: World, pair: Pair
) -> None:
    """Issue 10, S16: who may push to a source that takes any manifest reads nothing beside its copies by naming it."""
    secret = b"the other team's" * 1000
    blob = pair.blob_of(secret)
    image = push_image(pair.second, "all/shared", "b", layers=[secret])
    mine = push_image(pair.first, "shared/a", "v1", layers=[b"mine"])
    own = pair.first.storage.manifest("shared/a", "v1")
    assert own is not None
    pair.second.storage.put_manifest("all/shared", own, "a")
    for one in (json.loads(own.raw)["config"], *json.loads(own.raw)["layers"]):
        data = pair.first.storage.blob_bytes(one["digest"])
        pair.second.storage.put_blob("all/shared", one["digest"], data)
    execution = world.stores.executions.create(world.stores.rules.get("move").rule, trigger="api")

    def work(connection: Connection) -> None:
        for name, digest in (("a", mine), ("b", image)):
            row = {
                "execution_id": execution.id, "rule": "move", "region": "local", "state": CopyState.COPIED,
                "source_registry": "first", "source_repository": f"shared/{name}", "source_reference": "v1",
                "destination_registry": "second", "destination_repository": "all/shared",
                "destination_reference": name, "digest": digest, "updated_at": time.time(),
            }  # fmt: skip
            connection.execute(insert(copies).values(**row))

    world.stores.database.write(work)
    stored = pair.second.storage.manifest("all/shared", "b")
    assert stored is not None
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": stored.media_type, "digest": image, "size": len(stored.raw)}],
    }
    named = {**json.loads(stored.raw), "annotations": {"mine": "now"}}
    for tag, document, kind in (("index", index, OCI_INDEX), ("copy", named, stored.media_type)):
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        pair.first.storage.put_manifest("shared/a", StoredManifest(raw, kind, digest), tag)
    config = GatewayConfig((NameRule("first"),), anonymous=("**",), prefer=("second",))
    process = world.gateway(config)
    try:
        thief = Client(process.server.port)
        for tag in ("index", "copy"):
            assert thief.get(f"/v2/shared/a/manifests/{tag}").status == 200
        asked = len(pair.second.log)
        assert thief.get(f"/v2/shared/a/blobs/{blob}").status == 404
        assert thief.get(f"/v2/shared/a/manifests/{image}").status == 404
        assert thief.get(f"/v2/shared/a/referrers/{image}").status == 200
        pair.first.fault("", status=503, times=10_000)
        assert thief.get(f"/v2/shared/a/blobs/{blob}").status in (404, 503)
        assert thief.get(f"/v2/shared/a/manifests/{image}").status in (404, 503)
        assert not [one for one in list(pair.second.log)[asked:] if one.status == 200]
        assert thief.pull("shared/a", "v1") == mine
    finally:
        pair.first.faults.clear()
        process.close(1.0)


def test_a_blob_that_its_registry_gives_wrongly_is_to_be_tried_later(world: World) -> None:
    """Clients take 404 as the last word; it is there, and damaged."""
    with SampleRegistry() as damaged:
        world.registry("damaged", damaged.url)
        layer = _layer(40, 100_000)
        push_image(damaged, "app/x", "v1", layers=[layer])
        blob = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        damaged.fault(f"blobs/{blob}", wire=WireFault(flip_at=1000), times=99)
        process = world.gateway(GatewayConfig((NameRule("damaged"),), anonymous=("**",)))
        try:
            puller = Client(process.server.port)
            assert puller.get("/v2/app/x/manifests/v1").status == 200
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                puller.get(f"/v2/app/x/blobs/{blob}")
            answer = puller.get(f"/v2/app/x/blobs/{blob}")
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")
            assert b"damaged gave other bytes" in answer.body
            assert 0 < int(answer.headers["retry-after"]) <= 600
        finally:
            process.close(1.0)


def test_a_gateway_names_only_registries_that_there_are(world: World, pair: Pair) -> None:
    """Issue 10: with none at all it does not start; of one that is deleted what is not known says so."""
    del pair  # its registries are saved
    with pytest.raises(
        InvalidConfiguration, match=r"names\[0\].*no registry named nope"
    ) as refused:
        world.gateway(GatewayConfig((NameRule("nope"), NameRule("nor-that", "old"))))
    assert refused.value.hint
    with SampleRegistry() as leaving:
        world.registry("leaving", leaving.url)
        push_image(leaving, "app/x", "v1")
        process = world.gateway(GatewayConfig((NameRule("leaving"),), anonymous=("**",)))
        try:
            puller = Client(process.server.port)
            assert puller.get("/v2/app/x/manifests/v1").status == 200
            world.stores.registries.delete("leaving")
            wait_until(
                lambda: puller.get("/v2/app/x/manifests/v9").status == 503, 10, "the registry's end"
            )
            for path in ("x/manifests/v9", "y/tags/list", f"x/manifests/sha256:{'0' * 64}"):
                answer = puller.get(f"/v2/app/{path}")
                assert answer.status == 503, path
                assert b"there is no registry named leaving" in answer.body, path
            assert puller.get("/v2/app/x/manifests/v1").status == 200  # as was known last
        finally:
            process.close(1.0)


def test_a_gateway_starts_without_a_registry_of_its_names_and_serves_the_others(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    """Issue 10: also when it was deleted meanwhile; what is to be done is said at the start, by /readyz and at a pull."""
    digest = push_image(pair.first, "app/other", "v1")
    config = GatewayConfig((NameRule("first"), NameRule("retired", "old")), anonymous=("**",))
    kept = {"gateway_dir": str(tmp_path), "gateway_cache_bytes": 1_000_000}
    with SampleRegistry() as retired:
        world.registry("retired", retired.url)
        known = push_image(retired, "app/x", "v1")
        process = world.gateway(config, **kept)
        assert Client(process.server.port).pull("old/app/x", "v1") == known
        process.close(1.0)
        world.stores.registries.delete("retired")
        asked = len(retired.log)

        with capture_logs() as told:
            process = world.gateway(config, **kept)
        try:
            puller = Client(process.server.port)
            (line,) = [one for one in told if one["event"] == "name_without_registry"]
            assert (line["entry"], line["registry"]) == ("gateway.names[1]", "retired")
            assert "apply that registry" in line["hint"]
            assert puller.pull("app/other", "v1") == digest
            assert puller.pull("old/app/x", "v1") == known  # of what it knew, nothing is lost
            answer = puller.get("/v2/old/app/x/manifests/v2")
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")
            assert b"no registry named retired" in answer.body
            assert b"apply that registry" in answer.body
            ready = puller.get("/readyz")
            said = json.loads(ready.body)
            assert (ready.status, said["without_registry"]) == (200, ["gateway.names[1]"])
            assert b"retired" not in ready.body  # it is told to anybody
            assert _sample(process, "transship_gateway_names_without_registry") == 1
            assert len(retired.log) == asked

            world.registry("retired", retired.url)
            process.names.check()  # as it does every few seconds
            assert json.loads(puller.get("/readyz").body) == {"status": "alive"}
            newer = push_image(retired, "app/x", "v2")
            wait_until(
                lambda: puller.get("/v2/old/app/x/manifests/v2").status == 200, 10, "the registry"
            )
            assert puller.pull("old/app/x", "v2") == newer
        finally:
            process.close(1.0)
    world.stores.registries.delete("retired")
    lost = GatewayConfig((NameRule("retired", "old"),), anonymous=("**",))
    process = world.gateway(lost, **kept)  # nothing is left of its names but what it knows
    try:
        assert Client(process.server.port).pull("old/app/x", "v1") == known
    finally:
        process.close(1.0)


def test_one_client_that_leaves_its_requests_half_sent_keeps_nobody_out(
    world: World, pair: Pair
) -> None:
    """Its oldest connection goes for its next one; another client's is left alone."""
    del pair  # its registries are saved
    config = GatewayConfig((NameRule("first"),), anonymous=("**",))
    process = world.gateway(config, gateway_connections=20)

    def half(address: str) -> socket.socket:
        sock = socket.create_connection(
            ("127.0.0.1", process.server.port), timeout=10, source_address=(address, 0)
        )
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        return sock

    socks: list[socket.socket] = []
    try:
        other = half("127.0.0.3")
        socks.append(other)
        for _ in range(30):
            socks.append(half("127.0.0.2"))
            answered = Client(process.server.port).get("/healthz")
            assert answered.status == 200
        assert socks[1].recv(10) == b""  # the first of the many was let go
        other.sendall(b"Host: a\r\n\r\n")
        assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
        socks[-1].sendall(b"Host: a\r\n\r\n")
        assert socks[-1].recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in socks:
            sock.close()
        process.close(1.0)
