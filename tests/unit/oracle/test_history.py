"""The register check over what readers of a destination saw."""

from __future__ import annotations

import pytest

from api.samples.registry import SampleRegistry
from tests.oracle.history import Sampler
from tests.oracle.pushes import DELETED, PushLog
from tests.support.processes import wait_until
from tests.support.wire import Wire

PLACE = ("team/app", "v1")


class Scene:
    """A tag of one registry that goes through pushes while it is sampled."""

    def __init__(self, registry: SampleRegistry) -> None:
        self.registry = registry
        self.pushes = PushLog()
        self.digests: dict[str, str] = {}
        with Wire(registry.url) as wire:
            for name in ("one", "two", "three"):
                wire.image(PLACE[0], f"only-{name}")
                self.digests[name] = registry.storage.manifest(PLACE[0], f"only-{name}").digest

    def pushed(self, *names: str) -> None:
        for name in names:
            self.pushes.add(PLACE, self.digests[name])

    def show(self, sampler: Sampler, name: str) -> None:
        """Have the tag name a push, and wait until the sampler has seen that."""
        digest = self.digests[name]
        self.registry.storage.move_tag(*PLACE, digest)
        wait_until(
            lambda: (seen := sampler.samples(PLACE)) and seen[-1].digest == digest,
            what=f"the sight of {name}",
        )

    def sampler(self, **options: float) -> Sampler:
        places = {PLACE: PLACE}
        return Sampler(self.registry.url, places, self.pushes, every=0.005, **options)


@pytest.fixture
def scene():
    with SampleRegistry() as registry:
        yield Scene(registry)


def test_forward_and_the_same_digest_pushed_again_are_fine(scene: Scene) -> None:
    scene.pushed("one", "two", "one", "three")
    with scene.sampler() as sampler:
        for name in ("one", "two", "one", "three"):
            scene.show(sampler, name)

    assert sampler.faults() == []
    assert [s.digest for s in sampler.samples(PLACE)][-4:] == [
        scene.digests[name] for name in ("one", "two", "one", "three")
    ]
    assert sampler.looks >= 4


def test_pushes_may_be_passed_over(scene: Scene) -> None:
    scene.pushed("one", "two", "three")
    with scene.sampler() as sampler:
        scene.show(sampler, "one")
        scene.show(sampler, "three")

    assert sampler.faults() == []


def test_a_step_back_is_a_fault(scene: Scene) -> None:
    scene.pushed("one", "two")
    with scene.sampler() as sampler:
        for name in ("one", "two", "one"):
            scene.show(sampler, name)

    (fault,) = sampler.faults()
    assert "went back to push 1 after push 2" in fault


def test_a_step_back_that_is_put_right_in_time_is_none_where_that_is_allowed(scene: Scene) -> None:
    scene.pushed("one", "two")
    with scene.sampler(repair_seconds=30) as sampler:
        for name in ("one", "two", "one", "two"):
            scene.show(sampler, name)

    assert sampler.faults() == []


def test_what_was_never_pushed_is_a_fault(scene: Scene) -> None:
    scene.pushed("one")
    with scene.sampler() as sampler:
        scene.show(sampler, "three")

    (fault,) = sampler.faults()
    assert "never pushed" in fault


def test_a_tag_that_comes_before_its_blobs_is_a_fault(scene: Scene) -> None:
    scene.pushed("one")
    layer = _layer(scene.registry, scene.digests["one"])
    scene.registry.storage.drop_blob(layer)
    with scene.sampler() as sampler:
        scene.show(sampler, "one")

    (fault,) = sampler.faults()
    assert "its content could not be read" in fault


def test_a_registry_that_does_not_answer_is_no_evidence(scene: Scene) -> None:
    scene.pushed("one")
    scene.registry.fault("/manifests/v1", status=503, times=3)
    with scene.sampler() as sampler:
        scene.show(sampler, "one")

    assert sampler.unread == 3
    assert sampler.faults() == []


def test_the_log_knows_what_is_current() -> None:
    pushes = PushLog()
    pushes.add(("a", "v1"), "sha256:1")
    pushes.add(("a", "v2"), "sha256:2")
    pushes.add(("a", "v1"), "sha256:3")
    pushes.add(("a", "v2"), DELETED)

    assert pushes.current() == {("a", "v1"): "sha256:3"}
    assert pushes.numbers(("a", "v1"), "sha256:3") == [2]


def _layer(registry: SampleRegistry, digest: str) -> str:
    import json

    return json.loads(registry.storage.manifest(PLACE[0], digest).raw)["layers"][0]["digest"]
