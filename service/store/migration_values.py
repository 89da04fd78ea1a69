"""Migrations and their waves as rows hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from service.model.migration import OWNER, Migration, WaveState
from service.store import codec


@dataclass(frozen=True, slots=True)
class StoredMigration:
    """One migration with its document and version."""

    migration: Migration
    document: dict[str, Any]
    paused_at: float | None
    version: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class StoredWave:
    """One wave. `executions`: of this run, the newest last; `history`: of the runs before it."""

    migration: str
    position: int
    name: str
    state: WaveState
    delta: bool
    execution: str
    executions: tuple[str, ...]
    history: tuple[str, ...]
    figures: dict[str, Any]
    reason: str
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Before:
    """What stood under one name at the destination: its digest, "" for nothing; and what we wrote there."""

    repository: str
    tag: str
    digest: str
    written: str | None


Waves = list[StoredWave]


def dump(migration: Migration) -> str:
    """Return the JSON text of a migration."""
    return codec.dump(migration)


def load_migration(text: str) -> Migration:
    """Return the migration that `dump` wrote."""
    return codec.load(Migration, json.loads(text))


def owner_of(set_name: str | None) -> str | None:
    """Return the migration that a rule of a set belongs to; None for any other rule."""
    return set_name.removeprefix(OWNER) if set_name and set_name.startswith(OWNER) else None


def as_wave(row: Row[Any]) -> StoredWave:
    """Return the wave of a row."""
    return StoredWave(
        row.migration,
        row.position,
        row.name,
        WaveState(row.state),
        bool(row.delta),
        row.execution_id,
        tuple(json.loads(row.executions)),
        tuple(json.loads(row.history)),
        json.loads(row.figures),
        row.reason,
        row.started_at,
        row.ended_at,
    )


def as_migration(row: Row[Any]) -> StoredMigration:
    """Return the migration of a row."""
    return StoredMigration(
        load_migration(row.spec),
        json.loads(row.document),
        row.paused_at,
        row.version,
        row.created_at,
        row.updated_at,
    )
