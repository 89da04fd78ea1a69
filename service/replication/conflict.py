"""What stands at the destination under the name that a copy is to write, and what the rule says of it."""

from __future__ import annotations

from service.errors import InvalidInput
from service.model.digest import Digest
from service.model.reference import is_digest_tag
from service.model.states import CopyState
from service.model.work import CopyEnded, CopyWork, Counters, held_reason
from service.replication.engine import Engine

OVERWRITE, KEEP, FAIL = "overwrite", "keep", "fail"


def standing(
    engine: Engine, work: CopyWork, counters: Counters, digest: Digest
) -> CopyEnded | None:
    """Return the end of a copy that has nothing to write, or may not; None: go on.

    Asked before the first byte moves and again right before the tag does (reliability.md P5: a rule
    that does not overwrite never changes an existing tag). At a replica, what was moved since it was
    compared is kept. Costs no request where the rule overwrites, and no other copy went before this one.
    """
    if work.held_by:
        reason = held_reason(work.held_by)
        return CopyEnded(work, CopyState.SKIPPED, counters, reason=reason)
    policy = OVERWRITE if is_digest_tag(work.destination_reference) else work.on_conflict
    expected = "" if work.late or is_digest_tag(work.destination_reference) else work.expected
    if policy == OVERWRITE and not work.late and not expected:
        return (
            None  # cosign and fallback tags grow: the destination's are always brought up to date
        )
    destination = engine.clients.get(work.destination_registry)
    try:
        there = destination.head_manifest(work.destination_repository, work.destination_reference)
    except InvalidInput:
        there = None  # what is there is no image: judged as any other content below
        if policy != OVERWRITE:
            return conflict(work, counters, policy, "something that is no image")
    if there is None:
        return None
    if there.digest == digest:
        if work.repair or not work.late:
            return None  # planned, though in place: something behind it is not there
        return CopyEnded(work, CopyState.UNCHANGED, counters, digest=str(digest))
    if policy == OVERWRITE:
        if not expected or str(there.digest) == expected:
            return None
        reason = drifted(work, str(there.digest))
        return CopyEnded(work, CopyState.SKIPPED, counters, reason=reason)
    return conflict(work, counters, policy, str(there.digest))


def conflict(work: CopyWork, counters: Counters, policy: str, found: str) -> CopyEnded:
    """Return the end of a copy whose name is taken: skipped or failed, as the policy says."""
    name = f"{work.destination_repository}:{work.destination_reference}"
    if policy == KEEP:
        return CopyEnded(work, CopyState.SKIPPED, counters, reason=kept(name, found))
    return CopyEnded(
        work,
        CopyState.FAILED,
        counters,
        failure_class="conflict",
        reason=refused(name, found),
        hint=HINT,
    )


def drifted(work: CopyWork, found: str) -> str:
    """Return the reason of a copy whose tag somebody else has moved since it was compared."""
    name = f"{work.destination_repository}:{work.destination_reference}"
    return f"somebody else moved {name} to {found} meanwhile: the next comparison tells of it"


HINT = "delete the tag at the destination, or let the rule overwrite or keep it (on_conflict)"


def kept(name: str, found: str) -> str:
    """Return the reason of a skipped copy."""
    return f"{name} is {found} already, and on_conflict is keep"


def refused(name: str, found: str) -> str:
    """Return the reason of a failed copy."""
    return f"{name} is {found} already, and on_conflict is fail"
