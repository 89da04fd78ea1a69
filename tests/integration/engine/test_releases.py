"""Releases: staged by digest, proved, flipped in one pass, set back when that fails (issue 6 point 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from api.samples.faults import FOREVER, FaultRule
from api.samples.registry import SampleRegistry
from service.errors import Conflict
from service.model.endpoint import RegistryEndpoint
from service.model.project import Grant, Project
from service.model.region import Region
from service.model.release import FLIP, ROLLBACK, STAGE, ReleaseImage, ReleaseState, parse_image
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger
from service.model.states import CopyState
from service.model.work import CopyRef
from service.replication.release import Releaser
from service.replication.release_keeper import ReleaseKeeper
from service.store.release_work import Part
from service.store.tables_events import registry_events
from service.store.tables_releases import release_parts
from tests.support.processes import wait_until
from tests.support.world import Image, Party, World, some_bytes

ON_BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
REST = frozenset(ReleaseState) - {
    ReleaseState.RESOLVING,
    ReleaseState.STAGING,
    ReleaseState.PROVING,
    ReleaseState.PREPARING,
    ReleaseState.FLIPPING,
    ReleaseState.CHECKING,
    ReleaseState.SETTING_BACK,
    ReleaseState.ROLLING_BACK,
}
RULE = SyncRule(
    "fleet",
    "east",
    (Selection(NameFilter(("team/*",)), NameFilter(("v*", "stable"))),),
    (Destination(registry="west", repository="mirror/{repository}"),),
    referrers=False,
)


class Stage:
    """A world with one worker, and what brings releases forward."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.worker = world.party()
        self.store = self.worker.services.releases

    def push(self, name: str, tag: str, mark: str = "") -> Image:
        return self.world.push(name, tag, [some_bytes(f"{name}{tag}{mark}", 500)], mark)

    def keeper(self) -> ReleaseKeeper:
        return self.worker.services.release_keeper(self.worker.publisher)

    def parts(self) -> list[Part]:
        """What would go to the queue now."""
        self.worker.publisher.release_parts.clear()
        self.keeper().step()
        return [Part(*one) for one in self.worker.publisher.release_parts]

    def releaser(self, party: Party | None = None) -> Releaser:
        of = party or self.worker
        return of.services.releaser(of.engine)

    def step(self) -> None:
        """Do what is to be done now, executions and parts."""
        world = self.world
        for execution in world.services.dispatching.unplanned(0):
            world.services.planner.plan(execution, world.services.boot)
        store = world.services.dispatching
        for region in ("local", "us"):
            for ref in store.dispatch(store.eligible(region, 1000)):
                self.worker.replicate(ref)
        world.services.dispatching.end_executions()
        for part in self.parts():
            self.releaser().carry_out(part)

    def until(self, name: str, *states: ReleaseState) -> ReleaseState:
        """Go on until the release is in one of the states, or at rest."""

        def there() -> bool:
            if self.store.get(name).state in (states or REST):
                return True
            self.step()
            return False

        wait_until(there, 20, f"release {name} to come to rest")
        found = self.store.get(name)
        print(f"{name}: {found.state}: {found.reason}")
        return found.state

    def create(self, name: str, *images: str, rule: SyncRule = RULE) -> ReleaseState:
        asked = [parse_image(text) for text in images]
        self.store.create(name, rule, asked, region="local")
        return self.until(name)

    def act(self, name: str, action: str) -> ReleaseState:
        self.store.act(name, action, region="local")
        return self.until(name)

    def at_west(self, *references: str) -> list[str | None]:
        return [self.world.tag_at_west(*reference.split(":")) for reference in references]


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


