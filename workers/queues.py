"""Queue names, and which of them a region's workers serve, in the order of urgency."""

from __future__ import annotations

CONTROL = "control"
URGENT_CONTROL = "control.urgent"
"""Plannings that somebody waits for: served by workers of every region, so that one without any keeps none."""


def urgent(region: str) -> str:
    """Return the queue of urgent copies that the region's workers carry out."""
    return f"urgent.{region}"


def copy(region: str) -> str:
    """Return the queue of all other copies and of large blobs."""
    return f"copy.{region}"


def control(region: str) -> str:
    """Return the queue of plannings that workers of one region alone may do."""
    return f"control.{region}"


def commit(region: str) -> str:
    """Return the queue of commits, carried out in the destination's region."""
    return f"commit.{region}"


def served_by(region: str, *, urgent_only: bool = False) -> list[str]:
    """Return the queues of a region's workers: a free slot takes from the first that has work."""
    if urgent_only:
        return [urgent(region), URGENT_CONTROL, commit(region)]
    return [
        urgent(region),
        URGENT_CONTROL,
        commit(region),
        control(region),
        CONTROL,
        copy(region),
    ]
