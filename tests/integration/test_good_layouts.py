"""The oracle raises no alarm over what is right, whatever it looks like."""

from __future__ import annotations

import pytest

from api.samples.fleet import FleetSpec, push_fleet
from api.samples.registry import DISTRIBUTION_2, OCI_1_1, SampleRegistry
from tests.oracle.closure import check


@pytest.mark.parametrize("seed", range(50))
def test_fifty_good_layouts_raise_no_alarm(seed: int) -> None:
    spec = FleetSpec(
        seed=seed,
        repositories=1 + seed % 3,
        tags=4 + seed % 7,
        unique_bytes=200 << 10,
        big_images=0,
    )
    profile = (OCI_1_1, DISTRIBUTION_2)[seed % 2]
    with SampleRegistry(profile=profile) as source, SampleRegistry(profile=profile) as destination:
        summary = push_fleet(source.url, spec, threads=2)
        push_fleet(destination.url, spec, threads=2)
        report = check(source.url, destination.url, {p: p for p in summary.tag_digests})

    assert report.faults == [], f"seed {seed}"
    assert report.tags >= 4
    assert report.bytes > 0
