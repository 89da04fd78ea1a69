"""What is found out about registries that differ, and what is left behind in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.samples.registry import DISTRIBUTION_2, OCI_1_1, FaultRule, Profile, SampleRegistry
from service.registry.doctor import MEANINGS, examine
from tests.integration.registry.support import client
from tests.support.processes import free_port
from tests.support.servers import RealRegistry

EVERYTHING = dict.fromkeys(MEANINGS, "yes")
OF_OCI = {**EVERYTHING, "anonymous mount": "no", "sparse index": "no"}
OF_2_8 = {
    **EVERYTHING,
    "tag pages": "no",
    "anonymous mount": "no",
    "referrers": "no",
    "tag delete": "no",
    "sparse index": "no",
}


def results(url: str, **options: bool) -> dict[str, str]:
    made = client(url)
    try:
        return {one.name: one.result for one in examine(made, "scratch/doctor", **options)}
    finally:
        made.close()


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (OCI_1_1, OF_OCI),
        (replace(OCI_1_1, anonymous_mounts=True, sparse_indexes=True), EVERYTHING),
        (replace(OCI_1_1, referrers_api=False), {**OF_OCI, "referrers": "no"}),
        (replace(OCI_1_1, deletes_tags=False), {**OF_OCI, "tag delete": "no"}),
        (DISTRIBUTION_2, OF_2_8),
    ],
    ids=["oci", "all", "no referrers", "no tag delete", "2.8"],
)
def test_abilities_of_a_profile(profile: Profile, expected: dict[str, str]) -> None:
    with SampleRegistry(profile=profile) as registry:
        found = results(registry.url)
        left = [(name, registry.storage.tags(name)) for name in registry.storage.repositories()]

    assert found == expected
    assert {name for name, _ in left} <= {"scratch/doctor", "scratch/doctor-mount"}
    assert all(not tags for _, tags in left), "what was pushed is taken back"


def test_abilities_of_docker_registry() -> None:
    with RealRegistry() as registry:
        found = results(registry.url)

    assert found == OF_2_8


def test_reading_only_writes_nothing() -> None:
    with SampleRegistry() as registry:
        found = results(registry.url, write=False)
        methods = {line.method for line in registry.log}

    assert methods == {"GET"}
    assert found == {**dict.fromkeys(MEANINGS, "unknown"), "ping": "yes", "catalog": "yes"}


def test_registry_that_takes_nothing_is_a_source() -> None:
    with SampleRegistry() as registry:
        registry.faults.add(FaultRule(method="POST", times=1000, status=403))
        found = results(registry.url)

    assert found == {
        **dict.fromkeys(MEANINGS, "unknown"),
        "ping": "yes",
        "catalog": "yes",
        "push": "no",
    }


def test_registry_that_is_away() -> None:
    made = client(f"http://127.0.0.1:{free_port()}")
    [ping, *rest] = examine(made)
    made.close()

    assert (ping.name, ping.result) == ("ping", "no")
    assert "cannot be connected to" in ping.detail
    assert {one.result for one in rest} == {"unknown"}


@pytest.mark.parametrize(
    ("rule", "ability"),
    [
        (FaultRule(path="_catalog", status=404, times=99), "catalog"),
        (FaultRule(path="tags/list", status=403, times=99), "tag list"),
        (
            FaultRule(
                path="/manifests/", method="HEAD", headers={"docker-content-digest": None}, times=99
            ),
            "head digest",
        ),
        (FaultRule(path="mount=.*from=", refuse_mount=True, times=99), "mount"),
        (FaultRule(method="PATCH", status=405, times=99), "chunked upload"),
        (
            FaultRule(path="/manifests/two", method="PUT", nth=2, status=409, times=99),
            "tag overwrite",
        ),
        (
            FaultRule(method="DELETE", path="/manifests/sha256", status=405, times=99),
            "manifest delete",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_missing_ability_is_found(rule: FaultRule, ability: str) -> None:
    with SampleRegistry() as registry:
        registry.faults.add(rule)
        found = results(registry.url)

    assert rule.fired
    assert found[ability] == "no", found


def test_every_finding_says_what_is_done_about_it() -> None:
    with SampleRegistry(profile=DISTRIBUTION_2) as registry:
        made = client(registry.url)
        found = examine(made)
        made.close()

    assert [one.name for one in found] == list(MEANINGS)
    assert {one.means for one in found} == {
        MEANINGS[one.name][0 if one.result == "yes" else 1] for one in found
    }
