"""Credentials in a run where tokens end all the time and a registry dies: they are nowhere else (O7; F113, F131)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from api.samples.auth import BasicAuth, BearerAuth, TokenService
from api.samples.registry import SampleRegistry
from api.samples.storage import digest_of
from tests.faults.lab import PREFIX, Lab
from tests.oracle.secrets import Canary, SecretSearch
from tests.support.wire import image_body

pytestmark = pytest.mark.timeout(180)

IMAGES = 12


@dataclass
class Guarded:
    """A source behind a token service and a destination behind a password, each with its canary."""

    source: SampleRegistry
    destination: SampleRegistry
    tokens: TokenService
    canaries: list[Canary]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    canaries = [
        Canary(name, f"robot-{name}", f"canary-{secrets.token_urlsafe(18)}/+&", "")
        for name in ("tokens", "basic")
    ]
    tokens = TokenService({canaries[0].username: canaries[0].secret}, uses=5)
    basic = BasicAuth({canaries[1].username: canaries[1].secret})
    with (
        SampleRegistry(auth=BearerAuth(tokens)) as source,
        SampleRegistry(auth=basic) as destination,
    ):
        yield Guarded(source, destination, tokens, canaries)


def test_secrets_stay_with_their_registries_while_tokens_end_and_requests_fail(
    lab: Lab, guarded: Guarded
) -> None:
    for number in range(IMAGES):
        _plant(guarded.source, f"secret/app{number}", number)
    for canary, registry in zip(
        guarded.canaries, (guarded.source, guarded.destination), strict=True
    ):
        credentials = {"username": canary.username, "password": canary.secret}
        body = {"url": registry.url, "credentials": credentials}
        lab.ask("PUT", f"/registries/{canary.name}", body)
    lab.rule(
        "secret",
        source="tokens",
        select=[{"repositories": ["secret/**"]}],
        destinations=[{"registry": "basic", "repository": PREFIX + "{repository}"}],
    )
    guarded.source.fault("/blobs/", status=500, nth=3, body=b"<html>who are you</html>")
    guarded.destination.fault("/manifests/", method="PUT", status=403, nth=4)

    ended = lab.wait(lab.run("secret"), 60)

    assert ended["state"] in ("succeeded", "partial")
    assert len(guarded.tokens.requests) > IMAGES / 2, "no token ended: nothing was tried"
    search = _everywhere(lab, guarded.canaries)
    for own, other in (
        (guarded.source, guarded.canaries[1]),
        (guarded.destination, guarded.canaries[0]),
    ):
        asked = [(line.path, line.headers) for line in own.log]
        assert len(asked) >= IMAGES
        sent = SecretSearch([other])
        sent.requests(own.host, asked)
        search.faults += sent.faults
    assert search.faults == [], str(search)
    assert search.places > 50
    assert search.bytes > 100_000


def test_a_token_that_never_suffices_fails_its_copies_and_asks_no_storm(
    lab: Lab, guarded: Guarded
) -> None:
    _plant(guarded.source, "insufficient/app", 1)
    canary = guarded.canaries[0]
    guarded.tokens.denied.add((canary.username, "repository:insufficient/app", "pull"))
    credentials = {"username": canary.username, "password": canary.secret}
    lab.ask("PUT", "/registries/tokens2", {"url": guarded.source.url, "credentials": credentials})
    lab.rule(
        "insufficient",
        source="tokens2",
        select=[{"repositories": ["insufficient/app"], "tags": ["v1"]}],
        destinations=[{"registry": "west", "repository": PREFIX + "{repository}"}],
    )

    ended = lab.wait(lab.run("insufficient"), 60)

    assert ended["state"] == "failed"
    reasons = [ended.get("reason", "")] + [c["reason"] for c in lab.copies(ended["id"])]
    assert any(reasons)
    assert canary.secret not in "".join(reasons)
    assert len(guarded.tokens.requests) <= 12


def _plant(registry: SampleRegistry, repository: str, number: int) -> None:
    """Put an image into a registry past HTTP."""
    config, layer = f'{{"n": {number}}}'.encode(), f"layer {number} ".encode() * 500
    for data in (config, layer):
        registry.storage.put_blob(repository, digest_of(data), data)
    body = image_body(config, [layer])
    registry.storage.plant_manifest(repository, json.dumps(body).encode(), body["mediaType"], "v1")


def _everywhere(lab: Lab, canaries: list[Canary]) -> SecretSearch:
    """Search logs, SQL, Redis, what the API tells, and command lines."""
    search = SecretSearch(canaries)
    search.files(lab.folder, "*.err")
    search.files(lab.folder, "*.out")
    search.sqlite(lab.folder / "transship.db")
    with lab.redis.client() as client:
        search.redis(client)
    for path in ("/registries", "/rules", "/executions?limit=50", "/audit"):
        search.look(f"GET {path}", lab.client.get(path).content)
    for name, process in lab.processes.items():
        search.process(process.pid, name)
    return search
