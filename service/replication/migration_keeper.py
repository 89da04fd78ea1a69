"""Carry out the waves of migrations: each by its own rule, within its windows, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from service.errors import StoreUnavailable, TransshipError
from service.model.migration import FREEZE, INVENTORY, Migration, SurveyState, WaveState
from service.model.states import ExecutionState
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.fleet_migrations import HELD, MigrationStore
from service.store.migration_surveys import SurveyStore
from service.store.migration_values import StoredMigration, StoredWave
from service.store.rules import RuleStore
from service.store.survey_values import OPEN
from service.telemetry import get_logger

OUTSIDE = f"{HELD}it is outside of its windows"

log = get_logger("migration")


class MigrationKeeper:
    """Brings waves forward; any process may, under a lease one does. What it does twice changes nothing."""

    def __init__(
        self,
        store: MigrationStore,
        surveys: SurveyStore,
        rules: RuleStore,
        executions: ExecutionStore,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`now` is the time, for the windows."""
        self._store = store
        self._surveys = surveys
        self._rules = rules
        self._executions = executions
        self._now = now

    def step(self) -> None:
        """Do what is due; one wave's trouble does not keep the others back."""
        for stored, wave in self._store.moving():
            try:
                self._wave(stored, wave)
            except StoreUnavailable:
                raise
            except TransshipError as error:
                log.warning("wave_not_started", migration=wave.migration, wave=wave.name)
                self._store.end(wave, WaveState.FAILED, error.message)

    def is_closed(self, migration: Migration) -> bool:
        """Whether a migration is outside of its windows now."""
        return not migration.open_at(self._now().astimezone(ZoneInfo(migration.timezone)))

    def _wave(self, stored: StoredMigration, wave: StoredWave) -> None:
        migration = stored.migration
        open_now = stored.paused_at is None and not self.is_closed(migration)
        if wave.execution:
            record = self._executions.get(wave.execution)
            if record.state.ended:
                self._ended(wave, record)
            elif not open_now:
                self._executions.request_stop(record.id, reason=OUTSIDE)
        elif open_now:
            self._start(migration, wave)

    def _ended(self, wave: StoredWave, record: ExecutionRecord) -> None:
        self._store.keep_before(wave.migration, record.id)
        if record.state is ExecutionState.SUCCEEDED:
            self._store.end(wave, WaveState.DONE)
        elif record.state is ExecutionState.STOPPED and record.reason.startswith(HELD):
            self._store.let_go(wave)
            return
        else:
            hint = f"transship executions failures {record.id}, then start the wave again"
            reason = f"execution {record.id} ended {record.state}"
            told = f": {record.reason}" if record.reason else ""
            self._store.end(wave, WaveState.FAILED, f"{reason}{told} ({hint})")
        log.info("wave_ended", migration=wave.migration, wave=wave.name, state=record.state)

    def _start(self, migration: Migration, wave: StoredWave) -> None:
        """Write the wave's rule for the repositories that are known by now, and have it run."""
        latest = self._surveys.latest(migration.name)
        looks = [latest[kind] for kind in (INVENTORY, FREEZE) if kind in latest]
        ended = [one for one in looks if one.state is SurveyState.ENDED]
        if not ended or any(one.state in OPEN for one in looks):
            return  # begun in the moment in which the wave was: what it finds is what the wave moves
        newest = max(ended, key=lambda one: one.id)
        repositories = [
            one.repository for one in self._surveys.every_repository(newest.id, wave.position)
        ]
        if not repositories:
            self._store.end(wave, WaveState.DONE)
            return
        name = migration.rule_name(wave.name)
        rule = migration.rule(name, repositories)
        document = {  # what it selects stands in its effective form: too long to be read twice
            "name": name,
            "project": rule.project,
            "source": rule.source,
            "destinations": [{"registry": migration.destination}],
        }
        self._rules.put(rule, document=document, set_name=migration.owner)
        execution = self._store.run(wave, rule)
        log.info("wave_started", migration=wave.migration, wave=wave.name, execution=execution)
