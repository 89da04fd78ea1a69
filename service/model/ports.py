"""Where the use cases meet the outside: state, claims, queue. Each has one real implementation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from service.model.board import Board, Moment, Need
from service.model.work import (
    BlobPlaced,
    CopyRef,
    CopyWork,
    Errand,
    Outcome,
    PartWork,
    Presence,
    ProcessReport,
    Proof,
)

T = TypeVar("T")


class StatePort(Protocol):
    """How work reaches a worker and its outcome the state; SQL stands behind it at home."""

    def begin(self, refs: Sequence[CopyRef], boot: str) -> list[CopyWork]:
        """Own these dispatched copies and count an attempt; those with an old fence are left out."""

    def begin_part(self, ref: CopyRef, part: int, boot: str) -> PartWork | None:
        """Own the blobs of one part; None when the fence is old or the part is through."""

    def begin_commit(self, ref: CopyRef, boot: str) -> CopyWork | None:
        """Own a fanned-out copy for its commit; None when somebody has or had it."""

    def needs(self, copy: int) -> dict[int, Need]:
        """Return the other copies of the same reference that have not ended and are best fed from destinations."""

    def begin_ahead(self, copy: int, holder: int) -> CopyWork | None:
        """Return a copy that has not ended, to place blobs of it that are where another copy puts things.

        None when it has ended or is paused, or may not be fed from there. Nobody owns what is returned, and it says
        that it is ahead.
        """

    def let_go(self, copy: int, near: Sequence[str]) -> bool:
        """Let a copy begin whose blobs are there, if its image is committed at one of the registries in `near`.

        Those are the registries that it is best fed from. Returns whether it was held back until now.
        """

    def is_open(self, copy: int) -> bool:
        """Whether a copy has not ended, and its rule is not paused."""

    def holds(self, ref: CopyRef) -> bool:
        """Whether the fence is still the copy's: asked right before a tag moves."""

    def released_digest(self, work: CopyWork) -> str | None:
        """Return the digest that a release has given the copy's tag, "" for no such tag, None for neither."""

    def presence(
        self, registry: str, scope: str, digests: Iterable[str], execution: str
    ) -> list[Presence]:
        """Return what the ledger believes of these blobs at a registry."""

    def epoch(self, registry: str, scope: str) -> int:
        """Return the registry's present epoch: it rises when what was proved there is void."""

    def digest_tags(
        self, execution: str, repository: str, prefixes: Iterable[str]
    ) -> tuple[list[str], bool]:
        """Return the listed referrer and cosign tags that belong to these digests.

        And whether the listing of the repository is complete: if not, there may be others.
        """

    def prove(self, execution: str, proofs: Sequence[Proof]) -> None:
        """Write proofs to the ledger; returns when they are durable."""

    def post(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes; returns when they are durable."""

    def part_failures(self, ref: CopyRef) -> list[BlobPlaced]:
        """Return the blobs of a fanned-out copy that were not placed, and why."""

    def heartbeat(self, report: ProcessReport) -> None:
        """Say that this process lives."""

    def release(self, boot: str, held: Callable[[], Collection[int]]) -> int:
        """Let go of copies that this process is said to own and that `held`, asked afterwards, lacks."""

    def farewell(self, boot: str) -> None:
        """Say that this process ends in order: its slots are gone, and nothing that it held is lost."""


class ClaimState(StrEnum):
    """What a claim on a blob came to."""

    MINE = "mine"
    HELD = "held"
    DONE = "done"
    CORRUPT = "corrupt"


class ClaimPort(Protocol):
    """Who moves which blob to a registry right now. May be lost at any time without harm."""

    def claim(
        self,
        registry: str,
        scope: str,
        digest: str,
        token: str,
        *,
        source: tuple[str, str] = ("", ""),
        ahead: bool = False,
    ) -> tuple[ClaimState, str]:
        """Take the claim, or say why not; with DONE comes the repository that has the blob.

        CORRUPT: the blob was bad at `source` (registry, repository) a short while ago. HELD: another one moves
        the blob, or an errand is to bring it; an errand itself (`ahead`) does not wait for errands.
        """

    def announce(self, places: Sequence[tuple[str, str]], digest: str, seconds: float) -> None:
        """Have copies wait for so long for a blob that errands are to bring to registries (each with its scope)."""

    def withdraw(self, registry: str, scope: str, digest: str, *, placed: bool) -> list[int]:
        """Have nobody wait for an errand any more; returns who waited: all of them, or who leads now."""

    def forgive(self, execution: str, source: tuple[str, str], digest: str) -> bool:
        """Forget that a blob was bad at its source before an execution was made, once for each; whether this call did."""

    def wait(self, registry: str, scope: str, digest: str, copy: int) -> bool:
        """Register the copy as a waiter; False when nobody is to bring the blob any more."""

    def moving(self, registry: str, scope: str, digest: str) -> bool:
        """Whether a live process is moving the blob now, or an errand is to bring it."""

    def finish(
        self, registry: str, scope: str, digests: Sequence[str], token: str, repository: str
    ) -> list[int]:
        """Turn claims into done markers and return the copies that waited."""

    def give_up(
        self,
        registry: str,
        scope: str,
        digest: str,
        token: str,
        *,
        corrupt: bool = False,
        missing: bool = False,
        source: tuple[str, str] = ("", ""),
    ) -> list[int]:
        """Let a claim go after a failure and return the waiter that leads now."""


class BoardPort(Protocol):
    """The boards of executions (service/model/board.py). May be lost at any time without harm."""

    def change(self, execution: str, work: Callable[[Board, Moment], T]) -> T:
        """Have `work` read and change the board as if it were alone, and return what it returns.

        `work` may be called again when another process was faster. Raises RedisError.
        """


class Publisher(Protocol):
    """Sends 'go and look at row X' to the queue of a region."""

    def plan(self, execution: str, *, urgent: bool = False, region: str | None = None) -> None:
        """Have the execution's selection listed and compared, by workers of a region if one is given."""

    def replicate(self, region: str, pages: Sequence[Sequence[CopyRef]], *, urgent: bool) -> None:
        """Have each page of copies carried out by one task."""

    def fan_out(
        self,
        region: str,
        ref: CopyRef,
        task_ids: Sequence[str],
        labels: Sequence[str],
        *,
        urgent: bool = False,
    ) -> None:
        """Have each part of a copy placed by a task, and the copy committed after the last one."""

    def part(self, region: str, ref: CopyRef, part: int, task_id: str) -> None:
        """Have one part of a fanned-out copy placed, and the copy committed if it was the last one."""

    def ahead(self, region: str, errand: Errand, label: str) -> None:
        """Have a blob of copies placed before they begin; may be lost without harm."""

    def waiting(self, region: str) -> int:
        """Return how many messages stand in the queues of a region."""

    def depths(self, region: str) -> dict[str, int]:
        """Return how many messages stand in each queue of a region: urgent, commit, copy."""

    def examine(self, region: str, examination: str) -> None:
        """Have an examination of a registry carried out by a worker of the region, soon."""

    def delete(self, region: str, piece: str, registries: Sequence[str]) -> None:
        """Have a piece of deletions done by a worker of the region, soon."""

    def check(self, region: str, registries: Sequence[str]) -> None:
        """Have registries asked by a worker of the region whether they are well, soon; may be lost without harm."""

    def release_part(self, place: str, release: str, region: str, fence: int) -> None:
        """Have what a release has to do in a region done by workers of `place`, soon."""

    def commit(self, region: str, ref: CopyRef) -> None:
        """Have a copy committed."""
