"""Health of a registry in another region than the scheduler's: its workers ask, and it is held back and let go."""

from __future__ import annotations

from api.samples.faults import FOREVER
from service.model.endpoint import RegistryEndpoint
from service.model.health import Health
from tests.support.processes import wait_until
from tests.support.world import World, a_rule


def test_workers_of_its_region_ask_a_registry_whether_it_is_well(world: World) -> None:
    services = world.services
    services.registries.put(RegistryEndpoint("west", world.west.url, region="eu"), document={})
    services.rules.put(a_rule("team/app"), document={})

    def health() -> Health | None:
        return services.registries.get("west").health

    often = {"TRANSSHIP_HEALTH_CHECK_SECONDS": "3", "TRANSSHIP_REGION": "us"}
    worker = world.process("worker-eu", "-m", "workers.main", "worker", "--region", "eu")
    scheduler = world.process("scheduler", "-m", "workers.main", "scheduler", **often)
    with worker, scheduler:
        wait_until(lambda: health() is not None, 40, "the first check")
        assert services.registries.get("east").health is None, "nobody works in its region"
        world.west.fault("", status=503, times=FOREVER)
        wait_until(lambda: (one := health()) is not None and one.holds, 40, "it to be held back")
        world.west.faults.clear()
        wait_until(lambda: (one := health()) is not None and not one.holds, 40, "its release")

    agents = {line.headers.get("user-agent") for line in list(world.west.log)}
    assert agents == {"transship/0.1"}
