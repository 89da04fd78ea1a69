"""Migrations as the API answers them."""

from __future__ import annotations

from typing import Any

from api import render
from api.context import services
from service.model.migration import FREEZE, INVENTORY, PROOF, WaveState
from service.replication.migration_steps import is_proved, state_of
from service.store.migration_values import StoredMigration, StoredWave
from service.store.survey_values import OPEN, Survey


def show(stored: StoredMigration) -> dict[str, Any]:
    """Return a migration as JSON."""
    migration = stored.migration
    waves = services().migrations.waves(migration.name)
    surveys = services().migration_surveys.latest(migration.name)
    return {
        "schema": 1,
        "name": migration.name,
        "project": migration.project,
        "source": migration.source,
        "destination": migration.destination,
        "document": stored.document,
        "state": state_of(stored, waves, surveys),
        "proved": is_proved(waves, surveys),
        **{kind: _survey(surveys.get(kind)) for kind in (INVENTORY, FREEZE, PROOF)},
        "waves": [_wave(stored, wave) for wave in waves],
        "paused_at": render.instant(stored.paused_at),
        "version": stored.version,
        "created_at": render.instant(stored.created_at),
        "updated_at": render.instant(stored.updated_at),
    }


def _survey(found: Survey | None) -> dict[str, Any] | None:
    if found is None:
        return None
    store = services().migration_surveys
    is_open = found.state in OPEN
    figures = dict(found.figures)
    findings = figures.pop("findings", None)
    for one in (INVENTORY, FREEZE):  # what it stands on
        figures.pop(one, None)
    listed, so_far = store.progress(found.id)
    return {
        "state": found.state.value,
        "phase": found.phase if is_open else "",
        "reason": found.reason,
        "fleet": figures or so_far,
        "listed": listed,
        "findings": store.counts(found.id) if findings is None else findings,
        "created_at": render.instant(found.created_at),
        "ended_at": render.instant(found.ended_at),
    }


def _wave(stored: StoredMigration, wave: StoredWave) -> dict[str, Any]:
    progress = services().migration_steps.progress(wave)
    state = wave.state
    if state is WaveState.RUNNING and (
        stored.paused_at is not None or services().migration_keeper.is_closed(stored.migration)
    ):
        state = WaveState.PAUSED
    told = None
    if progress is not None:
        totals, left = progress.totals, progress.seconds_left
        told = {
            "copied": totals.copied,
            "unchanged": totals.unchanged,
            "skipped": totals.skipped,
            "failed": totals.failed,
            "pending": totals.pending,
            "bytes_copied": totals.bytes_copied,
            "bytes_saved": totals.bytes_saved,
            "seconds": round(progress.seconds, 3),
            "seconds_left": None if left is None else round(left, 1),
        }
    return {
        "name": wave.name,
        "rule": stored.migration.rule_name(wave.name),
        "state": state.value,
        "delta": wave.delta,
        "execution": wave.execution or None,
        "executions": [*wave.history, *wave.executions],
        "fleet": wave.figures,
        "progress": told,
        "reason": wave.reason,
        "started_at": render.instant(wave.started_at),
        "ended_at": render.instant(wave.ended_at),
    }
