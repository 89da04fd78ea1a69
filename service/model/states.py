"""The states of executions and copies, and where each may go: forward only (promise 5)."""

from __future__ import annotations

from enum import StrEnum


class ExecutionState(StrEnum):
    """Where one run of one rule stands."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in ENDED_EXECUTIONS


ENDED_EXECUTIONS = frozenset(
    {
        ExecutionState.SUCCEEDED,
        ExecutionState.PARTIAL,
        ExecutionState.FAILED,
        ExecutionState.STOPPED,
    }
)


class CopyState(StrEnum):
    """Where one reference on its way to one destination stands.

    Open states may alternate (a copy that waits runs again); an ended one never changes.
    """

    PENDING = "pending"  # eligible once not_before has passed
    DISPATCHED = "dispatched"  # sent to the queue, not yet taken
    RUNNING = "running"  # a process holds it
    COPYING = "copying"  # fanned out: its blob tasks are on the queue
    WAITING = "waiting"  # another copy is moving a blob that this one needs
    COPIED = "copied"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in OPEN_COPIES


OPEN_COPIES = frozenset(
    {
        CopyState.PENDING,
        CopyState.DISPATCHED,
        CopyState.RUNNING,
        CopyState.COPYING,
        CopyState.WAITING,
    }
)


class BlobState(StrEnum):
    """Where one blob of a fanned-out copy stands."""

    PENDING = "pending"
    COPIED = "copied"
    MOUNTED = "mounted"
    PRESENT = "present"
    WAITING = "waiting"
    FAILED = "failed"
