"""Oddities of children, resumed reads, uploads, redirects and servers: rows F035, F036, F048-F067, F117-F119.

Each destination here is a registry of its own name, so that what a worker learns of it (uploads in chunks)
stays with the scenario.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request, Response, WireFault
from tests.faults.lab import PREFIX, Lab, Scene
from tests.support.fault_proxy import FaultProxy, taking, without
from tests.support.old_server import MANNERS, OldServer
from tests.support.processes import wait_until
from tests.support.token_gate import TokenGate
from tests.support.wire import OCI_IMAGE, OCI_INDEX, Wire, descriptor, image_body, sha256

pytestmark = pytest.mark.timeout(180)

LARGE = (600_000, 40_000)


@dataclass
class Pair:
    """A scene whose two registries, behind proxies of its own, are known by names of its own."""

    scene: Scene
    east: FaultProxy
    west: FaultProxy

    def image(self, sizes: tuple[int, ...] = LARGE) -> str:
        """Push the struck image and its neighbour; the path of a GET of the struck one's first layer."""
        body = self.scene.push("app:v1", sizes)
        self.scene.push("neighbour:v1")
        return f"/v2/{self.scene.name}/app/blobs/{body['layers'][0]['digest']}"

    @property
    def uploads(self) -> str:
        """Where the struck image's blobs are uploaded to."""
        return self.scene.at_destination("app/blobs/uploads/")

    def lines(self, side: FaultProxy, method: str, path: str) -> list[dict[str, str]]:
        """Return the headers of the requests for a path."""
        return [
            one.headers
            for one in list(side.log)
            if one.method == method and one.path.startswith(path)
        ]

    def copied(self, *rules: FaultRule, uploads: bool = False) -> None:
        """Run; the strikes hit, the copy went on, and all is whole in one run."""
        ended = self.scene.run(60)
        self.scene.heal()
        for rule in rules:
            assert rule.fired, f"{rule.method} {rule.path} was not struck"
        assert ended["state"] == "succeeded", self.scene.lab.copies(ended["id"])
        assert self.scene.went_on_after(rules[0], "app"), "it struck when the copy was through"
        self.whole(uploads=uploads)

    def failed(self, failure: str, *rules: FaultRule, blobs: int = 6, uploads: bool = False) -> str:
        """Run; the struck copy alone fails with this class, and comes over in peace; its reason."""
        ended = self.scene.run(120)
        for rule in rules:
            assert rule.fired, f"{rule.method} {rule.path} was not struck"
        copy = self.scene.copy("app:v1")
        assert (ended["state"], copy["state"], copy["class"]) == ("partial", "failed", failure), (
            copy
        )
        assert copy["reason"]
        assert self.scene.tag_names("app:v1") is None
        self.scene.heal()
        assert self.scene.retry(60)["state"] == "succeeded"
        self.whole(blobs=blobs, uploads=uploads)
        reason: str = copy["reason"]
        return reason

    def whole(self, *, blobs: int = 6, uploads: bool = False) -> None:
        verdict = self.scene.verdict(tags=2, blobs=blobs, uploads=uploads)
        assert verdict.faults == [], str(verdict)


Open = Callable[..., Pair]
_numbers = itertools.count(1)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Open]:
    """Makes pairs; `east` and `west` are fields of a registry beside its url."""
    with contextlib.ExitStack() as stack:

        def make(
            name: str,
            *,
            tls: ssl.SSLContext | None = None,
            host: str = "127.0.0.1",
            east: dict[str, Any] | None = None,
            west: dict[str, Any] | None = None,
        ) -> Pair:
            number = next(_numbers)
            source = stack.enter_context(FaultProxy(lab.source.url))
            destination = stack.enter_context(FaultProxy(lab.destination.url, tls=tls))
            scheme = "https" if tls else "http"
            url = f"{scheme}://{host}:{destination.port}"
            lab.ask("PUT", f"/registries/source-{number}", {"url": source.url, **(east or {})})
            lab.ask("PUT", f"/registries/target-{number}", {"url": url, **(west or {})})
            place = {"registry": f"target-{number}", "repository": PREFIX + "{repository}"}
            scene = lab.scene(name, source=f"source-{number}", destinations=[place])
            scene.east, scene.west = source, destination
            return Pair(scene, source, destination)

        yield make


