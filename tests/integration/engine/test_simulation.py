"""Random runs of the state machine, and that they find what is broken (tests/integration/engine/simulation.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis.errors import Flaky

from service import protections
from service.replication.commit_manifest import Committer
from tests.integration.engine.simulation import simulate
from tests.support.processes import scratch_directory
from tests.support.world import World

RUNS = int(os.environ.get("SIMULATIONS", "2000"))


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory: a run commits a hundred times, and no test here loses the machine's power."""
    folder = scratch_directory("simulation")
    yield folder
    shutil.rmtree(folder)


pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module"
)  # the product's jitter


@pytest.mark.timeout(max(600, RUNS))
def test_whatever_happens_to_messages_and_processes_all_ends_whole(in_memory: Path) -> None:
    counts = simulate(in_memory, RUNS)
    print(dict(counts))
    assert counts["runs"] >= RUNS
    assert counts["copied"] > RUNS
    assert counts["deaths"] > RUNS / 40, "hardly any process died in the middle of a task"
    assert counts["freezes"] > RUNS / 40, "hardly any process stood still in the middle of a task"


def _no_protection(_world: World) -> None:
    protections.turn_off("reconciler")


def _nothing(method: str, found: object) -> Callable[[World], None]:
    """Have the reconciler find nothing of one kind."""

    def plant(world: World) -> None:
        setattr(world.services.dispatching, method, lambda *_args, **_options: found)

    return plant


def _found(folder: Path, plant: Callable[[World], None]) -> str:
    """Return what a simulation finds first in a product that is broken.

    Hypothesis repeats what it has found; pauses are jittered, so that it may be another copy's turn then.
    """
    found: list[str] = []
    with pytest.raises((AssertionError, Flaky)):
        simulate(folder, 200, plant=plant, found=found)
    return found[0]


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(_no_protection, id="the dead are not missed"),
        pytest.param(_nothing("uncommitted", []), id="a lost commit is not sent again"),
    ],
)
def test_a_reconciler_that_does_less_is_found_out(
    in_memory: Path, plant: Callable[[World], None]
) -> None:
    try:
        assert "sixty rounds in peace were not enough: [" in _found(in_memory, plant)
    finally:
        protections.turn_off("")


def test_a_commit_that_does_not_look_at_the_source_again_is_found_out(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(_world: World) -> None:
        monkeypatch.setattr(Committer, "_moved", lambda _commit, _digest: None)

    assert " is newer" in _found(in_memory, blind)