@ON_BOTH
def test_images_are_staged_without_a_tag_flipped_and_rolled_back(stage: Stage) -> None:
    """One whole life: the tags move with the flip alone, and go back to what they were."""
    before = stage.push("team/app", "stable", "before")
    assert stage.create("first", "team/app:stable") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    stage.store.delete("first")
    app, web = stage.push("team/app", "stable", "after"), stage.push("team/web", "v1")

    staged = stage.create("second", "team/app:stable", "team/web:v1")
    names = ("team/app:stable", "team/web:v1")
    assert (staged, stage.at_west(*names)) == (ReleaseState.STAGED, [before.digest, None])
    assert stage.world.is_whole(app)
    assert stage.world.is_whole(web)

    assert stage.act("second", FLIP) is ReleaseState.FLIPPED
    assert stage.at_west(*names) == [app.digest, web.digest]
    window = stage.store.get("second").window_seconds
    assert window is not None
    assert 0 < window < 5
    assert [one.previous for one in stage.store.tags("second")] == [before.digest, ""]

    assert stage.act("second", ROLLBACK) is ReleaseState.ROLLED_BACK
    assert stage.at_west(*names) == [before.digest, None]
    assert stage.act("second", FLIP) is ReleaseState.FLIPPED
    assert stage.at_west(*names) == [app.digest, web.digest]


def refuse(registry: SampleRegistry, repository: str, tag: str, **more: Any) -> FaultRule:
    """Have a registry refuse to move one tag."""
    path = f"/v2/mirror/{repository}/manifests/{tag}$"
    return registry.faults.add(FaultRule(path, "PUT", status=403, times=FOREVER, **more))


@ON_BOTH
def test_what_a_failed_flip_has_moved_is_set_back(stage: Stage) -> None:
    """One tag of twelve is refused: all are what they were, and one that was not there is not there."""
    before = {f"v{n}": stage.push("team/app", f"v{n}", "before") for n in range(11)}
    assert stage.create("first") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    after = {f"v{n}": stage.push("team/app", f"v{n}", "after") for n in range(12)}
    assert stage.create("second") is ReleaseState.STAGED
    fault = refuse(stage.world.west, "team/app", "v7")

    assert stage.act("second", FLIP) is ReleaseState.SET_BACK

    assert fault.fired == 1
    found = stage.store.get("second")
    assert "west/mirror/team/app:v7: " in found.reason
    assert stage.at_west(*(f"team/app:v{n}" for n in range(12))) == [
        *(image.digest for image in before.values()),
        None,
    ]
    moved = sum(stage.world.tag_puts("team/app", f"v{n}") > 1 for n in range(11))
    assert moved > 3  # others were flipped, or about to be
    fault.times = 0
    assert stage.act("second", FLIP) is ReleaseState.FLIPPED
    assert stage.at_west(*(f"team/app:{tag}" for tag in after)) == [
        image.digest for image in after.values()
    ]


def test_a_tag_that_cannot_be_deleted_stays_and_is_told_of(stage: Stage) -> None:
    stage.world.west.api.profile = replace(stage.world.west.profile, deletes_tags=False)
    new, other = stage.push("team/app", "v1"), stage.push("team/app", "v2")
    assert stage.create("new", "team/app:v1", "team/app:v2") is ReleaseState.STAGED
    wait = FaultRule("/v2/mirror/team/app/manifests/v1$", "PUT", status=403)
    stage.world.west.faults.add(replace(wait, before=lambda _request: put_first.wait(60)))
    put_first = Once(stage, "team/app:v2", other.digest)

    assert stage.act("new", FLIP) is ReleaseState.SET_BACK

    assert "1 were not there before and stay" in stage.store.get("new").reason
    assert stage.at_west("team/app:v1", "team/app:v2") == [None, other.digest]
    states = {tag.tag: tag.state.value for tag in stage.store.tags("new")}
    assert states == {"v1": "restored", "v2": "stays"}
    assert new.digest != other.digest


class Once:
    """Waits until a tag is at the mirror."""

    def __init__(self, stage: Stage, name: str, digest: str) -> None:
        self._there = lambda: stage.at_west(name) == [digest]

    def wait(self, seconds: float) -> None:
        wait_until(self._there, seconds, "the other tag")


