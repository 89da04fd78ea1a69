"""A far region without processes: home on one side, the region on the other, and the line between them (docs/adr/0017)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select, update

from service.bootstrap import Services
from service.errors import InvalidInput, NetworkError
from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.replication.agent import Agent
from service.store.keyring import write_new_key
from service.store.processes import AGENT
from service.store.schema import create_or_upgrade
from service.store.tables import (
    copies,
    execution_requests,
    processes,
)
from service.store.tables_regions import execution_links
from tests.integration.engine.databases import on_both_databases
from tests.support.world import Party, RecordingPublisher, World, some_bytes

pytestmark = on_both_databases

REGION = "far"


@dataclass
class Line:
    """The line to home: both ways may lose what goes over it."""

    home: Services
    lose_answers: str = ""  # to questions of this kind
    most_outcomes: int = 1000
    asked: list[str] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)

    def lease(self, wish: dict[str, Any]) -> dict[str, Any]:
        held = [(one, fence) for one, fence in wish["held"]]
        others = {name: wish[name] for name in ("slots", "host", "room")}
        known = wish.get("registries")
        found: dict[str, Any] = self._over(
            "lease",
            lambda: self.home.lending.lease(
                REGION, wish["agent"], held=held, known=known, **others
            ),
        )
        return found

    def record(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.batches.append(copy.deepcopy(batch))
        if len(batch["outcomes"]) > self.most_outcomes:
            raise InvalidInput("too much")
        answer: dict[str, Any] = self._over(
            "outcomes",
            lambda: self.home.lending.record(REGION, batch["agent"], batch["number"], batch),
        )
        return answer

    def _over(self, what: str, ask: Any) -> Any:
        self.asked.append(what)
        answer = ask()
        if self.lose_answers == what:
            raise NetworkError("the answer was lost")
        return answer


class FarRegion:
    """A region with a database of its own, whose tasks are carried out when a test says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        folder = world.folder / "far"
        folder.mkdir()
        write_new_key(folder / "keys")
        settings = replace(
            world.settings,
            region=REGION,
            database_url=f"sqlite:///{folder}/region.db",
            redis_url=world.redis.url.replace("db=0", "db=1"),
            secret_key_file=str(folder / "keys"),
            agent_dir=str(folder),
        )
        self.services = world.open(settings)
        self.steady = 600.0
        vars(self.services)["clock"] = lambda: self.steady
        create_or_upgrade(self.services.database)
        self.party = Party(self.services, RecordingPublisher())
        self.line = Line(world.services)
        self.slots = 4
        self.now = 0.0
        self.leads = True
        self.examined: list[str] = []
        self.agent = self.restarted()

    def restarted(self) -> Agent:
        """An agent that knows what the database knows."""
        return Agent(
            self.services.borrowing,
            self.line,
            lambda: self.slots,
            lambda: self.leads,
            examine=self.examined.append,
            tags_per_task=2,
            clock=lambda: self.now,
        )

    def step(self) -> None:
        """A step of the agent for which everything is due."""
        self.now += 1000.0
        self.agent.step()

    def pass_by(self, seconds: float) -> None:
        """A step of the agent so much later."""
        self.now += seconds
        self.agent.step()

    def work(self) -> int:
        """Carry out what there is; how many copies that were."""
        store = self.services.dispatching
        refs = store.dispatch(store.eligible(REGION, 1000))
        for ref in refs:
            self.party.replicate(ref)
        return len(refs)

    def run_to_end(self, execution: str) -> None:
        for _ in range(50):
            self.step()
            self.work()
            if all(state.ended for state in self.world.states(execution)):
                return
        raise AssertionError(self.world.states(execution))


def far_region_of(world: World) -> FarRegion:
    """A far region in whose hands the world's destination is."""
    services = world.services
    services.regions.put(Region(REGION), document={"name": REGION})
    west = services.registries.get("west").endpoint
    services.registries.put(replace(west, region=REGION), document={})
    services.registries.put(RegistryEndpoint("other", "https://other.example"), document={})
    return FarRegion(world)


def fleet(world: World, count: int) -> str:
    for number in range(count):
        world.push("team/app", f"v{number}", [some_bytes(f"layer {number}", 2000)])
    return world.plan("team/app")


def sums(world: World, execution: str) -> tuple[int, int, int]:
    """Requests, bytes by ways and bytes by copies, as home has them."""
    queries = (
        select(execution_requests.c.requests).where(execution_requests.c.execution_id == execution),
        select(execution_links.c.bytes).where(execution_links.c.execution_id == execution),
        select(copies.c.bytes_copied).where(copies.c.execution_id == execution),
    )
    with world.services.database.read() as connection:
        found = [sum(connection.execute(query).scalars()) for query in queries]
    return found[0], found[1], found[2]


def owners(world: World, execution: str) -> set[str]:
    with world.services.database.read() as connection:
        query = select(copies.c.owner).where(copies.c.execution_id == execution)
        return set(connection.execute(query).scalars())


def silent(world: World) -> None:
    """Have the agent not been heard of for long."""
    world.services.database.write(
        lambda c: c.execute(update(processes).where(processes.c.kind == AGENT).values(seen_at=0))
    )
    world.services.dispatching.recover_dead(max_crashes=3)


def rule_of(services: Services, execution: str) -> Any:
    return services.dispatching.specs([execution])[execution]