# ---- F035, F036: children of an index ------------------------------------------------------------


def push_index(lab: Lab, scene: Scene) -> list[str]:
    """Push an index of two images as app:v1, and its neighbour; the digests of its children."""
    repository = f"{scene.name}/app"
    children = []
    with Wire(lab.source.url) as wire:
        for architecture in ("amd64", "arm64"):
            config = json.dumps({"architecture": architecture, "os": "linux"}).encode()
            layer = f"{scene.name} {architecture} ".encode() * 900
            for blob in (config, layer):
                assert wire.push_blob(repository, blob).status == 201
            body = image_body(config, [layer])
            raw = json.dumps(body).encode()
            assert wire.put_manifest(repository, sha256(raw), body).status == 201
            platform = {"architecture": architecture, "os": "linux"}
            children.append(descriptor(raw, OCI_IMAGE, platform=platform))
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        assert wire.put_manifest(repository, "v1", index).status == 201
    scene.pushes.add((repository, "v1"), sha256(json.dumps(index).encode()))
    scene.expected[repository, "v1"] = (PREFIX + repository, "v1")
    scene.push("neighbour:v1")
    return [str(child["digest"]) for child in children]


def test_f035_a_child_that_is_missing_fails_its_index_alone(lab: Lab, pair: Open) -> None:
    one = pair("f035")
    children = push_index(lab, one.scene)
    unknown = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
    child = one.scene.at_source(f"app/manifests/{children[1]}")
    gone = one.east.fault(child, status=404, body=unknown, times=FOREVER)

    reason = one.failed("gone", gone, blobs=7)

    assert children[1] in reason


def test_f036_a_child_that_is_another_manifest_is_never_put(lab: Lab, pair: Open) -> None:
    one = pair("f036")
    children = push_index(lab, one.scene)

    def other(request: Request) -> None:
        request.target = request.target.replace(children[1], children[0])

    child = one.scene.at_source(f"app/manifests/{children[1]}")
    swapped = one.east.fault(child, before=other, times=FOREVER)

    one.failed("corrupt", swapped, blobs=7)

    put = one.scene.at_destination(f"app/manifests/{children[1]}")
    assert len(one.lines(one.west, "PUT", put)) == 1  # of the run that came over
    assert 2 <= swapped.fired <= 12


# ---- F048, F052: reading on ----------------------------------------------------------------------


def test_f048_a_source_that_ignores_range_is_read_over(pair: Open) -> None:
    one = pair("f048-ignored")
    layer = one.image()
    cut = one.east.fault(layer, method="GET", wire=WireFault(reset_at=300_000))
    whole = one.east.fault(layer, method="GET", before=without("range"))

    one.copied(cut, whole)

    asked = one.lines(one.east, "GET", layer)
    assert len(asked) == 2
    assert asked[1]["range"].startswith("bytes=")


@pytest.mark.parametrize("said", ["bytes 7-599999/600000", "bytes */600000", "bytes x", ""])
def test_f048_a_wrong_content_range_is_not_believed(pair: Open, said: str) -> None:
    one = pair(f"f048-wrong-{next(_numbers)}")
    layer = one.image()
    cut = one.east.fault(layer, method="GET", wire=WireFault(reset_at=300_000))
    wrong = one.east.fault(layer, method="GET", headers={"Content-Range": said})

    one.copied(cut, wrong)

    assert len(one.lines(one.east, "GET", layer)) <= 4


def test_f048_other_bytes_under_the_right_range_are_corrupt_and_read_again(pair: Open) -> None:
    one = pair("f048-other-bytes")
    layer = one.image()
    cut = one.east.fault(layer, method="GET", wire=WireFault(reset_at=300_000))

    def other(_request: Request, response: Response) -> None:
        response.body = b"\x00" * len(response.body)

    lie = one.east.fault(layer, method="GET", after=other)

    one.copied(cut, lie)

    assert len(one.lines(one.east, "GET", layer)) <= 4


