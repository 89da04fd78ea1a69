"""What a process knows of a registry while others change it."""

from __future__ import annotations

from service.model.endpoint import RegistryEndpoint
from tests.support.world import World


def test_a_registry_made_anew_under_its_name_is_reached_where_it_is_now(world: World) -> None:
    """Its version begins at 1 again: a process that knew the old one at 1 would have kept to that for good."""
    services = world.services
    services.registries.put(RegistryEndpoint("moved", "http://127.0.0.1:1"), document={})
    assert services.clients.endpoint("moved").url == "http://127.0.0.1:1"

    services.registries.delete("moved")
    services.registries.put(RegistryEndpoint("moved", "http://127.0.0.1:2"), document={})
    services.clients.look_anew()

    assert services.clients.endpoint("moved").url == "http://127.0.0.1:2"
