"""Health of registries: one that is not well holds its copies back, and they go on by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event, Thread

import pytest
from sqlalchemy import update

from api import render
from api.cli.notes import held
from api.samples.auth import BasicAuth
from api.samples.faults import FOREVER
from api.samples.registry import SampleRegistry
from service.errors import RegistryPaused, StoreUnavailable
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.health import HEALTHY, UNHEALTHY, Health, Look
from service.model.rule import Destination
from service.model.states import CopyState, ExecutionState
from service.model.work import ProcessReport
from service.replication.clients import Clients
from service.replication.health import LISTINGS, SOONER, HealthKeeper
from service.settings import Settings
from service.store.health import FAILED_LOOKS, HealthStore
from service.store.registries import RegistryStore, StoredRegistry
from service.store.tables_health import registry_health
from tests.support.processes import wait_until
from tests.support.world import RecordingPublisher, World, a_rule, some_bytes

ON_BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keeper_of(
    world: World,
    every_seconds: float = 180.0,
    clock: Clock | None = None,
    clients: Clients | None = None,
    slots: Callable[[], Mapping[str, int]] | None = None,
) -> HealthKeeper:
    services = world.services
    store = HealthStore(services.database)
    settings = replace(
        world.settings, health_check_seconds=every_seconds, rotation_patience_seconds=600.0
    )
    slots = slots or services.dispatching.slots
    return HealthKeeper(store, clients or services.clients, settings, slots, clock=clock or Clock())


def health_of(world: World, registry: str) -> Health:
    found = world.services.registries.get(registry).health
    assert found is not None, f"{registry} was never checked"
    return found


def pass_time(world: World, seconds: float) -> None:
    """Have all that is known of registries' health be older by so many seconds."""
    older = update(registry_health).values(
        since=registry_health.c.since - seconds, checked_at=registry_health.c.checked_at - seconds
    )
    world.services.database.write(lambda connection: connection.execute(older) and None)


def look(world: World, keeper: HealthKeeper, registry: str, times: int = FAILED_LOOKS) -> None:
    """Have a registry checked so often, a minute between."""
    for _ in range(times):
        pass_time(world, 60.0)
        keeper.check([registry])


def pings(registry: SampleRegistry) -> int:
    return sum(1 for line in list(registry.log) if line.path == "/v2/")


def fail(world: World, keeper: HealthKeeper) -> None:
    """Have west be well, and then fail until its copies are held back."""
    keeper.check(["west"])
    world.west.fault("", status=503, times=FOREVER)
    look(world, keeper, "west")


@ON_BOTH
def test_an_unhealthy_registry_holds_its_copies_back_and_one_good_look_releases_them(
    world: World,
) -> None:
    image = world.push("team/app", "v1", [some_bytes("app", 100)])
    services, keeper = world.services, keeper_of(world)
    services.rules.put(a_rule("team/app"), document={})
    execution = world.plan("team/app")
    assert world.dispatch(), "sent, and not begun"
    fail(world, keeper)
    world.west.log.clear()

    assert health_of(world, "west").state == "unhealthy"
    assert "503" in health_of(world, "west").reason
    assert world.dispatch() == [], "neither the sent ones nor those that wait"
    party = world.party()
    with pytest.raises(RegistryPaused, match=r"held back until it is well again.*503"):
        party.services.clients.get("west")
    assert list(world.west.log) == []
    record = services.executions.get(execution)
    assert record.state is ExecutionState.RUNNING
    shown = render.execution(record, services.standing.holds([record])[execution])
    assert "503" in shown["held_by"][0]["reason"]
    assert "goes on by itself" in held(shown)[0]

    world.west.faults.clear()
    keeper.check(["west"])

    assert health_of(world, "west") == replace(
        health_of(world, "west"), state="healthy", reason="", holds=False
    )
    party.services.clients.look_anew()
    world.run_to_end(execution, party)
    assert world.is_whole(image)
    assert world.tag_at_west("team/app", "v1") == image.digest


def test_planning_waits_for_an_unhealthy_source_and_does_not_fail(world: World) -> None:
    world.push("team/app", "v1", [some_bytes("app", 100)])
    services, keeper = world.services, keeper_of(world)
    rule = a_rule("team/app")
    services.rules.put(rule, document={})
    keeper.check(["east"])
    world.east.fault("", status=503, times=FOREVER)
    look(world, keeper, "east")
    services.clients.look_anew()
    execution = services.executions.create(rule, trigger="test").id

    services.planner.plan(execution, services.boot)

    record = services.executions.get(execution)
    assert not record.state.ended
    assert "held back" in record.reason
    assert services.plans.attempts(execution) == 0, "a wait is no attempt"