def test_f052_a_source_that_falls_silent_holds_up_nobody_else(pair: Open) -> None:
    one = pair("f052-silent")
    layer = one.image()
    silence = threading.Event()
    rule = one.east.fault(layer, method="GET", hold=silence)

    identity = one.scene.start()
    wait_until(lambda: rule.fired, 20, "the strike")
    neighbour = one.scene.at_destination("neighbour/manifests/v1")
    wait_until(lambda: one.lines(one.west, "PUT", neighbour), 20, "the neighbour's tag")
    assert one.scene.tag_puts("app:v1") == []
    silence.set()

    assert one.scene.lab.wait(identity)["state"] == "succeeded"
    one.whole()


@pytest.mark.nightly
@pytest.mark.parametrize("size", [40_000, 600_000], ids=["small", "large"])
def test_f052_a_byte_a_second_is_given_up_and_read_again(pair: Open, size: int) -> None:
    one = pair(f"f052-drip-{size}")
    layer = one.image((size, 30_000))
    rule = one.east.fault(layer, method="GET", wire=WireFault(bytes_per_second=1))

    ended = one.scene.run(150)

    assert rule.fired
    assert ended["state"] == "succeeded"
    one.east.cut_connections()
    one.whole()


# ---- F061, F067: chunks --------------------------------------------------------------------------


def chunked(one: Pair, layer: str) -> FaultRule:
    """Have the registry not take a layer in one piece; its client sends chunks from then on."""
    path = f"{one.uploads}.*digest={layer.rpartition('/')[2]}"
    return one.west.fault(path, method="PUT", status=413)


def test_f061_a_registry_that_took_less_is_given_the_rest(pair: Open) -> None:
    one = pair("f061-less")
    layer = one.image()
    too_large = chunked(one, layer)
    less = one.west.fault(one.uploads, method="PATCH", before=taking(200_000))

    one.copied(too_large, less)

    ranges = [line["content-range"] for line in one.lines(one.west, "PATCH", one.uploads)]
    assert ranges[0].startswith("0-")
    assert "200000-599999" in ranges


def test_f061_a_registry_that_says_less_than_it_took_gets_the_blob_anew(pair: Open) -> None:
    one = pair("f061-says-less")
    layer = one.image()
    too_large = chunked(one, layer)
    lie = one.west.fault(one.uploads, method="PATCH", headers={"Range": "0-99999"})

    one.copied(too_large, lie)


@pytest.mark.parametrize("said", ["0-99999999", "0-9223372036854775807", "abc", "5-10", ""])
def test_f061_a_registry_that_says_more_or_nonsense_gets_the_blob_all_the_same(
    pair: Open, said: str
) -> None:
    one = pair(f"f061-says-{next(_numbers)}")
    layer = one.image()
    too_large = chunked(one, layer)
    lie = one.west.fault(one.uploads, method="PATCH", headers={"Range": said})

    one.copied(too_large, lie)


def test_f067_a_chunk_that_is_refused_begins_a_new_session(pair: Open) -> None:
    one = pair("f067-416")
    layer = one.image()
    too_large = chunked(one, layer)
    refused = one.west.fault(one.uploads, method="PATCH", status=416)

    one.copied(too_large, refused)

    sessions = {line.path.partition("?")[0] for line in one.west.log if line.method == "PATCH"}
    assert len(sessions) == 2


def test_f067_chunks_are_as_long_as_the_registry_wants_them(pair: Open) -> None:
    one = pair("f067-minimum")
    least = 17 << 20  # above what a chunk is by itself
    layer = one.image((2 * least + 5_000, 30_000))
    wish = one.west.fault(
        one.uploads, method="POST", headers={"OCI-Chunk-Min-Length": str(least)}, times=FOREVER
    )
    too_large = chunked(one, layer)

    one.copied(too_large, wish)

    lengths = [int(line["content-length"]) for line in one.lines(one.west, "PATCH", one.uploads)]
    assert lengths[:2] == [least, least]


# ---- F064: where an upload goes on ---------------------------------------------------------------


