"""What home takes back, and what its registries are now, as a far region hears it (docs/adr/0017)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.model.endpoint import CredentialSpec
from service.model.project import Grant, Project
from service.model.release import FLIP, ReleaseTag
from service.model.states import CopyState
from service.settings import Settings
from service.store.clock import now_epoch
from service.store.keyring import write_new_key
from service.store.recalls import WATCH_SECONDS
from service.store.schema import create_or_upgrade
from service.store.tables import executions, processes, rules
from service.store.tables_releases import release_parts, releases
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.lent import REGION, FarRegion, Line, fleet, rule_of, silent
from tests.support.world import World
from workers.far_region import outlying

A_WATCH = WATCH_SECONDS + 0.05


def a_release_takes_it(world: World, execution: str) -> None:
    services = world.services
    rule = rule_of(services, execution)
    services.releases.create("spring", rule, (), region="local")
    (part,) = services.release_work.to_send()
    tag = ReleaseTag(0, "team/app", "west", REGION, "mirror/team/app", "v0", "sha256:" + "0" * 64)
    assert services.release_work.resolved(part, (), (tag,), rule)


def its_grant_is_taken_back(world: World, _execution: str) -> None:
    project = Project("default", (Grant("east", ("**",)),), (Grant("west", ("other/**",)),))
    world.services.projects.put(project, document={"name": "default"})


def its_rule_is_paused(world: World, execution: str) -> None:
    services = world.services
    services.rules.put(rule_of(services, execution), document={})
    services.database.write(lambda c: c.execute(update(rules).values(paused_at=1.0)))


def it_is_stopped(world: World, execution: str) -> None:
    world.services.executions.request_stop(execution)


@on_both_databases
@pytest.mark.parametrize(
    ("take_back", "state"),
    [
        (a_release_takes_it, CopyState.PENDING),
        (its_grant_is_taken_back, CopyState.FAILED),
        (its_rule_is_paused, CopyState.RUNNING),
        (it_is_stopped, CopyState.STOPPED),
    ],
)
def test_no_tag_moves_when_the_region_has_heard(
    world: World, far: FarRegion, take_back: Any, state: CopyState
) -> None:
    execution = fleet(world, 1)
    far.step()
    far.slots = 0  # no room: it asks for nothing else
    heard: list[CopyState] = []

    def meanwhile(_request: object) -> None:
        take_back(world, execution)
        heard.extend(world.states(execution))
        far.pass_by(A_WATCH)

    world.west.fault("/v2/mirror/team/app/blobs/uploads", before=meanwhile, times=1)

    assert far.work() == 1

    assert heard == [state]
    assert world.tag_puts("team/app", "v0") == 0
    assert far.line.asked[:2] == ["lease"] * 2


def test_an_account_is_answered_with_it(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    far.step()
    store = far.services.dispatching
    first, second = store.dispatch(store.eligible(REGION, 10))
    far.services.state.begin([second], far.party.engine.boot)
    far.slots = 0
    far.party.replicate(first)
    its_rule_is_paused(world, execution)
    assert far.services.state.holds(second)

    far.pass_by(0.6)

    assert far.line.asked[:2] == ["lease", "outcomes"]
    assert not far.services.state.holds(second)
    assert [one["copy"] for one in far.line.batches[0]["outcomes"]] == [first.id]


def test_it_asks_often_only_while_it_has_copies(world: World, far: FarRegion) -> None:
    fleet(world, 1)
    far.step()
    far.slots = 0
    before = len(far.line.asked)

    for _ in range(100):
        far.pass_by(0.2)

    most = 20 / WATCH_SECONDS + 1
    assert most / 1.4 < len(far.line.asked) - before <= most
    silent(world)
    far.pass_by(A_WATCH)
    far.pass_by(A_WATCH)
    assert far.services.borrowing.held() == []
    before = len(far.line.asked)
    for _ in range(60):
        far.pass_by(0.5)
    assert len(far.line.asked) - before <= 4, "renewals"


class EarlierHome(Line):
    """An API that takes no field that it does not know, and says nothing of how often to ask."""

    def lease(self, wish: dict[str, Any]) -> dict[str, Any]:
        assert "registries" not in wish
        page = super().lease(wish)
        del page["watch_seconds"], page["takes_attempts"]
        return page

    def record(self, batch: dict[str, Any]) -> dict[str, Any]:
        assert not batch.keys() & {"held", "registries"}
        assert not any("attempts" in one for one in batch["outcomes"])
        return {"number": super().record(batch)["number"]}


def test_a_home_of_an_earlier_release_is_asked_as_before(world: World, far: FarRegion) -> None:
    far.line = EarlierHome(world.services)
    far.agent = far.restarted()
    execution = fleet(world, 3)

    far.run_to_end(execution)

    assert world.states(execution) == [CopyState.COPIED] * 3


def since(world: World, table: Any, column: str, seconds: float) -> None:
    """Have something been so long ago."""
    world.services.database.write(
        lambda c: c.execute(update(table).values({column: now_epoch() - seconds}))
    )


@on_both_databases
def test_no_flip_begins_before_the_region_has_heard_whose_the_tags_are(
    world: World, far: FarRegion
) -> None:
    execution = fleet(world, 1)
    far.step()
    a_release_takes_it(world, execution)
    services = world.services
    services.database.write(lambda c: c.execute(update(releases).values(state="staged")))
    services.releases.act("spring", FLIP, region="local")
    since(world, executions, "created_at", 10)
    since(world, processes, "seen_at", 11)

    assert services.release_work.to_send() == []
    since(world, processes, "seen_at", 8)
    assert services.release_work.to_send() == [], "its question may have been on its way then"

    far.pass_by(A_WATCH)
    (part,) = services.release_work.to_send()
    assert (part.release, part.region) == ("spring", REGION)
    since(world, release_parts, "sent_at", 10)
    since(world, processes, "seen_at", 1000)
    assert services.release_work.to_send() == [part], "a region that fell silent moves no tag"


# ---- registries --------------------------------------------------------------------------------


def with_password(world: World, secret: str | None, named: str | None = None) -> None:
    registries = world.services.registries
    west = registries.get("west").endpoint
    spec = CredentialSpec("robot", stored=secret is not None, secret=named)
    registries.put(replace(west, credentials=spec), document={}, secret=secret)


@pytest.fixture
def sealed(world: World) -> World:
    write_new_key(world.folder / "home.key")
    world.settings = replace(world.settings, secret_key_file=str(world.folder / "home.key"))
    world.services = world.open(world.settings)
    return world


def test_a_changed_password_comes_with_the_next_answer(sealed: World, far: FarRegion) -> None:
    with_password(sealed, "old")
    fleet(sealed, 2)
    far.step()
    there = far.services.registries
    assert there.secret("west") == "old"
    version = there.get("west").version
    far.slots = 0
    far.pass_by(A_WATCH)
    far.slots = 4
    far.step()
    assert there.get("west").version == version, "what has not changed is not told again"
    far.slots = 0

    with_password(sealed, "new")
    far.pass_by(A_WATCH)

    assert there.secret("west") == "new"
    assert "other" not in far.services.borrowing.known_registries()


def test_a_named_secret_that_was_set_anew_or_bound_elsewhere(sealed: World, far: FarRegion) -> None:
    secrets = sealed.services.secrets
    host = sealed.services.registries.get("west").endpoint.host
    secrets.put("robot", "old", [host])
    with_password(sealed, None, "robot")
    execution = fleet(sealed, 1)
    far.step()
    far.slots = 0
    assert far.services.registries.secret("west") == "old"

    secrets.put("robot", "new", [host])
    far.pass_by(A_WATCH)
    assert far.services.registries.secret("west") == "new"

    secrets.put("robot", "newer", ["elsewhere.example"])
    far.pass_by(A_WATCH)
    far.step()
    far.slots = 4
    far.step()
    assert sealed.states(execution) == [CopyState.FAILED]
    assert "not bound to" in sealed.copies(execution)[0].reason


def test_an_agent_is_told_of_no_registry_that_its_copies_do_not_need(
    world: World, far: FarRegion
) -> None:
    fleet(world, 1)
    far.step()
    known = {"other": "", "west": "", "east": "", "nowhere": ""}
    wish: dict[str, Any] = {"slots": 1, "host": "h", "room": 0}
    held = far.services.borrowing.held()

    page = world.services.lending.lease(
        REGION, far.services.borrowing.identity(), held=held, known=known, **wish
    )

    assert sorted(one["endpoint"]["name"] for one in page["registries"]) == ["east", "west"]


# ---- the clock that a lease is measured by -----------------------------------------------------


def test_a_lease_lasts_as_long_as_home_says_by_a_clock_that_nobody_sets(
    world: World, far: FarRegion
) -> None:
    """The region's clock is not home's, nor its machine's calendar: it stands where it began, at 600."""
    fleet(world, 1)
    far.step()
    store = far.services.dispatching
    (ref,) = store.dispatch(store.eligible(REGION, 10))
    far.services.state.begin([ref], far.party.engine.boot)
    seconds = world.services.settings.agent_dead_after_seconds * 5 / 6

    far.steady += seconds - 0.5
    assert far.services.state.holds(ref)
    assert far.services.borrowing.is_leased()
    far.steady += 1.0
    assert not far.services.state.holds(ref)
    assert not far.services.borrowing.is_leased()


def test_a_lease_of_a_clock_that_counts_from_elsewhere_is_none(
    world: World, far: FarRegion
) -> None:
    far.services.borrowing.identity()
    far.services.borrowing.renew(60.0)
    far.steady -= 600_000.0  # as after a boot, or a lease that an earlier release wrote

    assert not far.services.borrowing.is_leased()


def test_a_lease_does_not_outlive_the_machine(tmp_path: Path) -> None:
    from service.bootstrap import Services

    settings = Settings.from_env(
        {},
        agent_dir=str(tmp_path / "agent"),
        url="http://127.0.0.1:1",
        token="tsp_x",
        redis_url="redis://127.0.0.1:1/0",
    )
    services = Services(outlying(settings, REGION))
    create_or_upgrade(services.database)
    services.borrowing.identity()
    services.borrowing.renew(60.0)
    outlying(settings, REGION)
    assert services.borrowing.is_leased(), "another process of the same boot takes nothing away"

    (tmp_path / "agent" / "boot").write_text("another one")
    outlying(settings, REGION)

    assert not services.borrowing.is_leased()
    services.close()
