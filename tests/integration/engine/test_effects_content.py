"""Types and platforms: what a tag is decides whether, and how much of it, arrives."""

from __future__ import annotations

from dataclasses import replace

from api.samples.registry import OCI_1_1
from service.model.endpoint import RegistryEndpoint
from service.model.states import CopyState, ExecutionState
from tests.support.content import CHART_CONFIG, push_artifact, push_image, push_index
from tests.support.effects import arrived, effect_rule, requests, run, standing, warnings
from tests.support.planning import finish
from tests.support.servers import RealRegistry
from tests.support.world import World

SBOM = "application/vnd.example.sbom+json"


def push_kinds(world: World) -> None:
    east = world.east.storage
    push_image(east, "app", "image")
    push_index(east, "app", "index", ["linux/amd64"])
    push_artifact(east, "app", "chart", config=CHART_CONFIG)
    push_artifact(east, "app", "sbom", artifact_type=SBOM)
    push_artifact(east, "app", "old", config="application/vnd.example.config+json")


def test_effect_select_types(world: World) -> None:
    push_kinds(world)
    rule = effect_rule({"repositories": ["app"], "types": ["image"]})

    execution = run(world, rule)

    assert standing(world) == {"app:image", "app:index"}
    (warning,) = warnings(world, execution)
    assert "1 chart" in warning
    assert f"1 {SBOM}" in warning
    assert "1 application/vnd.example.config+json" in warning
    assert len(arrived(world, {"repositories": ["app"]})) == 5


def test_types_by_word_and_by_media_type(world: World) -> None:
    push_kinds(world)

    assert arrived(world, {"repositories": ["app"], "types": ["chart", SBOM]}) == {
        "app:chart",
        "app:sbom",
    }
    assert arrived(world, {"repositories": ["app"], "types": ["artifact"]}) == {
        "app:chart",
        "app:sbom",
        "app:old",
    }


def test_what_is_unchanged_or_known_is_not_read_again(world: World) -> None:
    push_kinds(world)
    rule = effect_rule({"repositories": ["app"], "types": ["image"]})
    run(world, rule)
    before = requests(world, "GET", "/manifests/")

    execution = run(world, rule)

    assert requests(world, "GET", "/manifests/") == before
    assert "1 chart" in warnings(world, execution)[0]


def test_each_entry_takes_the_types_that_it_wants(world: World) -> None:
    push_kinds(world)

    taken = arrived(
        world,
        {"repositories": ["app"], "types": ["image"], "to": {"repository": "images"}},
        {"repositories": ["app"], "types": ["chart"], "to": {"repository": "charts"}},
    )

    assert taken == {"images:image", "images:index", "charts:chart"}


def test_a_rule_whose_types_leave_nothing_matches_nothing(world: World) -> None:
    push_image(world.east.storage, "app", "v1")

    execution = run(world, effect_rule({"repositories": ["app"], "types": ["chart"]}))

    told = warnings(world, execution)
    assert any("1 image" in text for text in told)
    assert any("matches nothing" in text for text in told)


# ---- platforms -----------------------------------------------------------------------------------

SPARSE = replace(OCI_1_1, sparse_indexes=True)
THREE = ("linux/amd64", "linux/arm64", "linux/arm/v7")


def platforms(*names: str) -> dict[str, object]:
    return {"repositories": ["app"], "platforms": list(names)}


def there(world: World, digest: str) -> bool:
    return world.west.storage.manifest("app", digest) is not None


def test_effect_select_platforms(world: World) -> None:
    world.west.api.profile = SPARSE
    index, digests = push_index(world.east.storage, "app", "v1", THREE, attested=True)

    run(world, effect_rule(platforms("linux/amd64", "linux/arm")))

    assert world.west.storage.tags("app") == {"v1": index}
    assert {name for name, digest in digests.items() if there(world, digest)} == {
        "linux/amd64",
        "att:linux/amd64",
        "linux/arm/v7",
        "att:linux/arm/v7",
    }
    left_out = digests["linux/arm64"]
    assert requests(world, "GET", f"/manifests/{left_out}") == 0

    run(world, effect_rule({"repositories": ["app"]}))
    assert there(world, left_out)