def moved(change: Callable[[str], str]) -> Callable[[Request, Response], None]:
    """The answer's Location, changed."""

    def after(_request: Request, response: Response) -> None:
        response.headers["Location"] = change(response.headers["Location"])

    return after


def relative(location: str) -> str:
    return "/" + location.split("://", 1)[1].partition("/")[2]


@pytest.mark.parametrize("sizes", [LARGE, (20_000, 40_000)], ids=["large", "small"])
def test_f064_a_relative_location_is_followed(pair: Open, sizes: tuple[int, ...]) -> None:
    one = pair(f"f064-relative-{sizes[0]}")
    one.image(sizes)
    rule = one.west.fault(one.uploads, method="POST", after=moved(relative), times=FOREVER)

    one.copied(rule)


def at_localhost(location: str) -> str:
    return location.replace("127.0.0.1", "localhost", 1)


@pytest.mark.parametrize("sizes", [LARGE, (20_000, 40_000)], ids=["large", "small"])
def test_f064_an_upload_is_not_sent_to_another_host(pair: Open, sizes: tuple[int, ...]) -> None:
    one = pair(f"f064-elsewhere-{sizes[0]}")
    one.image(sizes)
    rule = one.west.fault(one.uploads, method="POST", after=moved(at_localhost), times=FOREVER)

    reason = one.failed("policy", rule, uploads=True)  # nobody may go where it could be ended

    assert "localhost" in reason
    elsewhere = [line for line in one.west.log if line.headers.get("host", "").startswith("local")]
    assert elsewhere == []


def test_f064_an_upload_goes_to_a_host_that_is_listed(pair: Open) -> None:
    one = pair("f064-listed", west={"trusted_hosts": ["localhost"]})
    one.image()
    rule = one.west.fault(one.uploads, method="POST", after=moved(at_localhost), times=FOREVER)

    one.copied(rule)

    elsewhere = [line for line in one.west.log if line.headers["host"].startswith("localhost")]
    assert any(line.method == "PUT" for line in elsewhere)


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def test_f064_an_upload_never_leaves_tls(pair: Open, tls: ssl.SSLContext, lab: Lab) -> None:
    one = pair("f064-downgrade", tls=tls, west={"tls": {"insecure": True}})
    one.image()
    with FaultProxy(lab.destination.url) as plain:

        def to_plain(location: str) -> str:
            return f"http://localhost:{plain.port}{relative(location)}"

        rule = one.west.fault(one.uploads, method="POST", after=moved(to_plain), times=FOREVER)
        reason = one.failed("policy", rule, uploads=True)
        assert plain.log == []
    assert "https" in reason


def test_f064_a_registry_that_forgets_its_https_is_spoken_to_over_tls(
    pair: Open, tls: ssl.SSLContext
) -> None:
    one = pair("f064-slip", tls=tls, west={"tls": {"insecure": True}})
    one.image()
    rule = one.west.fault(
        one.uploads,
        method="POST",
        after=moved(lambda location: location.replace("https://", "http://", 1)),
        times=FOREVER,
    )

    one.copied(rule)


# ---- F117: blobs elsewhere -----------------------------------------------------------------------


class Elsewhere:
    """A blob host beside a source that wants tokens, as registries on object storage have one."""

    def __init__(self, pair: Pair, host: FaultProxy, gate: TokenGate) -> None:
        self.pair, self.host, self.gate = pair, host, gate
        self._signatures = itertools.count(1)
        self.rule = pair.east.fault(
            "/blobs/sha256:", method="GET", after=self._redirect, times=FOREVER
        )

    def _redirect(self, request: Request, response: Response) -> None:
        if response.status != 200:
            return
        response.status, response.body = 307, b""
        signed = f"{self.host.url}{request.path}?signature={next(self._signatures)}"
        response.headers = {"Location": signed}


@pytest.fixture
def elsewhere(lab: Lab, pair: Open) -> Iterator[Callable[[str], Elsewhere]]:
    with FaultProxy(lab.source.url) as host:

        def make(name: str) -> Elsewhere:
            one = pair(name)
            gate = TokenGate(one.east)
            number = one.scene.lab.ask("GET", f"/rules/{name}")["source"]
            body = {"url": one.east.url, "credentials": gate.credentials}
            lab.ask("PUT", f"/registries/{number}", body)
            return Elsewhere(one, host, gate)

        yield make


