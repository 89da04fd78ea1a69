"""What scenarios share that are run twice: with a protection, and without it (tests/faults/test_teeth.py).

A scenario strikes, heals, waits for quiescence and returns what the oracle finds: nothing, or one sentence a
fault. It does not know whether the protection is on, and asserts nothing that depends on that: only that its
fault has struck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from api.samples.http_messages import Access
from tests.faults.lab import Lab, Scene
from tests.oracle.states import judge_executions
from tests.support.processes import wait_until


@dataclass(frozen=True)
class Stage:
    """A lab, a name that no other scene has, and how long to wait for what may never come."""

    lab: Lab
    name: str
    patience_seconds: float

    def scene(self, **rule: Any) -> Scene:
        """Return the scenario's scene."""
        return self.lab.scene(self.name, **rule)

    def comes(self, condition: Callable[[], object]) -> bool:
        """Wait for something as long as the patience lasts; whether it came."""
        try:
            wait_until(condition, self.patience_seconds, bound=True)
        except AssertionError:
            return False
        return True

    def ends(self, identity: str) -> bool:
        """Wait for an execution's end; whether it came."""
        return self.comes(lambda: self.lab.execution(identity)["finished_at"])


Scenario = Callable[[Stage], list[str]]


@dataclass(frozen=True)
class Tooth:
    """A protection, the process that does without it, and the fault that the oracle finds then."""

    protection: str
    role: str
    scenario: Scenario
    fault: str  # a regular expression
    nightly: bool = False  # another variant of a scenario that CI runs

    @property
    def id(self) -> str:
        return f"{self.protection}-{self.scenario.__name__}"

    def name(self, run: str) -> str:
        """Return a name for the repositories of one run of it."""
        return "-".join([self.protection, *(["variant"] if self.nightly else []), run])


def books(scene: Scene) -> list[str]:
    """Judge what the product says of the scene's executions (O5)."""
    lab = scene.lab
    executions = [lab.execution(run) for run in scene.runs]
    return judge_executions(executions, {run: lab.copies(run) for run in scene.runs})


def whole(scene: Scene, tags: int, blobs: int) -> list[str]:
    """Judge what stands at the destination, with the books (O1, O2, O5)."""
    return scene.verdict(tags=tags, blobs=blobs, uploads=True).faults


def lines_of(scene: Scene) -> Sequence[Access]:
    """Return what the source was asked about the scene's repositories, through its proxy."""
    return [one for one in list(scene.east.log) if one.path.startswith(scene.at_source())]
