"""A replica: one destination of a rule that keeps the whole instance of a primary (issue 6 point 4)."""

from __future__ import annotations

from dataclasses import dataclass

REPORT, REPAIR = "report", "repair"
"""What a rule does about drift that it would overwrite: tell of it, or put the primary's content back."""

MOVED, DELETED, ADDED = "moved", "deleted", "added"
KINDS = (MOVED, DELETED, ADDED)
"""A tag that names something else, a tag of ours that is gone, and a tag or repository that is not the primary's."""

OPEN, REPAIRED = "open", "repaired"

PREPARING, COPYING, CAUGHT_UP, BEHIND, FENCED = (
    "preparing",
    "copying",
    "caught_up",
    "behind",
    "fenced",
)
STATES = (PREPARING, COPYING, CAUGHT_UP, BEHIND, FENCED)
"""A replica's life: it waits for the run that brings it everything, that run goes on, it has everything, it
lacks a change. A former primary is fenced: left alone until it follows."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What SQL holds of a replica; times are seconds since 1970 by the database's clock.

    `held`: it was the primary, so nothing there is overwritten before somebody has asked for that.
    `compared_in`: the last full execution after which its own listing was compared, at `compared_at`.
    `note`: what the last comparison could not look at.
    """

    rule: str
    registry: str
    joined_at: float
    caught_up_at: float | None = None
    fenced: bool = False
    held: bool = False
    repair_asked_at: float | None = None
    compared_in: str = ""
    compared_at: float | None = None
    told: int = 0
    note: str = ""

    def overwrites(self, policy: str) -> bool:
        """Whether what somebody else moved there is put right, by a rule whose `drift` is `policy`."""
        if self.repair_asked_at is not None:
            return True
        return policy == REPAIR and not self.held


@dataclass(frozen=True, slots=True)
class Progress:
    """The copies to a replica in the run that brings it everything."""

    copied: int = 0
    waiting: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that somebody else changed at a replica.

    `tag` is "" for a repository that the primary has not; `wanted` and `found` are digests, "" for none.
    """

    rule: str
    registry: str
    repository: str
    tag: str
    kind: str
    wanted: str = ""
    found: str = ""
    state: str = OPEN
    first_at: float = 0.0
    seen_at: float = 0.0
    repaired_at: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a replica lacks, or may lack, and would be lost with the primary; `why` says how it is known."""

    repository: str
    tag: str
    why: str
    held_by: str = ""  # another replica that has it


def state_of(replica: Replica, *, begun: bool, lag_seconds: float) -> str:
    """Return where a replica is in its life; `begun`: the run that brings it everything has copies."""
    if replica.fenced:
        return FENCED
    if replica.caught_up_at is None:
        return COPYING if begun else PREPARING
    return BEHIND if lag_seconds > 0 else CAUGHT_UP