@pytest.mark.parametrize("sizes", [LARGE, (20_000, 40_000)], ids=["large", "small"])
def test_f117_a_signed_url_that_has_ended_is_asked_for_once_more(
    elsewhere: Callable[[str], Elsewhere], sizes: tuple[int, ...]
) -> None:
    far = elsewhere(f"f117-ended-{sizes[0]}")
    layer = far.pair.image(sizes)
    ended = far.host.fault(layer, status=403, body=b"<Error><Code>ExpiredToken</Code></Error>")

    far.pair.copied(ended, far.rule)

    assert len(far.pair.lines(far.pair.east, "GET", layer)) in (2, 3)  # one may lack its token
    signatures = {line.path for line in far.host.log if line.path.startswith(layer)}
    assert len(signatures) == 2
    assert len(far.host.log) >= 6
    assert not any("authorization" in line.headers for line in far.host.log)
    assert any("authorization" in line.headers for line in far.pair.east.log)


def test_f117_a_blob_host_that_denies_for_good_fails_its_copy_alone(
    elsewhere: Callable[[str], Elsewhere],
) -> None:
    far = elsewhere("f117-denied")
    layer = far.pair.image()
    denied = far.host.fault(layer, status=403, times=FOREVER)
    asked = far.pair.scene.run(60)

    assert denied.fired
    assert asked["state"] == "partial"
    copy = far.pair.scene.copy("app:v1")
    assert (copy["state"], copy["class"]) == ("failed", "denied"), copy
    assert denied.fired <= 4
    far.host.faults.clear()
    assert far.pair.scene.retry()["state"] == "succeeded"
    far.pair.whole()


# ---- F118: a mirror that flaps -------------------------------------------------------------------


def test_f118_a_source_that_answers_with_one_of_two_images_never_mixes_them(pair: Open) -> None:
    one = pair("f118")
    scene = one.scene
    scene.push("app:v1", seed="a")
    first = scene.digest("app:v1")
    scene.push("app:v1", seed="b")
    second = scene.digest("app:v1")
    scene.push("neighbour:v1")
    turns = itertools.cycle((first, second))

    def flap(request: Request) -> None:
        request.target = request.target.replace("manifests/v1", f"manifests/{next(turns)}")

    rule = one.east.fault(scene.at_source("app/manifests/v1"), before=flap, times=FOREVER)
    scene.run(60)

    assert rule.fired >= 2, "it was asked once: nothing flapped"
    copy = scene.copy("app:v1")
    assert copy["state"] in ("copied", "superseded"), copy
    assert scene.tag_names("app:v1") in (first, second, None)
    if copy["state"] == "copied":
        assert scene.tag_names("app:v1") is not None
    assert rule.fired <= 40
    scene.heal()
    assert scene.run()["state"] == "succeeded"
    assert scene.tag_names("app:v1") == second
    one.whole()


# ---- F119: old servers ---------------------------------------------------------------------------


@pytest.mark.parametrize("manner", MANNERS)
def test_f119_an_old_server_is_a_source_and_a_destination(lab: Lab, manner: str) -> None:
    with OldServer(lab.source.url, manner) as east, OldServer(lab.destination.url, manner) as west:
        lab.ask("PUT", f"/registries/old-east-{manner}", {"url": east.url})
        lab.ask("PUT", f"/registries/old-west-{manner}", {"url": west.url})
        place = {"registry": f"old-west-{manner}", "repository": PREFIX + "{repository}"}
        name = f"f119-{manner.replace('.', '-')}"
        scene = lab.scene(name, source=f"old-east-{manner}", destinations=[place])
        scene.push("app:v1", LARGE)
        scene.push("neighbour:v1")

        assert scene.run(60)["state"] == "succeeded"

        assert east.served >= 8
        assert west.served >= 8
    verdict = scene.verdict(tags=2, blobs=6)
    assert verdict.faults == [], str(verdict)