def test_other_destinations_go_on_while_one_is_held_back(world: World) -> None:
    image = world.push("team/app", "v1", [some_bytes("app", 100)])
    services, keeper = world.services, keeper_of(world)
    fail(world, keeper)
    services.clients.look_anew()
    with SampleRegistry() as north:
        services.registries.put(RegistryEndpoint("north", north.url), document={})
        both = (Destination(registry="west"), Destination(registry="north"))
        rule = replace(a_rule("team/app"), destinations=both)
        services.rules.put(rule, document={})
        execution = services.executions.create(rule, trigger="test").id
        services.planner.plan(execution, services.boot)
        party = world.party()
        for ref in world.dispatch():
            party.replicate(ref)

        found = north.storage.manifest("team/app", "v1")
        assert found is not None
        assert found.digest == image.digest
        states = {copy.destination_registry: copy.state for copy in world.copies(execution)}
        assert (states["north"], states["west"].ended) == (CopyState.COPIED, False)


def test_a_rotated_password_holds_back_until_the_new_one_is_here(world: World) -> None:
    word = world.folder / "word"
    word.write_text("old")
    auth = BasicAuth({"crew": "old"})
    with SampleRegistry(auth=auth) as guarded:
        spec = CredentialSpec("crew", password_file=str(word))
        world.services.registries.put(
            RegistryEndpoint("guarded", guarded.url, credentials=spec), document={}
        )
        keeper = keeper_of(world)
        keeper.check(["guarded"])
        auth.users = {"crew": "new"}
        look(world, keeper, "guarded")
        assert (health_of(world, "guarded").state, health_of(world, "guarded").holds) == (
            "unhealthy",
            True,
        )
        word.write_text("new")
        keeper.check(["guarded"])
        assert health_of(world, "guarded").state == "healthy"
        assert not health_of(world, "guarded").holds


def test_a_registry_that_shows_nothing_to_nobody_is_well(world: World) -> None:
    """What is public may be read where GET /v2/ asks for credentials, as at ghcr.io."""
    with SampleRegistry(auth=BasicAuth({"crew": "right"})) as guarded:
        world.services.registries.put(RegistryEndpoint("guarded", guarded.url), document={})
        keeper_of(world).check(["guarded"])
    assert health_of(world, "guarded").state == "healthy"


def test_one_failed_look_holds_nothing_back(world: World) -> None:
    keeper = keeper_of(world)
    keeper.check(["west"])
    world.west.fault("", status=503, times=FOREVER)
    keeper.check(["west"])
    assert (health_of(world, "west").state, health_of(world, "west").holds) == ("unhealthy", False)
    assert world.services.registries.get("west").paused_at is None
    world.west.faults.clear()
    keeper.check(["west"])
    world.west.fault("", status=503, times=FOREVER)
    keeper.check(["west"])
    assert not health_of(world, "west").holds, "in a row is what counts"


def test_a_registry_that_was_never_well_is_told_of_and_held_back_by_nobody(world: World) -> None:
    """Its address may be wrong, or out of the scheduler's reach: what meets it is to fail."""
    keeper = keeper_of(world)
    world.west.fault("", status=503, times=FOREVER)
    look(world, keeper, "west", FAILED_LOOKS + 2)
    assert (health_of(world, "west").state, health_of(world, "west").holds) == ("unhealthy", False)


def test_wrong_credentials_are_told_and_fail_what_met_them(world: World) -> None:
    with SampleRegistry(auth=BasicAuth({"crew": "right"})) as guarded:
        spec = CredentialSpec("crew", password_env="PATH")
        world.services.registries.put(
            RegistryEndpoint("guarded", guarded.url, credentials=spec), document={}
        )
        keeper = keeper_of(world)
        look(world, keeper, "guarded", FAILED_LOOKS + 1)

    assert (health_of(world, "guarded").state, health_of(world, "guarded").holds) == (
        "refused",
        False,
    )
    assert world.services.clients.get("guarded").name == "guarded"


@ON_BOTH
def test_the_pause_of_a_person_is_not_ended_by_health(world: World) -> None:
    services, keeper = world.services, keeper_of(world)
    fail(world, keeper)
    assert health_of(world, "west").holds
    services.pauses.pause_registry("west")
    world.west.faults.clear()
    keeper.check(["west"])
    assert health_of(world, "west").state == "healthy"
    assert services.registries.get("west").paused_at is not None

    services.pauses.resume_registry("west")
    assert services.registries.get("west").paused_at is None


