"""The kinds of processes, and for how long each may be silent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case

from service.store.clock import now_epoch
from service.store.tables import processes

AGENT = "agent"
"""Stands for the workers of a far region: its slots are theirs, and no queue of ours reaches it."""


def is_alive(dead_after_seconds: float, agent_dead_after_seconds: float) -> Any:
    """Return the condition that a process has been heard of lately enough."""
    patience = case((processes.c.kind == AGENT, agent_dead_after_seconds), else_=dead_after_seconds)
    return processes.c.seen_at > now_epoch() - patience
