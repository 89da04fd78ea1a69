"""The checker's teeth: it is silent over good copies and names every planted corruption."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from api.samples.fleet import FleetSpec, FleetSummary, push_fleet
from api.samples.registry import DISTRIBUTION_2, OCI_1_1, Profile, SampleRegistry
from tests.oracle.closure import Place, Report, check
from tests.support.processes import require
from tests.support.skopeo import skopeo_check
from tests.support.wire import DOCKER_LIST, OCI_INDEX, Wire

SPEC = FleetSpec(
    seed=3, repositories=4, tags=16, unique_bytes=3 << 20, big_images=1, big_image_bytes=1 << 20
)


@dataclass
class Pair:
    """A fleet pushed to two registries, as a perfect replication would leave it."""

    source: SampleRegistry
    destination: SampleRegistry
    summary: FleetSummary

    def check(self, expected: Mapping[Place, Place] | None = None, **options: bool) -> Report:
        places = {place: place for place in self.summary.tag_digests}
        return check(self.source.url, self.destination.url, expected or places, **options)

    def find(self, wanted: Callable[[dict], object]) -> tuple[str, str, dict]:
        """Repository, digest and body of the first tagged manifest that is wanted."""
        for (repository, tag), digest in sorted(self.summary.tag_digests.items()):
            found = self.destination.storage.manifest(repository, digest)
            body = json.loads(found.raw)
            if not tag.startswith("sha256-") and wanted(body):
                return repository, digest, body
        raise AssertionError("the fleet has none")

    def image(self) -> tuple[str, str, dict]:
        return self.find(lambda body: len(body.get("layers", [])) > 2)

    def index(self) -> tuple[str, str, dict]:
        return self.find(lambda body: body["mediaType"] in (OCI_INDEX, DOCKER_LIST))


def pair_of(first: Profile, second: Profile) -> Iterator[Pair]:
    with SampleRegistry(profile=first) as source, SampleRegistry(profile=second) as destination:
        summary = push_fleet(source.url, SPEC, threads=2)
        assert push_fleet(destination.url, SPEC, threads=2).unique_blobs == summary.unique_blobs
        yield Pair(source, destination, summary)


@pytest.fixture
def pair() -> Iterator[Pair]:
    yield from pair_of(DISTRIBUTION_2, DISTRIBUTION_2)


@pytest.mark.parametrize("first", [OCI_1_1, DISTRIBUTION_2], ids=lambda p: p.name)
@pytest.mark.parametrize("second", [OCI_1_1, DISTRIBUTION_2], ids=lambda p: p.name)
def test_a_good_copy_has_no_faults(first: Profile, second: Profile):
    for pair in pair_of(first, second):
        # a fallback tag need not stand where the referrers API answers
        places = {p: p for p in pair.summary.tag_digests if len(p[1]) != 71}
        report = pair.check(places)
        assert report.faults == []
        assert report.tags == len(places) >= 16
        assert report.manifests >= pair.summary.manifests - len(pair.summary.tag_digests)
        assert report.bytes >= pair.summary.unique_bytes


def layer(body: dict, number: int = -1) -> str:
    return body["layers"][number]["digest"]


def lose_a_layer(pair: Pair) -> str:
    digest = layer(pair.image()[2])
    pair.destination.storage.drop_blob(digest)
    return f"blob {digest} in .* cannot be read: status 404"


def flip_a_byte(pair: Pair) -> str:
    digest = layer(pair.image()[2], 0)
    pair.destination.storage.flip_byte(digest, 7)
    return f"blob {digest} in .* has other bytes"


def cut_a_layer_short(pair: Pair) -> str:
    digest = layer(pair.image()[2], 0)
    storage = pair.destination.storage
    storage.replace_blob(digest, storage.blob_bytes(digest)[:-1])
    return f"blob {digest} in .* has other bytes"


def collect_a_layer_behind_the_cache(pair: Pair) -> str:
    digest = layer(pair.image()[2], 0)
    pair.destination.storage.collect_blob(digest)
    return f"blob {digest} in .* cannot be read"


def lose_a_config(pair: Pair) -> str:
    digest = pair.image()[2]["config"]["digest"]
    pair.destination.storage.drop_blob(digest)
    return f"blob {digest} in .* cannot be read: status 404"


def point_a_tag_elsewhere(pair: Pair) -> str:
    tags = [p for p in sorted(pair.summary.tag_digests) if p[1].startswith("v1.")]
    repository, tag = tags[0]
    others = {pair.summary.tag_digests[p] for p in tags if p[0] == repository}
    other = min(others - {pair.summary.tag_digests[repository, tag]})
    pair.destination.storage.move_tag(repository, tag, other)
    return f"{repository}:{tag}: the tag is {other}, at the source sha256:"


def lose_a_tag(pair: Pair) -> str:
    repository, tag = next(p for p in sorted(pair.summary.tag_digests) if p[1] == "v1.0.0")
    pair.destination.storage.delete_tag(repository, tag)
    return f"{repository}:{tag}: the tag is missing"


def lose_a_child(pair: Pair) -> str:
    repository, _, body = pair.index()
    child = body["manifests"][1]["digest"]
    pair.destination.storage.drop_manifest(repository, child)
    return f"child: {child} is missing in {repository}"


def change_a_childs_bytes(pair: Pair) -> str:
    repository, _, body = pair.index()
    child = body["manifests"][0]["digest"]
    raw = pair.destination.storage.manifest(repository, child).raw
    pair.destination.storage.replace_manifest(repository, child, raw + b"\n")
    return f"child: {child} differs from the source's"


def change_a_roots_bytes(pair: Pair) -> str:
    repository, digest, _ = pair.image()
    raw = pair.destination.storage.manifest(repository, digest).raw
    pair.destination.storage.replace_manifest(repository, digest, raw.replace(b" ", b"", 1))
    return f"{repository}:v1.* the tag is .*, at the source {digest}"


def lose_a_signature(pair: Pair) -> str:
    repository, tag = next(p for p in pair.summary.tag_digests if p[1].endswith(".sig"))
    pair.destination.storage.delete_tag(repository, tag)
    return f"{repository}:{tag}: the tag is missing"


def lose_a_referrer(pair: Pair) -> str:
    repository, tag = next(p for p in pair.summary.tag_digests if len(p[1]) == 71)
    index = pair.destination.storage.manifest(repository, tag)
    entry = json.loads(index.raw)["manifests"][0]
    empty = json.dumps({**json.loads(index.raw), "manifests": []}).encode()
    pair.destination.storage.plant_manifest(repository, empty, OCI_INDEX, tag)
    return f"referrer {entry['digest']} of {tag.replace('-', ':')} is not told in {repository}"


def leave_an_extra_tag(pair: Pair) -> str:
    repository, digest, _ = pair.image()
    pair.destination.storage.move_tag(repository, "surplus", digest)
    return f"{repository}:surplus: nobody expects this tag"


def leave_an_extra_repository(pair: Pair) -> str:
    with Wire(pair.destination.url) as wire:
        wire.image("stray/thing", "v1")
    return "stray/thing: nobody expects this repository"


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_layer,
        flip_a_byte,
        cut_a_layer_short,
        collect_a_layer_behind_the_cache,
        lose_a_config,
        point_a_tag_elsewhere,
        lose_a_tag,
        lose_a_child,
        change_a_childs_bytes,
        change_a_roots_bytes,
        lose_a_signature,
        lose_a_referrer,
        leave_an_extra_tag,
        leave_an_extra_repository,
    ],
    ids=lambda damage: damage.__name__,
)
def test_planted_damage_is_found(pair: Pair, damage: Callable[[Pair], str]):
    pattern = damage(pair)
    faults = pair.check().faults
    assert faults
    assert any(re.search(pattern, fault) for fault in faults), (pattern, faults)


def test_a_size_that_lies_is_found(pair: Pair):
    repository, _, body = pair.image()
    body["layers"][0]["size"] += 1
    raw = json.dumps(body).encode()
    for registry in (pair.source, pair.destination):
        registry.storage.plant_manifest(repository, raw, body["mediaType"], "lie")
    faults = pair.check({(repository, "lie"): (repository, "lie")}, extra=False).faults
    assert any("bytes, not" in fault for fault in faults)


def test_names_may_differ():
    with SampleRegistry() as source, SampleRegistry() as destination:
        for registry, name in ((source, "a/b"), (destination, "mirror/a/b")):
            with Wire(registry.url) as wire:
                raw = wire.image("x/y", "v1")
                body = json.loads(raw)
                for blob in (body["config"], *body["layers"]):
                    registry.storage.mount(name, blob["digest"], "x/y")
                wire.put_manifest(name, "v1", body)
        expected = {("a/b", "v1"): ("mirror/a/b", "v1")}
        assert check(source.url, destination.url, expected, extra=False).faults == []
        assert check(source.url, destination.url, expected).faults == [
            "x/y: nobody expects this repository"
        ]


def test_skopeo_agrees_and_disagrees(pair: Pair):
    skopeo = require("skopeo")
    places = {place: place for place in pair.summary.tag_digests}
    urls = pair.source.url, pair.destination.url
    assert skopeo_check(skopeo, *urls, places, sample=4) == []
    repository, digest, body = pair.image()
    tag = next(
        t for (r, t), d in pair.summary.tag_digests.items() if (r, d) == (repository, digest)
    )
    pair.destination.storage.flip_byte(layer(body))
    assert skopeo_check(skopeo, *urls, {(repository, tag): (repository, tag)})