def test_a_hold_that_a_person_ends_comes_back_with_the_next_bad_look(world: World) -> None:
    services, keeper = world.services, keeper_of(world)
    fail(world, keeper)
    services.pauses.resume_registry("west")
    assert not health_of(world, "west").holds
    keeper.check(["west"])
    assert health_of(world, "west").holds
    assert services.registries.get("west").paused_at is not None


def test_only_registries_of_active_rules_are_asked_and_failing_ones_sooner(world: World) -> None:
    services, clock = world.services, Clock()
    keeper = keeper_of(world, every_seconds=60.0, clock=clock)
    keeper.step()
    assert (pings(world.east), pings(world.west)) == (0, 0), "no rule uses them"

    rule = a_rule("team/app")
    services.rules.put(rule, document={})
    clock.now += 60 / LISTINGS
    keeper.step()
    clock.now += 59
    keeper.step()
    assert (pings(world.east), pings(world.west)) == (1, 1)
    clock.now += 60 / LISTINGS
    world.west.fault("/v2/", status=401, times=1)
    keeper.step()
    assert health_of(world, "west").state == "refused"
    clock.now += 60 / SOONER
    keeper.step()
    assert health_of(world, "west").state == "healthy"
    assert pings(world.east) == 2, "a registry that is well is not asked sooner"

    services.pauses.pause_rule(rule.name)
    clock.now += 600
    before = pings(world.east)
    keeper.step()
    assert pings(world.east) == before


def test_registries_of_another_region_are_asked_by_its_workers(world: World) -> None:
    services, clock = world.services, Clock()
    keeper = keeper_of(world, every_seconds=60.0, clock=clock)
    publisher = RecordingPublisher()
    keeper.share(publisher.check)
    services.registries.put(RegistryEndpoint("west", world.west.url, region="eu"), document={})
    services.rules.put(a_rule("team/app"), document={})
    keeper.step()
    assert publisher.checks == [], "nobody is there, and nobody copies"
    services.state.heartbeat(ProcessReport("w", "worker", "eu", 4, "host", 1))
    for _ in range(2):
        clock.now += 60 / LISTINGS
        keeper.step()
    assert publisher.checks == [("eu", ("west",))]
    assert (pings(world.east), pings(world.west)) == (1, 0)
    clock.now += 60
    keeper.step()
    assert len(publisher.checks) == 2


def test_a_held_registry_is_asked_even_when_its_rules_rest(world: World) -> None:
    services, clock = world.services, Clock()
    keeper = keeper_of(world, every_seconds=60.0, clock=clock)
    services.rules.put(a_rule("team/app"), document={})
    fail(world, keeper)
    services.pauses.pause_rule("fleet")
    world.west.faults.clear()
    clock.now += 60 / SOONER
    keeper.step()
    assert not health_of(world, "west").holds


@ON_BOTH
def test_nothing_stays_held_back_where_checks_are_switched_off(world: World) -> None:
    fail(world, keeper_of(world))
    world.services.pauses.pause_registry("east")

    keeper_of(world, every_seconds=0.0).step()

    assert world.services.registries.get("west").paused_at is None
    assert not health_of(world, "west").holds
    assert world.services.registries.get("east").paused_at is not None, "a person's pause"


def test_a_throttling_registry_is_well_and_no_check_is_made_with_a_period_of_0(
    world: World,
) -> None:
    world.services.rules.put(a_rule("team/app"), document={})
    keeper_of(world, every_seconds=0.0).step()
    assert pings(world.west) == 0
    world.west.fault("/v2/", status=429, headers={"Retry-After": "60"}, times=FOREVER)
    look(world, keeper_of(world), "west")
    assert health_of(world, "west").state == "healthy"


@ON_BOTH
def test_a_hold_outlasts_one_refusal_and_an_outage_that_goes_on_after_two_holds_again(
    world: World,
) -> None:
    """What answers 404 for a while may be the proxy of a registry that is being started."""
    keeper = keeper_of(world)
    fail(world, keeper)
    world.west.faults.clear()
    world.west.fault("", status=404, times=FOREVER)
    look(world, keeper, "west", 1)
    assert (health_of(world, "west").state, health_of(world, "west").holds) == ("refused", True)
    look(world, keeper, "west", 1)
    assert not health_of(world, "west").holds
    assert world.services.registries.get("west").paused_at is None

    world.west.faults.clear()
    world.west.fault("", status=503, times=FOREVER)
    look(world, keeper, "west", 1)
    assert not health_of(world, "west").holds
    look(world, keeper, "west", 1)
    assert health_of(world, "west").holds, "it was well before all this"


