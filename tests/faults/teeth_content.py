"""Scenarios in which a protection of content, tags or credentials is the last line of defence."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Sequence
from urllib.parse import parse_qs

from api.samples.auth import BasicAuth, BearerAuth, TokenService
from api.samples.faults import FOREVER
from api.samples.http_messages import Request, WireFault
from api.samples.http_server import HttpServer
from api.samples.registry import SampleRegistry
from tests.faults.lab import PREFIX
from tests.faults.teeth import Stage, books, lines_of, whole
from tests.faults.test_moves import push_again_after_collection
from tests.faults.test_processes import freeze_past_the_lease
from tests.oracle.closure import check
from tests.oracle.cost import Bounds, judge_source
from tests.oracle.history import Sampler
from tests.oracle.secrets import Canary, SecretSearch
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.proxy import Proxy
from tests.support.wire import Wire, image_body, sha256

# ---- tags ----------------------------------------------------------------------------------------


def a_frozen_process_writes_late(stage: Stage) -> list[str]:
    """F042, at the tag: whoever stands still before its PUT reads the source's tag again (another line)."""
    scene = stage.scene()
    freeze_past_the_lease(stage.lab, scene, "putting-the-tag", stage.comes)
    return whole(scene, tags=1, blobs=3)


def a_tag_is_accepted_and_not_kept(stage: Stage) -> list[str]:
    """F079: the destination answers 201 to the tag, once, and has not done it."""
    scene = stage.scene()
    scene.push("app:v1")
    scene.push("neighbour:v1")
    rule = scene.west.fault(scene.at_destination("app/manifests/v1"), method="PUT", status=201)
    scene.run()
    assert rule.fired
    return whole(scene, tags=2, blobs=6)


# ---- blobs ---------------------------------------------------------------------------------------


def many_images_want_one_layer(stage: Stage) -> list[str]:
    """F045: its first read is let go when a second one has come, or when others wait for it."""
    lab, scene = stage.lab, stage.scene()
    sizes = (200_000, 9_000)
    images = [scene.push(f"app{n}:v1", sizes, seed=stage.name) for n in range(6)]
    layer = images[0]["layers"][0]["digest"]

    def others_came() -> bool:
        return rule.hits > 1 or any(c["state"] == "waiting" for c in lab.copies(identity))

    rule = scene.east.fault(
        scene.at_source(f".*/blobs/{layer}"),
        method="GET",
        before=lambda _: wait_until(others_came, 10, "the others"),
    )
    identity = scene.start()
    assert lab.wait(identity)["state"] == "succeeded"
    assert rule.fired
    unique = sum(sizes) + sum(image["config"]["size"] for image in images)
    bounds = Bounds(requests=20 * len(images))
    return [
        *judge_source(lines_of(scene), unique, bounds),
        *whole(scene, tags=len(images), blobs=3 * len(images)),
    ]


def a_byte_flips_before_a_registry_that_believes_us(stage: Stage) -> list[str]:
    """F049, where the destination hashes nothing: a strict one would refuse the upload (another line)."""
    return _flipped(stage, (20_000, 40_000))


def a_byte_flips_in_a_stream(stage: Stage) -> list[str]:
    """The same with a layer that is streamed, and not read whole before its upload."""
    return _flipped(stage, (600_000,))


def _flipped(stage: Stage, sizes: Sequence[int]) -> list[str]:
    lab = stage.lab
    with SampleRegistry() as careless:

        def keep(request: Request) -> None:
            """Store what came, under the name that it was given."""
            repository = request.target.removeprefix("/v2/").partition("/blobs/uploads/")[0]
            (digest,) = parse_qs(request.query_text)["digest"]
            careless.storage.put_blob(repository, digest, request.body.read(1 << 24))

        careless.fault("/blobs/uploads/", method="PUT", status=201, before=keep, times=FOREVER)
        lab.ask("PUT", f"/registries/{stage.name}", {"url": careless.url})
        scene = stage.scene(
            destinations=[{"registry": stage.name, "repository": PREFIX + "{repository}"}]
        )
        image = scene.push("app:v1", sizes)
        layer = image["layers"][0]["digest"]
        rule = scene.east.fault(
            scene.at_source(f"app/blobs/{layer}"), method="GET", wire=WireFault(flip_at=7)
        )
        scene.run()
        assert rule.fired
        report = check(lab.source.url, careless.url, scene.expected)
        assert report.blobs > len(sizes)
        return [*report.faults, *books(scene)]