def test_a_platform_that_is_added_later_is_copied_under_the_same_digest(world: World) -> None:
    world.west.api.profile = SPARSE
    _, digests = push_index(world.east.storage, "app", "v1", THREE)
    first = effect_rule(platforms("linux/amd64"))
    run(world, first)
    assert world.copies(run(world, first)) == []

    other = effect_rule(platforms("linux/arm64"), name="other")
    run(world, other)

    assert there(world, digests["linux/arm64"])
    assert not there(world, digests["linux/arm/v7"])
    assert world.copies(run(world, first)) == []
    assert world.copies(run(world, other)) == []


def test_a_rule_that_keeps_what_is_there_completes_its_platforms(world: World) -> None:
    world.west.api.profile = SPARSE
    _, digests = push_index(world.east.storage, "app", "v1", THREE)
    run(world, effect_rule(platforms("linux/amd64")))
    rule = effect_rule({"repositories": ["app"]}, on_conflict="keep")

    run(world, rule)

    assert all(there(world, digest) for digest in digests.values())
    assert world.copies(run(world, rule)) == []


def test_a_registry_that_wants_all_platforms_refuses_clearly(world: World) -> None:
    push_index(world.east.storage, "app", "v1", THREE)

    execution = run(world, effect_rule(platforms("linux/amd64")), ExecutionState.FAILED)

    _refused(world, execution)
    assert standing(world) == set()


def test_docker_registry_refuses_a_sparse_index_clearly(world: World) -> None:
    with RealRegistry() as real:
        world.services.registries.put(RegistryEndpoint("real", real.url), document={})
        push_index(world.east.storage, "app", "v1", THREE)
        rule = effect_rule(platforms("linux/amd64"), destinations=[{"registry": "real"}])

        execution = run(world, rule, ExecutionState.FAILED)

        _refused(world, execution)


def _refused(world: World, execution: str) -> None:
    (copy,) = world.copies(execution)
    assert copy.failure_class == "policy"
    assert "without all of its platforms" in copy.reason
    assert "platforms" in copy.hint
    assert copy.attempts <= 2


def test_single_images_of_other_platforms_are_left_out_with_a_count(world: World) -> None:
    east = world.east.storage
    push_image(east, "app", "amd", platform="linux/amd64")
    push_image(east, "app", "arm", platform="linux/arm64/v8")
    push_image(east, "app", "win", platform="windows/amd64")
    push_index(east, "app", "none", ["linux/s390x"])
    push_artifact(east, "app", "chart", config=CHART_CONFIG)

    execution = run(world, effect_rule(platforms("linux/arm64")))

    assert standing(world) == {"app:arm", "app:chart"}
    assert "3 other platforms" in warnings(world, execution)[0]


def test_a_tag_that_moves_to_another_type_or_platform_is_left_out(world: World) -> None:
    east = world.east.storage
    for entry in ({"types": ["image"]}, {"platforms": ["linux/amd64"]}):
        push_image(east, "app", "v1", mark=str(entry))
        rule = effect_rule({"repositories": ["app"], **entry})
        execution = world.services.executions.create(rule, trigger="test").id
        assert world.services.planner.plan(execution, world.services.boot)
        if "types" in entry:
            push_artifact(east, "app", "v1", config=CHART_CONFIG)
        else:
            push_image(east, "app", "v1", platform="linux/arm64")

        finish(world, execution)

        (copy,) = world.copies(execution)
        assert copy.state is CopyState.SKIPPED, copy
        assert "rule leaves out" in copy.reason or "none of the platforms" in copy.reason
        assert standing(world) == set()