def test_looks_at_the_same_moment_count_once(world: World) -> None:
    keeper = keeper_of(world)
    keeper.check(["west"])
    world.west.fault("", status=503, times=FOREVER)
    for _ in range(FAILED_LOOKS + 1):
        keeper.check(["west"])
    assert not health_of(world, "west").holds
    look(world, keeper, "west", 1)
    assert health_of(world, "west").holds


class Unsure(HealthStore):
    """A store that does not answer at first."""

    def __init__(self, world: World) -> None:
        super().__init__(world.services.database)
        self.away = True

    def let_all_go(self) -> None:
        away, self.away = self.away, False
        if away:
            raise StoreUnavailable("gone for a moment")
        super().let_all_go()


def test_what_is_held_is_let_go_once_the_store_answers(world: World) -> None:
    fail(world, keeper_of(world))
    services = world.services
    settings = replace(world.settings, health_check_seconds=0.0)
    keeper = HealthKeeper(Unsure(world), services.clients, settings, services.dispatching.slots)
    with pytest.raises(StoreUnavailable):
        keeper.step()
    keeper.step()
    assert not health_of(world, "west").holds


class Away(RegistryStore):
    """A store of registries that does not answer."""

    def get(self, name: str) -> StoredRegistry:
        raise StoreUnavailable(f"nothing is known of {name}")


def test_a_store_that_is_away_says_nothing_of_a_registry(world: World) -> None:
    keeper = keeper_of(world)
    fail(world, keeper)
    before = health_of(world, "west")
    away = Clients(Away(world.services.database, None), world.settings, world.services.meter)
    for _ in range(FAILED_LOOKS):
        keeper_of(world, clients=away).check(["west"])
    assert health_of(world, "west") == before


def test_our_own_limits_are_no_look_and_a_registry_that_asks_for_patience_is_not_well(
    world: World,
) -> None:
    keeper = keeper_of(world)
    keeper.check(["west"])
    world.west.fault("", status=503, headers={"Retry-After": "60"}, times=FOREVER)
    look(world, keeper, "west", 1)
    assert health_of(world, "west").state == "unhealthy"
    sent, before = pings(world.west), health_of(world, "west").checked_at
    keeper.check(["west"])
    assert pings(world.west) == sent, "the limiter keeps what the registry asked for"
    assert (health_of(world, "west").state, health_of(world, "west").checked_at) == (
        "unhealthy",
        before,
    )


@ON_BOTH
def test_what_nobody_checks_any_more_is_let_go(world: World) -> None:
    services, clock = world.services, Clock()
    alive = {"eu": 4}
    keeper = keeper_of(world, every_seconds=60.0, clock=clock, slots=lambda: alive)
    keeper.share(RecordingPublisher().check)
    services.registries.put(RegistryEndpoint("west", world.west.url, region="eu"), document={})
    fail(world, keeper)
    services.pauses.pause_registry("east")
    keeper.step()
    assert health_of(world, "west").holds, "its worker asks it"

    alive.clear()
    clock.now += 60 / LISTINGS
    keeper.step()
    assert not health_of(world, "west").holds
    assert services.registries.get("west").paused_at is None
    assert services.registries.get("east").paused_at is not None, "a person's pause"


def test_what_became_a_far_regions_is_let_go(world: World) -> None:
    services = world.services
    keeper = keeper_of(world, every_seconds=60.0)
    services.registries.put(RegistryEndpoint("west", world.west.url, region="eu"), document={})
    fail(world, keeper)
    services.tokens.create("there", "agent", region="eu")
    keeper.step()
    assert not health_of(world, "west").holds


def test_a_region_is_asked_for_one_thing_at_a_time(world: World) -> None:
    services, clock = world.services, Clock()
    keeper = keeper_of(world, every_seconds=60.0, clock=clock)
    publisher = RecordingPublisher()
    keeper.share(publisher.check)
    for name, sample in (("east", world.east), ("west", world.west)):
        services.registries.put(RegistryEndpoint(name, sample.url, region="eu"), document={})
    services.state.heartbeat(ProcessReport("w", "worker", "eu", 4, "host", 1))
    rule = a_rule("team/app")
    services.pauses.pause_registry("east")
    services.rules.put(rule, document={})
    keeper.step()
    services.pauses.resume_registry("east")
    clock.now += 60 / LISTINGS
    keeper.step()
    assert publisher.checks == [("eu", ("west",))], "west hangs: east waits for its worker"
    keeper.check(["west"])
    clock.now += 60 / LISTINGS
    keeper.step()
    assert publisher.checks == [("eu", ("west",)), ("eu", ("east",))]


