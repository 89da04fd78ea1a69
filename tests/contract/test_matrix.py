"""contract:matrix. A source and a sink of every class of capabilities, each with each: rules between all fakes.

One rule a source has all sinks as its destinations, so that a class of sources meets every class of sinks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from api.samples.registry import SampleRegistry
from service.model.digest import Digest
from service.model.endpoint import Credential
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_INDEX
from service.model.provider import Capabilities, CapabilityOverrides, Provider
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import ExecutionState
from service.registry.client import RegistryClient
from tests.contract.leaks import watching
from tests.contract.stands import STANDS, Stand, stand
from tests.integration.registry.support import image, push
from tests.support.planning import finish, plan
from tests.support.world import World, open_world, some_bytes

KIB = 1 << 10
SIDES = [name for name in STANDS if name not in ("olareg", "zot")]  # which are as generic is
SIGNATURE = "application/vnd.example.signature"


def chunked() -> Stand:
    """No provider's row wants PATCHes only: a registry behind a proxy, whose administrator says so."""
    capabilities = CapabilityOverrides(uploads="chunked", chunk_bytes=128 * KIB)
    keys = {"capabilities": capabilities}
    return Stand("distribution", SampleRegistry(), Credential(), "team", keys)


@pytest.fixture(scope="module")
def stands() -> Iterator[dict[str, Stand]]:
    with watching() as watch, ExitStack() as opened:
        found = {name: opened.enter_context(stand(name)) for name in SIDES}
        found["distribution"] = chunked()
        opened.enter_context(found["distribution"].registry)
        yield found
        assert watch.leaks() == []


@pytest.fixture
def world(tmp_path: Path, stands: dict[str, Stand]) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        for made in stands.values():
            opened.services.registries.put(made.endpoint(tmp_path), document={})
        yield opened


def attach(client: RegistryClient, repository: str, subject: Manifest) -> Digest:
    """Attach an artifact to an image: the registry lists it, or a tag named after the image does."""
    described = {
        "mediaType": subject.media_type,
        "digest": str(subject.digest),
        "size": subject.size,
    }
    signature, (config, descriptor) = image(subject=described, artifactType=SIGNATURE)
    client.put_blob(repository, descriptor.digest, config)
    if not client.put_manifest(repository, str(signature.digest), signature).subject_stored:
        row = {
            "mediaType": signature.media_type,
            "digest": str(signature.digest),
            "size": signature.size,
            "artifactType": SIGNATURE,
        }
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [row]}
        index = parse_manifest(json.dumps(body).encode(), OCI_INDEX)
        client.put_manifest(repository, fallback_tag(subject.digest), index)
    return signature.digest


def fallback_tag(digest: Digest) -> str:
    return str(digest).replace(":", "-")


def attached(made: Stand, repository: str, digest: Digest) -> list[Digest]:
    """What is attached to an image there, by its list or by the tag."""
    client = made.client()
    found = client.referrers(repository, digest)
    if found is not None:
        return [one.digest for one in found]
    return [one.digest for one in client.get_manifest(repository, fallback_tag(digest)).children()]


def test_every_class_of_capabilities_has_a_stand(stands: dict[str, Stand]) -> None:
    wanted = set[tuple[str, object]]()
    for name, hint in get_type_hints(Capabilities).items():
        values = (True, False) if hint is bool else get_args(hint)
        wanted |= {(name, value) for value in values if isinstance(value, bool | str)}
    wanted |= {("namespace", value) for value in get_args(get_type_hints(Provider)["namespace"])}
    there = set[tuple[str, object]]()
    for made in stands.values():
        client = made.client()
        can = client.capabilities
        there |= {(item.name, getattr(can, item.name)) for item in fields(Capabilities)}
        there.add(("namespace", client.provided.provider.namespace))

    assert wanted - there == set()


@pytest.mark.parametrize("source", [*SIDES, "distribution"])
def test_source_is_copied_to_sinks_of_every_class(
    source: str, stands: dict[str, Stand], world: World
) -> None:
    origin = stands[source]
    client = origin.client()
    layer = some_bytes(source, 300 * KIB)  # is streamed, and goes in three chunks
    first = push(client, origin.repository("first"), "v1", layer, b"one")
    second = push(client, origin.repository("second"), "v1", layer, b"two")
    signature = attach(client, origin.repository("first"), first)
    sinks = [made for name, made in stands.items() if name != source]
    rule = SyncRule(
        "matrix",
        origin.provider,
        (Selection(NameFilter((origin.repository("first"), origin.repository("second")))),),
        tuple(
            Destination(registry=made.provider, repository=made.repository(f"of-{source}-{{name}}"))
            for made in sinks
        ),
    )

    execution = plan(world, rule)

    assert finish(world, execution) is ExecutionState.SUCCEEDED, world.copies(execution)
    for made in sinks:
        there = made.client()
        for name, pushed in (("first", first), ("second", second)):
            repository = made.repository(f"of-{source}-{name}")
            head = there.head_manifest(repository, "v1")
            assert head is not None, (made.provider, name)
            assert head.digest == pushed.digest
            assert there.read_blob(repository, Digest.of(layer), len(layer), len(layer)) == layer
        repository = made.repository(f"of-{source}-first")
        assert attached(made, repository, first.digest) == [signature], made.provider
