"""The sample fleet is the same for the same seed and holds what real fleets hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from api.samples.fleet import DEMO_FLEET, FleetError, FleetSpec, plan_fleet, push_fleet
from api.samples.manifests import DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX
from api.samples.registry import DISTRIBUTION_2, SampleRegistry

SMALL = FleetSpec(
    seed=9, repositories=5, tags=25, unique_bytes=2 << 20, big_images=1, big_image_bytes=1 << 20
)


def test_the_same_seed_gives_the_same_digests_and_another_seed_others():
    def digests(spec: FleetSpec) -> dict[tuple[str, str], str]:
        return {(r.name, t): m.digest for r in plan_fleet(spec) for t, m in r.tags.items()}

    assert digests(SMALL) == digests(SMALL)
    other = digests(replace(SMALL, seed=10))
    assert not set(other.values()) & set(digests(SMALL).values())


def test_the_default_fleet_has_every_kind_and_the_size_it_says():
    spec = FleetSpec()
    fleet = plan_fleet(spec)
    manifests = [m for r in fleet for m in r.manifests()]
    releases = [t for r in fleet for t in r.tags if not t.startswith("sha256-")]
    assert (len(fleet), len(releases) >= 200) == (50, True)
    kinds = Counter(m.media_type for m in manifests)
    assert all(kinds[kind] >= 10 for kind in (OCI_IMAGE, DOCKER_IMAGE, OCI_INDEX, DOCKER_LIST))
    assert sum(b"attestation-manifest" in m.raw for m in manifests) >= 10
    assert sum(bool(m.subject) for m in manifests) >= 20
    assert sum(t.endswith(".sig") for r in fleet for t in r.tags) >= 20
    sizes = {b.digest: b.size for m in manifests for b in m.blobs}
    assert 0.8 * spec.unique_bytes < sum(sizes.values()) < 1.2 * spec.unique_bytes
    large = [m for m in manifests if sum(b.size for b in m.blobs) >= 16 << 20]
    assert sum(sum(b.size >= 1 << 20 for b in m.blobs) >= 5 for m in large) >= spec.big_images
    users = Counter(digest for m in manifests for digest in {b.digest for b in m.blobs})
    assert max(users[digest] for digest, size in sizes.items() if size > 1 << 20) >= 5
    places: dict[str, set[str]] = {}
    for repository in fleet:
        for manifest in repository.manifests():
            places.setdefault(manifest.digest, set()).add(repository.name)
    assert sum(len(where) > 1 for where in places.values()) >= 5


def test_the_demo_is_small():
    fleet = plan_fleet(DEMO_FLEET)
    assert len(fleet) == 8
    assert sum(not t.startswith("sha256-") for r in fleet for t in r.tags) >= 24
    assert (
        sum({b.digest: b.size for r in fleet for m in r.manifests() for b in m.blobs}.values())
        < 40 << 20
    )


@pytest.mark.parametrize("api", [True, False])
def test_pushing_it_again_changes_nothing_and_sends_no_blob(api: bool):
    seen: list[int] = []
    with SampleRegistry(profile=DISTRIBUTION_2, referrers_api=api) as registry:
        first = push_fleet(registry.url, SMALL, progress=seen.append)
        assert sum(seen) >= first.unique_bytes
        registry.log.clear()
        assert push_fleet(registry.url, SMALL) == first
        assert not any("/uploads/" in a.path and a.received for a in registry.log)
        fallbacks = [tag for _, tag in first.tag_digests if len(tag) == 71]
        assert bool(fallbacks) is not api
        for (repository, tag), digest in first.tag_digests.items():
            assert registry.storage.manifest(repository, tag).digest == digest
        assert registry.storage.open_uploads == 0


def test_a_registry_that_refuses_is_named():
    with SampleRegistry() as registry:
        registry.fault("/uploads/", status=507)
        with pytest.raises(FleetError, match=r"POST /v2/.*: 507"):
            push_fleet(registry.url, SMALL, threads=1)
    with pytest.raises(ValueError, match="http://host:port"):
        push_fleet("127.0.0.1:5000", SMALL)