@ON_BOTH
def test_no_sync_moves_a_tag_of_a_release_until_it_is_deleted(stage: Stage) -> None:
    """A run of the rule beside a release leaves its tags alone, and the others not."""
    released, free = stage.push("team/app", "v1"), stage.push("team/app", "v2")
    assert stage.create("held", "team/app:v1") is ReleaseState.STAGED
    world = stage.world

    first = world.plan("team/*")
    world.run_to_end(first, stage.worker)

    assert stage.at_west("team/app:v1", "team/app:v2") == [None, free.digest]
    held = {one.source_reference: one for one in world.copies(first)}["v1"]
    assert held.state is CopyState.SKIPPED
    assert held.reason == "release held moves this tag, nothing else, until it is deleted"
    assert stage.act("held", FLIP) is ReleaseState.FLIPPED
    stage.push("team/app", "v1", "newer")
    world.run_to_end(world.plan("team/*", rule="other"), stage.worker)
    assert stage.at_west("team/app:v1") == [released.digest]

    stage.store.delete("held")
    last = stage.push("team/app", "v1", "last")
    world.run_to_end(world.plan("team/*", rule="third"), stage.worker)
    assert stage.at_west("team/app:v1") == [last.digest]


class _Freezes:
    """A state, or a store, that lets something happen right after one of its answers."""

    def __init__(self, inner: Any, method: str, meanwhile: Callable[[], None]) -> None:
        self._inner = inner
        self._method = method
        self._meanwhile: Callable[[], None] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def call(*arguments: Any) -> Any:
            answer = found(*arguments)
            meanwhile, self._meanwhile = self._meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return answer

        return call


def test_a_copy_that_stood_still_gives_a_released_tag_back(stage: Stage) -> None:
    """A sync's PUT of the tag arrives late: a release has taken the tag over, and has it in the end."""
    older = stage.push("team/app", "v1", "older")
    world = stage.world
    world.plan("team/*")
    (ref,) = world.dispatch()
    late = world.party()
    newer = []

    def meanwhile(_request: Any) -> None:
        newer.append(stage.push("team/app", "v1", "newer"))
        assert stage.create("taken", "team/app:v1") is ReleaseState.STAGED
        assert stage.act("taken", FLIP) is ReleaseState.FLIPPED
        stage.push("team/app", "v1", "newest")

    fault = FaultRule("/v2/mirror/team/app/manifests/v1$", "PUT", before=meanwhile)
    world.west.faults.add(fault)
    late.replicate(CopyRef(ref.id, ref.fence))

    assert fault.fired == 1
    assert stage.at_west("team/app:v1") == [newer[0].digest]
    assert newer[0].digest != older.digest
    assert world.tag_puts("team/app", "v1") == 3  # the late one, the flip, and the undoing


