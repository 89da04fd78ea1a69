"""A command without a server keeps to the regions and links of its file, whatever ran on its data before."""

from __future__ import annotations

from typing import Any

from api.engine.oneshot import Job, save_regions
from service.model.region import Link, Region
from tests.support.world import World

EU, US = Region("eu", "eu"), Region("us", "us")


def save(world: World, *regions: Region, links: tuple[Link, ...] = (), **more: Any) -> None:
    save_regions(
        Job((), (), regions=regions, links=links, **{"of_a_file": True, **more}), world.services
    )


def test_what_an_earlier_file_had_is_forgotten(world: World) -> None:
    endpoint = world.services.registries.get("east").endpoint
    save(world, EU, US, links=(Link("eu", "us"), Link("us", "eu")))
    world.services.registries.put(
        type(endpoint)("east", endpoint.url, region="us"), document={"region": "us"}
    )

    save(world, Region("eu", "de"))

    assert world.services.links.all() == ()
    assert world.services.regions.jurisdictions() == {"eu": "de"}


def test_what_a_service_owns_is_left_alone(world: World) -> None:
    world.services.regions.put(EU, document={}, set_name="atlas")
    world.services.regions.put(US, document={})
    world.services.links.put(Link("eu", "us"), document={})

    save(world, Region("eu", "de"))
    save(world)

    assert world.services.regions.jurisdictions() == {"eu": "de", "us": "us"}
    assert world.services.regions.get("eu").set == "atlas"
    assert [link.name for link in world.services.links.all()] == ["eu:us"]


def test_command_without_a_file_touches_none(world: World) -> None:
    save(world, EU)

    save(world, of_a_file=False)

    assert world.services.regions.jurisdictions() == {"eu": "eu"}
