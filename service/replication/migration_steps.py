"""What may be asked of a migration, and how far its waves are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import Conflict, NotFoundInStore
from service.model.migration import (
    FREEZE,
    INVENTORY,
    PROOF,
    SurveyState,
    WaveState,
    Work,
    seconds_left,
)
from service.store.executions import ExecutionStore, Totals
from service.store.fleet_migrations import MigrationStore
from service.store.migration_surveys import SurveyStore
from service.store.migration_values import StoredMigration, StoredWave
from service.store.survey_values import OPEN, Survey

BLOCKING = ("collision", "unnamed", "denied", "too_large")
"""What an inventory, or a freeze, may not have found where something is to be written."""
TOLD = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one run of a wave is; `seconds_left` is None where it cannot be told."""

    totals: Totals
    seconds: float
    seconds_left: float | None


class MigrationSteps:
    """Takes the steps of migrations, each only where it may be taken."""

    def __init__(
        self, store: MigrationStore, surveys: SurveyStore, executions: ExecutionStore
    ) -> None:
        self._store = store
        self._surveys = surveys
        self._executions = executions

    def start(self, name: str, wave: str) -> None:
        """Have a wave moved. Raises Conflict: without an inventory, or where its names collide."""
        self._refuse_findings(self._ended(name, INVENTORY))
        self._store.start(name, wave)

    def delta(self, name: str) -> None:
        """Have every wave run once more after the freeze. Raises Conflict."""
        self._refuse_findings(self._ended(name, FREEZE))
        self._store.start_delta(name)

    def survey(self, name: str, kind: str) -> None:
        """Have an inventory, a freeze or a proof taken. Raises Conflict."""
        self._store.get(name)
        if kind == INVENTORY and any(
            wave.state is WaveState.RUNNING for wave in self._store.waves(name)
        ):
            raise Conflict(
                f"a wave of migration {name} is under way, and an inventory would change its waves",
                hint="wait until it has ended",
            )
        if kind == PROOF:
            for wave in self._store.waves(name):
                if wave.state is WaveState.RUNNING:
                    raise Conflict(
                        f"wave {wave.name} of migration {name} is under way",
                        hint="wait until it has ended: what it still writes would not be proved",
                    )
        self._surveys.begin(name, kind)

    def _ended(self, name: str, kind: str) -> Survey:
        self._store.get(name)
        found = self._surveys.latest(name).get(kind)
        if found is None or found.state is not SurveyState.ENDED:
            raise Conflict(
                f"migration {name} has no {kind} that has ended",
                hint=f"transship migrations {kind} {name}",
            )
        return found

    def _refuse_findings(self, survey: Survey) -> None:
        wrong = self._surveys.findings(survey.id, kinds=BLOCKING, limit=TOLD + 1)
        if not wrong:
            return
        words = [
            f"{one.repository}{f':{one.tag}' if one.tag else ''}"
            f"{f' -> {one.destination}' if one.destination else ''}: {one.reason}"
            for one in wrong[:TOLD]
        ]
        more = ", and more" if len(wrong) > TOLD else ""
        raise Conflict(
            f"nothing was written: {'; '.join(words)}{more}",
            hint="change namespaces or select, and take the inventory again; all of them: "
            f"transship migrations findings {survey.migration} --of {survey.kind}",
        )

    # ---- how far it is ---------------------------------------------------------------------------

    def progress(self, wave: StoredWave) -> Progress | None:
        """Return how far the present run of a wave is; None where none of its executions is kept."""
        totals, seconds, found = Totals(), 0.0, False
        for identity in wave.executions:
            try:
                record = self._executions.get(identity)
            except NotFoundInStore:
                continue
            found = True
            totals = _added(totals, self._executions.totals(identity))
            if record.started_at is not None:
                seconds += (record.finished_at or time.time()) - record.started_at
        if not found:
            return None
        left = None
        if wave.state is WaveState.RUNNING and not wave.delta and wave.figures:
            left = seconds_left(_planned(wave), _done(wave, totals), seconds)
        return Progress(totals, seconds, left)


def state_of(
    stored: StoredMigration, waves: Sequence[StoredWave], surveys: dict[str, Survey]
) -> str:
    """Say in a word where a migration stands."""
    if stored.paused_at is not None:
        return "paused"
    if any(wave.state is WaveState.RUNNING for wave in waves):
        return "moving"
    for kind in (PROOF, FREEZE, INVENTORY):
        if kind in surveys and surveys[kind].state in OPEN:
            return {PROOF: "proving", FREEZE: "freezing", INVENTORY: "surveying"}[kind]
    if (proved := is_proved(waves, surveys)) is not None:
        return "proved" if proved else "refused"
    if FREEZE in surveys and surveys[FREEZE].state is SurveyState.ENDED:
        return "frozen"
    if all(wave.state is WaveState.DONE for wave in waves):
        return "moved"
    if any(wave.state is not WaveState.PENDING for wave in waves):
        return "begun"
    return "surveyed" if INVENTORY in surveys else "new"


def is_proved(waves: Sequence[StoredWave], surveys: dict[str, Survey]) -> bool | None:
    """Whether the newest proof holds; None without one of the newest freeze, after the last wave."""
    proof, freeze = surveys.get(PROOF), surveys.get(FREEZE)
    if proof is None or freeze is None or proof.state in OPEN:
        return None
    if proof.state is SurveyState.FAILED:
        return False
    if proof.figures["freeze"] != freeze.id:
        return None
    if any(max(w.started_at or 0.0, w.ended_at or 0.0) > proof.created_at for w in waves):
        return None
    return not proof.figures["findings"]


def _planned(wave: StoredWave) -> Work:
    figures = wave.figures
    return Work(figures["unique_bytes"], figures["bytes"], figures["tags"])


def _done(wave: StoredWave, totals: Totals) -> Work:
    tags = totals.copied + totals.unchanged + totals.skipped + totals.failed
    known = wave.figures["bytes"] / max(1, wave.figures["tags"])
    logical = totals.bytes_copied + totals.bytes_saved + int(totals.unchanged * known)
    return Work(totals.bytes_copied, logical, tags)


def _added(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: getattr(one, name) + getattr(other, name) for name in Totals.__slots__})
