"""The fleets that are copied: made from a seed, pushed once to a source, named to every contestant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.samples.fleet import FleetSummary, push_fleet
from api.samples.fleet_plan import MIB, FleetSpec, plan_fleet

Place = tuple[str, str]  # repository, tag
Naming = Callable[[str], str]  # repository at the source -> at the destination

FLEET = FleetSpec()  # 200 releases in 50 repositories, 190 MiB unique, about 1.5 GiB logical
QUICK = FleetSpec(
    repositories=16, tags=50, unique_bytes=24 * MIB, big_images=1, big_image_bytes=17 * MIB
)


@dataclass(frozen=True)
class Loaded:
    """A fleet that stands in a registry."""

    summary: FleetSummary
    logical_bytes: int  # every image with all of its own blobs, as if nothing were shared

    @property
    def repositories(self) -> list[str]:
        return sorted({repository for repository, _ in self.summary.tag_digests})

    @property
    def places(self) -> list[Place]:
        return sorted(self.summary.tag_digests)

    def expected(self, naming: Naming) -> dict[Place, Place]:
        """Every tag and where a contestant puts it."""
        return {
            (repository, tag): (naming(repository), tag)
            for repository, tag in self.summary.tag_digests
        }

    def describe(self) -> Mapping[str, Any]:
        """For the results file."""
        return {
            "tags": self.summary.tags,
            "repositories": self.summary.repositories,
            "unique_blobs": self.summary.unique_blobs,
            "unique_bytes": self.summary.unique_bytes,
            "logical_bytes": self.logical_bytes,
        }


def load(url: str, spec: FleetSpec) -> Loaded:
    """Push a fleet to a registry over plain HTTP."""
    logical = 0
    for repository in plan_fleet(spec):
        for manifest in repository.tags.values():
            for one in (manifest, *manifest.children):
                logical += sum(blob.size for blob in one.blobs)
    return Loaded(push_fleet(url, spec), logical)
