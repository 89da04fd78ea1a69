"""A rollback looks first, in all regions, whether what was before is still there (issue 6 point 8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from api.samples.registry import SampleRegistry
from service.errors import Conflict
from service.model.endpoint import RegistryEndpoint
from service.model.release import FLIP, ROLLBACK, ReleaseState
from service.model.rule import Destination
from service.model.subscription import Subscription
from tests.integration.engine.test_releases import ON_BOTH, RULE, Stage
from tests.support.world import Image, World


class TwoPlaces(Stage):
    """A rule with destinations in two regions, whose tags a release has moved."""

    def __init__(self, world: World, south: SampleRegistry) -> None:
        super().__init__(world)
        self.south = south
        endpoint = RegistryEndpoint("south", south.url, region="us")
        world.services.registries.put(endpoint, document={})
        self.rule = replace(RULE, destinations=(*RULE.destinations, SOUTH))
        self.before = self.push_both("before")
        assert self.create("first", *NAMES, rule=self.rule) is ReleaseState.STAGED
        assert self.act("first", FLIP) is ReleaseState.FLIPPED
        self.after = self.push_both("after")
        assert self.create("second", *NAMES, rule=self.rule) is ReleaseState.STAGED
        assert self.act("second", FLIP) is ReleaseState.FLIPPED

    def push_both(self, mark: str) -> list[Image]:
        return [self.push("team/app", tag, mark) for tag in ("v1", "v2")]

    def at_south(self) -> list[str | None]:
        tags = self.south.storage.tags("mirror/team/app") or {}
        return [str(tags[tag]) if tag in tags else None for tag in ("v1", "v2")]

    def puts(self) -> int:
        logs = [*list(self.world.west.log), *list(self.south.log)]
        return sum(1 for one in logs if one.method in ("PUT", "DELETE"))


NAMES = ("team/app:v1", "team/app:v2")
SOUTH = Destination(registry="south", repository="mirror/{repository}")


@pytest.fixture
def places(world: World) -> Iterator[TwoPlaces]:
    with SampleRegistry() as south:
        yield TwoPlaces(world, south)


@ON_BOTH
def test_what_stands_in_the_way_is_told_for_all_places_and_nothing_moves(places: TwoPlaces) -> None:
    services = places.world.services
    wanted = Subscription("ops", "https://ops.example/in", ("release.*",))
    services.webhooks.put(wanted, document={})
    first, second = places.before
    places.world.west.storage.delete_manifest("mirror/team/app", first.digest)
    places.south.storage.delete_manifest("mirror/team/app", second.digest)
    before = places.puts()

    assert places.act("second", ROLLBACK) is ReleaseState.FLIPPED

    reason = places.store.get("second").reason
    assert reason.startswith("not rolled back: ")
    assert "west/mirror/team/app:v1: what it was before is gone: manifest" in reason
    assert "south/mirror/team/app:v2: what it was before is gone: manifest" in reason
    told = {f"{one.registry} {one.tag}" for one in places.store.tags("second") if one.reason}
    assert told == {"west v1", "south v2"}
    assert places.puts() == before
    new = [image.digest for image in places.after]
    assert (places.at_west(*NAMES), places.at_south()) == (new, new)
    letters = [json.loads(one.body) for one in services.webhooks.take(10, 60, each=10)]
    assert [one["type"] for one in letters] == ["transship.release.failed"]

    services.releases.act("second", ROLLBACK, region="local", force=True)
    assert places.until("second") is ReleaseState.MIXED
    old = [image.digest for image in places.before]
    assert places.at_west(*NAMES) == [new[0], old[1]]
    assert places.at_south() == [old[0], new[1]]


def test_a_place_that_does_not_say_keeps_all_of_it(places: TwoPlaces) -> None:
    fault = places.south.fault("/v2/mirror/team/app/manifests/v1", status=403, times=100)
    before = places.puts()

    assert places.act("second", ROLLBACK) is ReleaseState.FLIPPED

    assert "south/mirror/team/app:v1" in places.store.get("second").reason
    assert places.puts() == before
    fault.times = 0
    assert places.act("second", ROLLBACK) is ReleaseState.ROLLED_BACK
    assert places.store.get("second").window_seconds is not None


def test_one_that_is_looked_at_moves_with_no_other_release_and_can_be_forced(
    places: TwoPlaces,
) -> None:
    """No worker of a region may be alive: then nothing would come of looking there."""
    assert places.create("third", *NAMES, rule=places.rule) is ReleaseState.STAGED
    places.store.act("second", ROLLBACK, region="local")
    assert places.store.get("second").state is ReleaseState.CHECKING
    late = places.parts()
    assert {part.region for part in late} == {"local", "us"}

    with pytest.raises(Conflict, match="release second moves some of the same tags now"):
        places.store.act("third", FLIP, region="local")
    with pytest.raises(Conflict, match="is checking: rollback wants it"):
        places.store.act("second", ROLLBACK, region="local")
    places.store.act("second", ROLLBACK, region="local", force=True)

    assert not any(places.releaser().carry_out(part) for part in late)
    assert places.until("second") is ReleaseState.ROLLED_BACK
    old = [image.digest for image in places.before]
    assert (places.at_west(*NAMES), places.at_south()) == (old, old)


def test_where_says_which_release_has_put_a_tag(places: TwoPlaces) -> None:
    """A release stages by digest: no copy of the tag tells of it."""
    services = places.world.services
    services.rules.put(places.rule, document={})

    def told() -> dict[str, tuple[str, str, str]]:
        rows = services.locator.locate("team/app", "v1")
        return {one.registry: (one.state.value, one.why, one.digest) for one in rows}

    new, old = places.after[0].digest, places.before[0].digest
    put = ("whole", "release second has put it there", new)
    assert (told()["west"], told()["south"]) == (put, put)

    assert places.act("second", ROLLBACK) is ReleaseState.ROLLED_BACK
    services.releases.delete("first")
    execution = places.world.plan("team/*", rule="fleet")
    places.world.run_to_end(execution, places.worker)

    held = ("stale", f"release second holds it there; the source has {new}", old)
    assert told()["west"] == held
    proved = {one.registry: one for one in services.locator.locate("team/app", "v1", prove=True)}
    assert proved["west"].digest == old