def a_manifest_tells_a_wrong_size(stage: Stage) -> list[str]:
    """M9: registries take it. The bytes have their digest, so that only the size can tell.

    A tag that names it must never be seen at the destination.
    """
    lab, scene = stage.lab, stage.scene()
    scene.push("neighbour:v1")
    repository = f"{stage.name}/app"
    config, layer = json.dumps({"of": repository}).encode(), stage.name.encode() * 1000
    body = image_body(config, [layer])
    body["layers"][0]["size"] += 100
    scene.pushes.add((repository, "v1"), sha256(json.dumps(body).encode()))
    with Wire(lab.source.url) as wire:
        for blob in (config, layer):
            assert wire.push_blob(repository, blob).status == 201
        assert wire.put_manifest(repository, "v1", body).status == 201, "the source is not lax"
    places = {(repository, "v1"): (PREFIX + repository, "v1")}
    with Sampler(lab.destination.url, places, scene.pushes, every=0.02) as sampler:
        scene.run()
        reads = scene.reads(body["layers"][0]["digest"])
    assert reads, "nobody has read the layer"
    assert sampler.looks > 1
    return [*sampler.faults(), *whole(scene, tags=1, blobs=3)]


def a_registry_tells_of_collected_blobs(stage: Stage) -> list[str]:
    """F074: HEAD 200, mount 201 and 201 of the tag prove nothing after its collector (M8)."""
    scene = stage.scene()
    push_again_after_collection(stage.lab, scene, "app")
    scene.run()
    return whole(scene, tags=1, blobs=3)


# ---- credentials ---------------------------------------------------------------------------------


def blobs_are_at_another_origin(stage: Stage) -> list[str]:
    """The source sends reads of blobs to another port of its host, whose address is allowed."""
    canary = _canary(stage)
    basic = BasicAuth({canary.username: canary.secret})
    with SampleRegistry(auth=basic, redirect_blobs=True) as source:
        found = _run_guarded(stage, source, canary)
        assert source.cdn_log, "no read was redirected"
        asked = [(one.path, one.headers) for one in source.cdn_log]
        search = SecretSearch([canary])
        search.requests(source.cdn_host, asked)
        assert search.places == len(asked)
        return [*search.faults, *found]


def a_registry_names_a_foreign_token_service(stage: Stage) -> list[str]:
    """Its name is one that a proxy alone resolves, so that no rule about addresses can stop us.

    Whoever asks there with the credentials has lost them: no copy is wanted, only a clear refusal.
    """
    canary = _canary(stage)
    tokens = TokenService({canary.username: canary.secret})
    foreign = HttpServer(tokens.handle)
    foreign.start()
    try:
        realm = BearerAuth(tokens, realm="http://tokens.invalid/token")
        with (
            SampleRegistry(auth=realm) as source,
            Proxy(names={"tokens.invalid": ("127.0.0.1", foreign.port)}) as proxy,
        ):
            found = _run_guarded(stage, source, canary, wanted=False, proxy=proxy.url)
            assert any(one.status == 401 for one in source.log), "the realm was not named"
            search = SecretSearch([canary])
            search.requests("tokens.invalid", [(one.path, one.headers) for one in foreign.log])
            search.look(
                "what the proxy was sent for it", "\n".join(_heads(proxy, "tokens.invalid"))
            )
            return [*search.faults, *found]
    finally:
        foreign.close()


def _heads(proxy: Proxy, host: str) -> list[str]:
    """Return the heads of requests that were to go to a host."""
    return [head for head in list(proxy.heads) if re.match(rf"\S+ http://{host}/", head)]


def _canary(stage: Stage) -> Canary:
    return Canary(stage.name, f"robot-{stage.name}", f"canary-{secrets.token_urlsafe(18)}/+&")


def _run_guarded(
    stage: Stage, source: SampleRegistry, canary: Canary, *, wanted: bool = True, **registry: str
) -> list[str]:
    """Copy an image from a source with credentials; what the oracle says of copy and books."""
    lab, repository = stage.lab, f"{stage.name}/app"
    push_image(source.storage, repository, "v1", mark=stage.name)
    credentials = {"username": canary.username, "password": canary.secret}
    body = {"url": source.url, "credentials": credentials, **registry}
    lab.ask("PUT", f"/registries/{stage.name}", body)
    scene = stage.scene(source=stage.name)
    scene.run()
    if not wanted:
        return books(scene)
    pair = base64.b64encode(f"{canary.username}:{canary.secret}".encode()).decode()
    report = check(
        source.url,
        lab.destination.url,
        {(repository, "v1"): (PREFIX + repository, "v1")},
        extra=False,
        source_headers={"Authorization": f"Basic {pair}"},
    )
    return [*report.faults, *books(scene)]