@ON_BOTH
def test_another_address_or_other_credentials_have_no_past(world: World) -> None:
    services, keeper = world.services, keeper_of(world)
    fail(world, keeper)
    services.registries.put(
        services.registries.get("west").endpoint, document={"note": "only this has changed"}
    )
    assert health_of(world, "west").holds

    services.registries.put(
        RegistryEndpoint(
            "west", world.west.url, credentials=CredentialSpec("crew", password_env="PATH")
        ),
        document={},
    )
    assert services.registries.get("west").health is None
    assert services.registries.get("west").paused_at is None
    look(world, keeper, "west")
    assert not health_of(world, "west").holds, "it was never well as it is now"


def test_a_look_at_what_a_registry_was_says_nothing_of_what_it_is(world: World) -> None:
    store = HealthStore(world.services.database)
    stored = world.services.registries.get("west")
    saved = (stored.created_at, stored.version)
    world.services.registries.put(RegistryEndpoint("west", "http://127.0.0.1:1"), document={})
    assert store.note(Look("west", HEALTHY, saved=saved)) == (None, None)
    assert world.services.registries.get("west").health is None


def test_a_revoked_password_is_waited_for_as_long_as_a_rotated_one_and_then_refused(
    world: World,
) -> None:
    word = world.folder / "word"
    word.write_text("old")
    auth = BasicAuth({"crew": "old"})
    with SampleRegistry(auth=auth) as guarded:
        spec = CredentialSpec("crew", password_file=str(word))
        world.services.registries.put(
            RegistryEndpoint("guarded", guarded.url, credentials=spec), document={}
        )
        keeper = keeper_of(world)
        keeper.check(["guarded"])
        auth.users = {}
        look(world, keeper, "guarded")
        assert health_of(world, "guarded").holds
        pass_time(world, 600.0)
        look(world, keeper, "guarded")
    assert (health_of(world, "guarded").state, health_of(world, "guarded").holds) == (
        "refused",
        False,
    )


def test_one_look_is_one_request_that_waits_little(world: World) -> None:
    keeper = keeper_of(world)
    keeper.check(["west"])
    world.west.log.clear()
    world.west.fault("", status=503, times=FOREVER)
    keeper.check(["west"])
    assert pings(world.west) == 1
    client, _ = world.services.clients.checker("west")
    two_looks = 2 * (client.timeouts.connect_seconds + client.timeouts.head_seconds)
    usual = Settings(database_url="sqlite://")
    periods = usual.health_check_seconds * (1 + 1 / SOONER)
    assert two_looks + periods < usual.outage_patience_seconds, "before copies fail"


def test_what_a_registry_says_is_kept_while_another_one_hangs(world: World) -> None:
    keeper, released = keeper_of(world), Event()
    world.east.fault("/v2/", hold=released)
    asking = Thread(target=keeper.check, args=(["east", "west"],))
    asking.start()
    try:
        wait_until(lambda: world.services.registries.get("west").health, what="west to be noted")
        assert world.services.registries.get("east").health is None
    finally:
        released.set()
        asking.join()
    assert health_of(world, "east").state == "healthy"


def test_what_runs_goes_on_when_its_registry_is_held_back(world: World) -> None:
    services = world.services
    fail(world, keeper_of(world))
    services.clients.look_anew()
    assert not services.clients.paused("west")
    services.pauses.pause_registry("west")
    services.clients.look_anew()
    assert services.clients.paused("west"), "what a person pauses is broken off"


def test_a_forgotten_registry_leaves_no_health(world: World) -> None:
    keeper_of(world).check(["west"])
    world.services.registries.delete("west")
    keeper_of(world).check(["west"])
    world.services.registries.put(RegistryEndpoint("west", world.west.url), document={})
    assert world.services.registries.get("west").health is None


def test_looks_in_quick_succession_count_in_the_end(world: World) -> None:
    """Who asks often and who judges may have different periods: looks that never lie apart are looks all the same."""
    store = HealthStore(world.services.database)
    store.note(Look("west", HEALTHY), apart_seconds=1.5)

    def holds() -> bool:
        _, now = store.note(Look("west", UNHEALTHY, "it fails"), apart_seconds=1.5)
        assert now is not None
        return now.holds

    assert not holds()
    assert not holds(), "these two are one"
    wait_until(holds, 20, "it to be held back")