def test_a_flip_that_stood_still_is_undone_by_itself(stage: Stage) -> None:
    """A worker between its last look and its PUTs, while the release has turned back (P4)."""
    before = stage.push("team/app", "v1", "before")
    assert stage.create("first", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    stage.push("team/app", "v1", "after")
    assert stage.create("second", "team/app:v1") is ReleaseState.STAGED
    frozen, heir = stage.world.party(), stage.world.party()
    stage.store.act("second", FLIP, region="local")
    (prepare,) = stage.parts()
    assert stage.releaser().carry_out(prepare)
    (flip,) = stage.parts()

    def meanwhile() -> None:
        frozen.die()
        frozen.services.state.farewell(frozen.services.boot)
        heir.services.release_work.fail(flip, "somebody turned back")
        (back,) = stage.parts()
        assert stage.releaser(heir).carry_out(back)
        assert stage.store.get("second").state is ReleaseState.SET_BACK

    engine = replace(frozen.engine, settings=replace(stage.world.settings, dead_after_seconds=600))
    late = Releaser(
        engine,
        cast("Any", _Freezes(frozen.services.release_work, "holds", meanwhile)),
        frozen.services.registries,
        frozen.services.projects,
    )
    late.carry_out(flip)

    assert (
        stage.world.tag_puts("team/app", "v1") == 3
    )  # the first release's, the late one, its undoing
    assert stage.at_west("team/app:v1") == [before.digest]


@ON_BOTH
def test_a_dead_workers_part_is_done_by_the_next_and_a_live_ones_by_nobody_else(
    stage: Stage,
) -> None:
    image = stage.push("team/app", "v1")
    assert stage.create("one", "team/app:v1") is ReleaseState.STAGED
    stage.store.act("one", FLIP, region="local")
    dying, heir = stage.world.party(), stage.world.party()
    (part,) = stage.parts()
    assert dying.services.release_work.begin(part, dying.services.boot) is not None

    stage.world.services.database.write(
        lambda c: c.execute(update(release_parts).values(sent_at=0.0))
    )
    assert not stage.releaser(heir).carry_out(part)
    assert stage.parts() == []
    dying.services.state.farewell(dying.services.boot)
    assert stage.parts() == [part]
    assert stage.releaser(heir).carry_out(part)
    assert not stage.releaser(heir).carry_out(part)  # delivered once more
    assert stage.until("one") is ReleaseState.FLIPPED
    assert stage.at_west("team/app:v1") == [image.digest]


def test_a_release_whose_content_was_lost_does_not_begin_to_move(stage: Stage) -> None:
    app, web = stage.push("team/app", "v1"), stage.push("team/web", "v1")
    assert stage.create("lossy", "team/app:v1", "team/web:v1") is ReleaseState.STAGED
    stage.world.west.storage.drop_blob(web.layers[0])

    assert stage.act("lossy", FLIP) is ReleaseState.FAILED

    assert f"blob {web.layers[0]}" in stage.store.get("lossy").reason
    assert stage.at_west("team/app:v1", "team/web:v1") == [None, None]
    assert stage.world.tag_puts("team/app", "v1") == 0
    assert app.digest != web.digest


def test_two_releases_do_not_move_one_tag_at_once(stage: Stage) -> None:
    stage.push("team/app", "v1")
    assert stage.create("one", "team/app:v1") is ReleaseState.STAGED
    assert stage.create("two", "team/app:v1") is ReleaseState.STAGED
    stage.store.act("one", FLIP, region="local")

    with pytest.raises(Conflict, match="release one moves some of the same tags now"):
        stage.store.act("two", FLIP, region="local")
    with pytest.raises(Conflict, match="preparing"):
        stage.store.delete("one")
    with pytest.raises(Conflict, match="is staged: rollback wants it flipped or mixed"):
        stage.store.act("two", ROLLBACK, region="local")

    assert stage.until("one") is ReleaseState.FLIPPED
    assert stage.act("two", FLIP) is ReleaseState.FLIPPED


def test_a_rollback_leaves_alone_what_somebody_else_has_moved_since(stage: Stage) -> None:
    stage.push("team/app", "v1")
    assert stage.create("mine", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("mine", FLIP) is ReleaseState.FLIPPED
    foreign = stage.push("team/app", "v2")
    assert stage.create("theirs", "team/app:v2") is ReleaseState.STAGED
    stage.world.west.storage.move_tag("mirror/team/app", "v1", foreign.digest)

    assert stage.act("mine", ROLLBACK) is ReleaseState.ROLLED_BACK

    assert stage.at_west("team/app:v1") == [foreign.digest]
    assert "1 were moved by somebody else" in stage.store.get("mine").reason


def test_a_tag_that_cannot_be_set_back_makes_it_mixed_and_is_tried_again_when_asked(
    stage: Stage,
) -> None:
    before = stage.push("team/app", "v1", "before")
    assert stage.create("first", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    stage.push("team/app", "v1", "after")
    assert stage.create("second", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("second", FLIP) is ReleaseState.FLIPPED
    fault = refuse(stage.world.west, "team/app", "v1")

    assert stage.act("second", ROLLBACK) is ReleaseState.MIXED

    assert "1 could not be set back" in stage.store.get("second").reason
    fault.times = 0
    assert stage.act("second", ROLLBACK) is ReleaseState.ROLLED_BACK
    assert stage.at_west("team/app:v1") == [before.digest]


def test_a_rule_that_keeps_what_is_there_flips_nothing_that_is_there(stage: Stage) -> None:
    before = stage.push("team/app", "v1", "before")
    assert stage.create("first", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    stage.push("team/app", "v1", "after")
    keeps = replace(RULE, on_conflict="keep")
    assert stage.create("second", "team/app:v1", rule=keeps) is ReleaseState.STAGED

    assert stage.act("second", FLIP) is ReleaseState.STAGED

    assert "on_conflict is keep" in stage.store.get("second").reason
    assert stage.at_west("team/app:v1") == [before.digest]


def test_a_grant_that_was_taken_back_keeps_tags_where_they_are(stage: Stage) -> None:
    stage.push("team/app", "v1")
    assert stage.create("one", "team/app:v1") is ReleaseState.STAGED
    only_read = Project("default", read=(Grant("east", ("**",)),))
    stage.world.services.projects.put(only_read, document={})

    assert stage.act("one", FLIP) is ReleaseState.STAGED

    assert "project default may not write west/mirror/team/app" in stage.store.get("one").reason
    assert stage.at_west("team/app:v1") == [None]


def test_a_registry_that_takes_the_image_along_with_its_tag_gets_it_back(stage: Stage) -> None:
    image = stage.push("team/app", "v1")
    assert stage.create("one", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("one", FLIP) is ReleaseState.FLIPPED
    storage = stage.world.west.storage
    fault = stage.world.west.faults.add(
        FaultRule(
            "/v2/mirror/team/app/manifests/v1$",
            "DELETE",
            after=lambda _request, _response: (
                storage.delete_manifest("mirror/team/app", image.digest) and None
            ),
        )
    )

    assert stage.act("one", ROLLBACK) is ReleaseState.ROLLED_BACK

    assert fault.fired == 1
    assert stage.at_west("team/app:v1") == [None]
    assert storage.manifest("mirror/team/app", image.digest) is not None
    assert "took the image along" in stage.store.tags("one")[0].reason


def draw_borders(world: World) -> None:
    """Have `eu`, `us` and `far` be three jurisdictions."""
    for name in ("eu", "us", "far"):
        world.services.regions.put(Region(name, name), document={"name": name})


def test_no_flip_goes_across_a_border_or_by_a_worker_from_elsewhere(stage: Stage) -> None:
    """A border is drawn through a staged release: its group reaches across, and no tag moves."""
    services = stage.world.services
    for name, registry, region in (
        ("east", stage.world.east, "eu"),
        ("west", stage.world.west, "us"),
    ):
        endpoint = RegistryEndpoint(name, registry.url, region=region, groups=("prod",))
        services.registries.put(endpoint, document={})
    stage.push("team/app", "v1")
    group = replace(RULE, destinations=(Destination(group="prod", repository="mirror/{name}"),))
    named = replace(
        RULE, name="named", destinations=(Destination(registry="west", repository="there/{name}"),)
    )
    stage.worker = stage.world.party(region="us")
    for name, rule in (("group", group), ("named", named)):
        assert stage.create(name, "team/app:v1", rule=rule) is ReleaseState.STAGED
    draw_borders(stage.world)

    stage.worker = stage.world.party(region="far")
    stage.store.act("named", FLIP, region="eu")
    (part,) = stage.parts()
    assert not stage.releaser().carry_out(part)
    assert stage.store.get("named").state is ReleaseState.PREPARING  # it waits for another worker
    stage.worker = stage.world.party(region="us")
    assert stage.releaser().carry_out(part)
    assert stage.until("named") is ReleaseState.FLIPPED

    assert stage.act("group", FLIP) is ReleaseState.STAGED
    assert "west of group prod is in us, and east in eu" in stage.store.get("group").reason
    assert stage.world.west.storage.manifest("mirror/app", "v1") is None
    assert stage.world.west.storage.manifest("there/app", "v1") is not None


def test_rules_that_go_on_from_a_destination_hear_of_a_flip(stage: Stage) -> None:
    """A chained rule is told of the tag as of one of our commits, once it has moved everywhere."""
    onward = replace(
        RULE,
        name="onward",
        source="west",
        destinations=(Destination(registry="east", repository="onward/{name}"),),
        trigger=Trigger(event=True),
    )
    stage.world.services.rules.put(onward, document={})
    image = stage.push("team/app", "v1")
    assert stage.create("one", "team/app:v1") is ReleaseState.STAGED
    query = select(
        registry_events.c.registry, registry_events.c.repository, registry_events.c.digest
    )

    def told() -> list[tuple[str, ...]]:
        with stage.world.services.database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    assert told() == []
    assert stage.act("one", FLIP) is ReleaseState.FLIPPED
    assert told() == [("west", "mirror/team/app", image.digest)]


def test_an_immutable_tag_refuses_the_flip_of_all(stage: Stage) -> None:
    before = stage.push("team/app", "v1", "before")
    assert stage.create("first", "team/app:v1") is ReleaseState.STAGED
    assert stage.act("first", FLIP) is ReleaseState.FLIPPED
    stage.push("team/app", "v1", "after")
    stage.push("team/app", "v2")
    assert stage.create("second", "team/app:v1", "team/app:v2") is ReleaseState.STAGED
    body = b'{"errors": [{"code": "TAG_IMMUTABLE", "message": "the tag is immutable"}]}'
    stage.world.west.faults.add(
        FaultRule("/v2/mirror/team/app/manifests/v1$", "PUT", status=412, body=body, times=FOREVER)
    )

    assert stage.act("second", FLIP) is ReleaseState.SET_BACK

    assert "immutable" in stage.store.get("second").reason
    assert stage.at_west("team/app:v1", "team/app:v2") == [before.digest, None]


def test_what_cannot_be_a_release_is_refused_in_words(stage: Stage) -> None:
    stage.push("team/app", "v1")
    tagged = replace(
        RULE, destinations=(Destination(registry="west", repository="mirror/{name}-{tag}"),)
    )
    newest = replace(RULE, select=(replace(RULE.select[0], types=("image",)),))
    one_name = replace(
        RULE, destinations=(Destination(registry="west", repository="all", tag="v1"),)
    )
    stage.push("team/web", "v1")

    assert stage.create("a", "team/app:latest") is ReleaseState.FAILED
    assert "rule fleet does not take team/app:latest" in stage.store.get("a").reason
    assert stage.create("b", "team/app:v9") is ReleaseState.FAILED
    assert "east has no team/app:v9" in stage.store.get("b").reason
    assert stage.create("c", "team/app:v1", rule=tagged) is ReleaseState.FAILED
    assert "repositories at destinations that do not depend" in stage.store.get("c").reason
    assert stage.create("d", rule=newest) is ReleaseState.FAILED
    assert "not only at their names" in stage.store.get("d").reason
    assert stage.create("e", rule=one_name) is ReleaseState.FAILED
    assert "would both become west/all:v1" in stage.store.get("e").reason
    stage.push("team/app", "v9")
    assert stage.act("b", STAGE) is ReleaseState.STAGED


def test_an_image_named_by_tag_and_digest_gets_that_digest(stage: Stage) -> None:
    wanted = stage.push("team/app", "v1", "wanted")
    stage.push("team/app", "v1", "newer")
    named = ReleaseImage("team/app", "v1", wanted.digest)
    assert parse_image(f"team/app:v1@{wanted.digest}") == named

    assert stage.create("exact", f"team/app:v1@{wanted.digest}") is ReleaseState.STAGED
    assert stage.act("exact", FLIP) is ReleaseState.FLIPPED

    assert stage.at_west("team/app:v1") == [wanted.digest]


def test_a_destination_in_a_group_and_an_address_of_its_own(stage: Stage) -> None:
    """Groups mean all their members; each has the tag."""
    image = stage.push("team/app", "v1")
    with SampleRegistry() as north:
        registries = stage.world.services.registries
        for name, registry in (("west", stage.world.west), ("north", north)):
            registries.put(RegistryEndpoint(name, registry.url, groups=("prod",)), document={})
        rule = replace(
            RULE, destinations=(Destination(group="prod", repository="mirror/{repository}"),)
        )

        assert stage.create("all", "team/app:v1", rule=rule) is ReleaseState.STAGED
        assert stage.act("all", FLIP) is ReleaseState.FLIPPED

        found = north.storage.manifest("mirror/team/app", "v1")
        assert found is not None
        assert found.digest == image.digest
        assert stage.at_west("team/app:v1") == [image.digest]
