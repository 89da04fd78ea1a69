"""What a process knows of a registry while others change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from service.errors import InvalidConfiguration
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.registry.breaker import Breaker
from service.replication.clients import Clients
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


def test_a_client_that_is_replaced_keeps_no_connection_and_can_still_be_used(world: World) -> None:
    services = world.services
    old = services.clients.get("west")
    old.ping()
    assert any(old.http.pool._idle.values())
    services.registries.put(old.endpoint, document={"note": "changed"})
    services.clients.look_anew()

    assert services.clients.get("west") is not old
    assert not any(old.http.pool._idle.values())
    old.ping()
    assert not any(old.http.pool._idle.values()), "what was under way is closed at its end"


@dataclass
class Remembered:
    """A reputation that a test reads."""

    accepts: set[str] = field(default_factory=set)

    def accepted(self, registry: str, *, push: bool) -> None:
        """See service.registry.breaker.Reputation."""
        self.accepts.add(registry)

    def was_accepted(self, registry: str, *, push: bool) -> bool:
        """See service.registry.breaker.Reputation."""
        return registry in self.accepts


def test_a_reputation_is_that_of_an_address_and_its_credentials(world: World) -> None:
    services, reputation = world.services, Remembered()
    spec = CredentialSpec("crew", password_env="PATH")
    first = RegistryEndpoint("west", world.west.url, credentials=spec)
    others = (
        RegistryEndpoint("west", "http://127.0.0.1:1", credentials=spec),
        RegistryEndpoint(
            "west", world.west.url, credentials=CredentialSpec("x", docker_config=True)
        ),
    )

    def breaker_of(endpoint: RegistryEndpoint) -> Breaker:
        services.registries.put(endpoint, document={})
        clients = Clients(
            services.registries, world.settings, services.meter, reputation=reputation
        )
        return clients.get("west").http.breaker

    breaker_of(first).accepted(push=False)
    assert breaker_of(first).was_accepted(push=False)
    for other in others:
        assert not breaker_of(other).was_accepted(push=False)


def test_a_directory_is_no_registry_where_the_process_may_not_use_it(
    world: World, tmp_path: Path
) -> None:
    services = world.services
    (tmp_path / "layouts").mkdir()
    inside, outside = tmp_path / "layouts/disk", tmp_path / "disk"
    outcomes = {}
    for path in (inside, outside):
        services.registries.put(RegistryEndpoint("disk", f"oci:{path}"), document={})
        for folder in ("", str(tmp_path / "layouts"), "/"):
            settings = replace(world.settings, layouts_dir=folder)
            clients = Clients(services.registries, settings, services.meter)
            try:
                client = clients.get("disk")
            except InvalidConfiguration as error:
                outcomes[path.parent.name, folder] = error.hint
            else:
                assert client.endpoint.layout == str(path)
                outcomes[path.parent.name, folder] = ""
            clients.close()

    told = "set TRANSSHIP_LAYOUTS_DIR where the API and its workers run"
    assert list(outcomes.values()) == [told, "", "", told, "move it there", ""]
