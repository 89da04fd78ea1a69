"""A fleet moves by the command, from a source that keeps changing, and the independent oracle confirms the proof."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.closure import Place, check
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.transship import transship
from tests.support.up import Up, running_up
from tests.support.wire import Wire, image_body

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

TAGS_A_REPOSITORY = 20
SEED = 8
SMALL, WHOLE = 60, 1000


class Fleet:
    """The source's fleet, and what its owners push meanwhile: repositories of three teams, a layer shared by each."""

    def __init__(self, url: str, tags: int) -> None:
        self.wire = Wire(url)
        self.dice = random.Random(SEED)
        self.pushed = 0
        self.tags: dict[Place, str] = {}
        self.repositories = [
            f"{('team-a', 'team-b', 'infra')[number % 3]}/app{number:02d}"
            for number in range(tags // TAGS_A_REPOSITORY)
        ]
        for repository in self.repositories:
            for number in range(TAGS_A_REPOSITORY):
                self.push(repository, f"v{number}")

    def push(self, repository: str, tag: str) -> None:
        """Give a tag an image that no other tag has."""
        self.pushed += 1
        layer = f"layer of {repository}".encode() * 200
        config = json.dumps({"os": "linux", "architecture": "amd64", "n": self.pushed}).encode()
        if not any(place[0] == repository for place in self.tags):
            self.wire.push_blob(repository, layer)
        assert self.wire.push_blob(repository, config).status == 201
        answer = self.wire.put_manifest(repository, tag, image_body(config, [layer]))
        assert answer.status == 201, answer
        self.tags[repository, tag] = str(answer["Docker-Content-Digest"])

    def change(self) -> None:
        """Move a tag, add one, or begin a repository."""
        kind = self.dice.randrange(8)
        repository = self.dice.choice(self.repositories)
        if kind == 0:
            repository = f"infra/new{self.pushed}"
            self.repositories.append(repository)
        tag = f"v{self.dice.randrange(TAGS_A_REPOSITORY)}" if kind > 3 else f"n{self.pushed}"
        self.push(repository, tag)

    def names(self) -> dict[Place, Place]:
        """Each tag, and its final name."""
        return {
            (repository, tag): (f"moved/{repository}", tag) for repository, tag in sorted(self.tags)
        }


class Changing:
    """Changes the source for as long as the block lasts."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.15):
            self._fleet.change()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Move:
    """A running service between two real registries, and the migration `move` by the command."""

    def __init__(self, up: Up, source: RealRegistry, destination: RealRegistry) -> None:
        self.up = up
        self.source = source
        self.destination = destination

    def put(self, **document: Any) -> None:
        body = {"source": "source", "destination": "destination", **document}
        self.up.ask("PUT", "/migrations/move", body)

    def command(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command to its end; the object that it prints. Those that are not run here, the how-to's page has run."""
        there = {"TRANSSHIP_URL": self.up.url, "TRANSSHIP_TOKEN": self.up.token}
        done = transship("migrations", *words, "--json", **there)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def step(self, action: str, *states: str) -> dict[str, Any]:
        """Ask for a step by the API, and wait until the migration is in one of these states."""
        self.up.ask("POST", f"/migrations/move/{action}")
        looking = threading.Event()

        def there() -> dict[str, Any] | None:
            looking.wait(0.25)  # a look costs the server more than a test's own condition does
            found: dict[str, Any] = self.up.ask("GET", "/migrations/move")
            return found if found["state"] in states else None

        return wait_until(there, 200, f"{action}: {states}")  # type: ignore[return-value]

    def wave(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.up.ask("GET", "/migrations/move")
        return next(one for one in found["waves"] if one["name"] == name)

    def refused(self) -> set[tuple[str, str]]:
        """What a proof that is refused names."""
        assert self.step("prove", "proved", "refused")["state"] == "refused"
        found = self.up.ask("GET", "/migrations/move/findings?of=proof&limit=200")["items"]
        return {(one["kind"], f"{one['repository']}:{one['tag']}") for one in found}


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    with ExitStack() as stack:
        source = stack.enter_context(RealRegistry())
        destination = stack.enter_context(RealRegistry(cache=False))
        up = stack.enter_context(running_up(tmp_path))
        up.registry("source", source.url)
        up.registry("destination", destination.url)
        yield Move(up, source, destination)


@pytest.mark.parametrize("tags", [SMALL, pytest.param(WHOLE, marks=pytest.mark.nightly)])
def test_a_fleet_moves_in_three_waves_from_a_source_that_keeps_changing(
    move: Move, tags: int
) -> None:
    """Issue 8's done-line: three waves, a worker killed amid one, freeze, delta, a proof that holds, and four that do not."""
    print(f"seed {SEED}, {tags} tags")
    fleet = Fleet(move.source.url, tags)
    there = Fleet(move.destination.url, 0)
    there.push("moved/team-a/app00", "v3")
    before = there.tags["moved/team-a/app00", "v3"]
    move.put(
        namespaces=[{"from": "**", "to": "moved/{repository}"}],
        waves=[
            {"name": "a", "repositories": ["team-a/**"]},
            {"name": "small", "repositories": ["team-b/**", "infra/**"], "max_bytes": "20kB"},
            {"name": "rest"},
        ],
    )
    inventory = move.step("inventory", "surveyed")["inventory"]["fleet"]
    assert inventory["tags"] == tags
    assert inventory["repositories"] == len(fleet.repositories)
    assert 0 < inventory["unique_bytes"] < inventory["bytes"] / 2
    waves = [move.wave(name)["fleet"]["repositories"] for name in ("a", "small", "rest")]
    assert sum(waves) == len(fleet.repositories)
    assert all(waves)

    with Changing(fleet):
        assert move.command("start", "move", "a")["waves"][0]["state"] == "done"
        move.up.ask("POST", "/migrations/move/waves/small/start")
        wait_until(lambda: move.wave("small")["execution"], 20, "the wave's execution")
        move.up.running.kill("workers.main")
        assert move.step("waves/small/start", "begun")["waves"][1]["state"] == "done"
        assert move.step("waves/rest/start", "moved")["waves"][2]["state"] == "done"
        while_it_moved = fleet.pushed - tags
    assert while_it_moved > 10, "the source has not changed enough to prove anything"

    frozen = move.step("freeze", "frozen")
    assert frozen["freeze"]["fleet"]["tags"] == len(fleet.tags) > tags
    assert move.refused(), "nothing was left for the delta"
    move.step("delta", "frozen")
    proved = move.command("prove", "move")

    assert (proved["state"], proved["proved"]) == ("proved", True)
    report = check(move.source.url, move.destination.url, fleet.names())
    assert not report.faults, report
    assert report.tags == len(fleet.tags)
    print(f"{fleet.pushed - tags} pushes meanwhile, {report}")
    _the_way_back(move, fleet, before)
    _what_refuses_the_proof(move, fleet)


def _the_way_back(move: Move, fleet: Fleet, before: str) -> None:
    back = {
        (one["repository"], one["tag"]): (one["before"], one["written"])
        for one in _every(move.up, "/migrations/move/rollback")
    }
    assert set(back) == set(fleet.names().values())
    assert back.pop(("moved/team-a/app00", "v3"))[0] == before
    assert {one for one, _ in back.values()} == {None}
    assert {written for _, written in back.values()} < set(fleet.tags.values())


def _every(up: Up, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list, page by page."""
    cursor = ""
    while True:
        found = up.ask("GET", f"{path}?limit=200{cursor}")
        yield from found["items"]
        if not found["next"]:
            return
        cursor = f"&cursor={found['next']}"


def _what_refuses_the_proof(move: Move, fleet: Fleet) -> None:
    """A tag moved at the destination, a blob removed there, a push to the source: each is named."""
    there = Fleet(move.destination.url, 0)
    there.pushed = 10**6
    there.push("moved/team-b/app01", "v0")
    wanted = {("moved", "team-b/app01:v0")}
    assert move.refused() == wanted

    with Wire(move.source.url) as wire:
        lost = wire.get_manifest("infra/app02", "v1").json()["config"]["digest"]
    move.destination.blob_path(lost).unlink()
    wanted.add(("hole", "infra/app02:v1"))
    assert move.refused() == wanted

    fleet.push("team-a/app00", "v7")
    fleet.push("late/app", "v1")
    wanted |= {("pushed", "team-a/app00:v7"), ("pushed", "late/app:v1")}
    assert move.refused() == wanted
    found = move.command("findings", "move", code=1)["items"]
    reasons = {(one["kind"], one["repository"]): one["reason"] for one in found}
    assert lost in reasons["hole", "infra/app02"]
    assert reasons["pushed", "late/app"] == "it was pushed to the source after the freeze"
