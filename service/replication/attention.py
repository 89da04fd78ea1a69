"""What needs somebody's attention now, and what to press: the first page of whoever is on call (issue 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.model.health import HEALTHY
from service.store.figures import FigureStore, RuleRuns
from service.store.incidents import IncidentStore
from service.store.region_load import RegionLoadStore

CRITICAL, WARNING, INFO = "critical", "warning", "info"
SEVERITIES = (CRITICAL, WARNING, INFO)
SILENT_SECONDS = 60.0
"""So long a scheduler may be silent before it is said to be gone."""

_WORDS = {
    "late": ("is behind its freshness objective", "see which region, and what its copies wait for"),
    "idle": ("was to run, and did not", "see that it is not paused, and that a scheduler runs"),
    "empty": ("matches nothing at its source any more", "look at what its filters take: plan it"),
}


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that is not as it should be: of which kind of object, its name, what is wrong, and what to do."""

    severity: str
    kind: str  # scheduler | region | registry | rule | deletion | pipeline
    name: str
    what: str
    action: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole at a glance; `bytes_per_second` over the last minute, of what runs."""

    concerns: tuple[Concern, ...]  # the gravest first
    rules: dict[str, int]  # total, active, failed, late
    executions: dict[str, int]  # by state
    copies: dict[str, int]  # open ones, by state
    bytes_per_second: float


class Attention:
    """Reads it from SQL."""

    def __init__(
        self, figures: FigureStore, incidents: IncidentStore, loads: RegionLoadStore
    ) -> None:
        self._figures = figures
        self._incidents = incidents
        self._loads = loads

    def overview(self, sees: Callable[[str], bool], *, platform: bool) -> Overview:
        """Return what somebody may know: rules of projects that he `sees`; registries and regions with `platform`."""
        known = [one for one in self._figures.rules() if sees(one.project)]
        names = {one.rule for one in known}
        incidents = [one for one in self._incidents.open() if one.rule in names]
        concerns = [*self._platform(), *self._registries()] if platform else []
        for one in incidents:
            what, action = _WORDS.get(one.kind, (one.kind, "look at the rule"))
            where = f" in {one.region}" if one.region else ""
            concerns.append(
                Concern(WARNING, "rule", one.rule, f"{what}{where}: {one.reason}", action)
            )
        concerns += self._failed(known)
        if platform and (waiting := self._figures.deletions_waiting()):
            text = f"{waiting} wait for an approval"
            concerns.append(Concern(INFO, "deletion", "", text, "approve or cancel them"))
        for name, project, waiting in self._figures.approvals_wanted():
            if sees(project):
                text = f"{waiting} of its promotions wait for an approval"
                concerns.append(Concern(INFO, "pipeline", name, text, "approve or reject them"))
        return Overview(
            tuple(sorted(concerns, key=lambda one: SEVERITIES.index(one.severity))),
            {
                "total": len(known),
                "active": sum(one.enabled and not one.paused for one in known),
                "failed": sum(one.failed_last for one in known),
                "late": len({one.rule for one in incidents if one.kind == "late"}),
            },
            self._figures.executions() if platform else {},
            self._figures.open_copies() if platform else {},
            self._figures.bytes_lately(60.0) / 60.0 if platform else 0.0,
        )

    def _platform(self) -> Iterator[Concern]:
        if not self._figures.is_driven(SILENT_SECONDS):
            what = "no scheduler has been heard of for a minute: nothing starts, nothing is sent"
            yield Concern(CRITICAL, "scheduler", "", what, "start `transship scheduler`")
        for name, load in self._loads.load(self._loads.waited_for()).items():
            if load.waiting and not load.processes:
                what = f"{load.waiting} copies wait, and no worker serves it"
                yield Concern(
                    CRITICAL, "region", name, what, f"start `transship worker --region {name}`"
                )

    def _registries(self) -> Iterator[Concern]:
        for name, (state, paused) in self._figures.registry_states().items():
            if state not in (HEALTHY, "unknown"):
                held = "; what needs it is held back" if paused else ""
                what = f"the last check found it {state}{held}"
                yield Concern(WARNING, "registry", name, what, "examine it: `transship doctor`")
            elif paused:
                yield Concern(
                    INFO, "registry", name, "it is paused", "resume it when it may be used"
                )

    @staticmethod
    def _failed(known: list[RuleRuns]) -> Iterator[Concern]:
        for one in known:
            if one.paused:
                yield Concern(
                    INFO, "rule", one.rule, "it is paused", "resume it to let its copies go on"
                )
            if one.failed_last and one.enabled:
                what = "its last execution did not succeed"
                yield Concern(WARNING, "rule", one.rule, what, "open its failures, then retry them")
