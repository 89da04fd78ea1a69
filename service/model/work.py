"""Work items and outcomes: what crosses the StatePort between a worker and the state (DESIGN 7).

Plain values that could travel as JSON: references, digests and fences, never a credential.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.model.rule import BandwidthLimit
from service.model.states import BlobState, CopyState


@dataclass(frozen=True, slots=True)
class CopyRef:
    """A copy as a task names it. Every write of the task holds only while the fence is the same."""

    id: int
    fence: int
    label: str = field(default="", compare=False, repr=False)  # for people: what Flower shows


def held_reason(release: str) -> str:
    """Return why a copy does not move its tag while a release has it."""
    return f"release {release} moves this tag, nothing else, until it is deleted"


@dataclass(frozen=True, slots=True)
class Holder:
    """Where a copy's reference can be read: at its source, or where another copy has put it."""

    registry: str
    repository: str
    reference: str


@dataclass(frozen=True, slots=True)
class CopyWork:
    """One copy that this process now owns.

    `source_*` is what the rule means and whose tag decides; bytes come from `reads_from`.
    """

    ref: CopyRef
    execution: str
    rule: str
    region: str
    source_registry: str
    source_repository: str
    source_reference: str  # tag, or digest when the rule names one
    destination_registry: str
    destination_repository: str
    destination_reference: str
    digest: str
    referrers: bool
    listed: bool  # the source's tags were listed: digest_tags is complete
    fresh: bool  # the destination had no such tag when it was compared
    retried: bool  # begun before: some of its blobs may be there though no ledger says so
    failures: int
    replans: int
    throttles: int = 0
    urgent: bool = False
    asked: bool = False  # by an event or an earlier run: that it is gone is no failure
    asked_again: bool = False  # by a retry, a repair or by hand: the source may have been mended
    repair: bool = False  # the tag may be in place: what lies behind it is not
    late: bool = False  # another copy to the same name went before this one
    on_conflict: str = "overwrite"  # overwrite | keep | fail
    expected: str = ""  # at a replica, the digest that it may overwrite; "": whatever is there
    bandwidth: tuple[BandwidthLimit, ...] = ()  # of the rule, for all of the fleet
    timezone: str = "UTC"  # that the windows are told in
    types: tuple[str, ...] = ()  # of the entry that takes it; none means all
    platforms: tuple[str, ...] = ()
    signature_key: str | None = None  # PEM; nothing that it has not signed is copied
    holders: tuple[Holder, ...] = ()  # that have it besides the source, the nearest first
    holder: Holder | None = None  # that is read now; None: the source
    named: bool = True  # the rule names the destination itself, not only a group that it is in
    routed: bool = False  # other copies of its execution may go on from where it ends
    held_by: str = ""  # the release that alone moves the tag; "": none
    ahead: bool = False  # not begun: only blobs that are there already are placed, nobody owns it
    attempt: int = 0  # how often it was begun, this time included
    owner: str = ""  # the process that has begun it, by its boot id
    begun_at: float = 0.0  # this step of it, in seconds since 1970 by the database's clock

    @property
    def reads_from(self) -> Holder:
        """Where manifests and blobs are read."""
        return self.holder or Holder(
            self.source_registry, self.source_repository, self.source_reference
        )

    @property
    def named_by_digest(self) -> bool:
        """Whether its name at the destination holds its digest, so that another one needs another name."""
        encoded = self.digest.partition(":")[2]
        return bool(encoded) and any(
            encoded in name for name in (self.destination_reference, self.destination_repository)
        )


@dataclass(frozen=True, slots=True)
class Presence:
    """A row of the ledger: a byte of the blob was read there."""

    digest: str
    repository: str
    proved_here: bool  # by this execution, and recently enough to be believed
    proved_at: float = field(default=0.0, compare=False)  # by the database's clock
    size: int = field(default=-1, compare=False)  # in bytes, as it was read; -1: not told


@dataclass(frozen=True, slots=True)
class Proof:
    """This execution uploaded the blob there, or read a byte of it there."""

    registry: str
    scope: str
    repository: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class PartBlob:
    """One blob of a fanned-out copy."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Errand:
    """A large blob that is to be brought from where one copy puts things to where another one does.

    `holder` and `follower` are the ids of copies of one reference (docs/adr/0016).
    """

    execution: str
    blob: PartBlob
    holder: int
    follower: int


@dataclass(frozen=True, slots=True)
class PartWork:
    """The blobs that one copy_blob task places."""

    copy: CopyWork
    part: int
    blobs: tuple[PartBlob, ...]


@dataclass(slots=True)
class Counters:
    """What a step of work moved and spared, and the requests it sent by registry."""

    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_present: int = 0
    bytes_copied: int = 0
    bytes_saved: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    crossed: dict[str, int] = field(default_factory=dict)  # bytes by the registry they were read at
    borders: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of registries in `crossed`: the jurisdictions between which their bytes went."""

    def add(self, other: Counters) -> None:
        """Add another step's figures to this one's."""
        self.blobs_copied += other.blobs_copied
        self.blobs_mounted += other.blobs_mounted
        self.blobs_present += other.blobs_present
        self.bytes_copied += other.bytes_copied
        self.bytes_saved += other.bytes_saved
        for registry, count in other.requests.items():
            self.requests[registry] = self.requests.get(registry, 0) + count
        for registry, count in other.crossed.items():
            self.crossed[registry] = self.crossed.get(registry, 0) + count


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """The copy reached an ended state."""

    work: CopyWork
    state: CopyState
    counters: Counters
    digest: str = ""
    failure_class: str = ""
    reason: str = ""
    hint: str = ""
    platforms: str = ""  # that a sparse index was copied with; "": all that it has


@dataclass(frozen=True, slots=True)
class CopyPostponed:
    """The copy goes back to pending: a pause after a failure, or a re-plan at once."""

    work: CopyWork
    counters: Counters
    pause_seconds: float = 0.0
    failed: bool = False  # counts as a transient failure
    replanned: bool = False  # counts as a re-plan; digest is what to copy now
    digest: str = ""
    failure_class: str = ""
    reason: str = ""
    away: bool = False  # for a registry that is away, nobody knows for how long
    region: str = ""  # whose workers are to carry it out from now on; "": the same


@dataclass(frozen=True, slots=True)
class CopyWaits:
    """Another copy is moving a blob that this one needs."""

    work: CopyWork
    counters: Counters
    digest: str


@dataclass(frozen=True, slots=True)
class CopyFansOut:
    """The copy's blobs go to tasks of their own; `parts` are the blobs of each task."""

    work: CopyWork
    counters: Counters
    parts: tuple[tuple[PartBlob, ...], ...]
    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobPlaced:
    """What became of one blob of a part."""

    digest: str
    state: BlobState
    failure_class: str = ""
    reason: str = ""
    pause_seconds: float = 0.0  # what the registry asked for


@dataclass(frozen=True, slots=True)
class PartEnded:
    """A copy_blob task is through with its blobs."""

    part: PartWork
    counters: Counters
    blobs: tuple[BlobPlaced, ...]


@dataclass(frozen=True, slots=True)
class BlobsAhead:
    """Blobs of a copy were placed by an errand."""

    work: CopyWork
    counters: Counters


@dataclass(frozen=True, slots=True)
class LedgerDistrusted:
    """Evidence that the registry lost content: nothing proved before now is believed."""

    registry: str
    scope: str
    reason: str
    proved_at: float | None = None  # of the proof that is void; None: evidence of right now


@dataclass(frozen=True, slots=True)
class Wake:
    """These copies waited for a blob that is now there, or whose leader failed."""

    copies: tuple[int, ...]


Outcome = (
    CopyEnded
    | CopyPostponed
    | CopyWaits
    | CopyFansOut
    | PartEnded
    | BlobsAhead
    | LedgerDistrusted
    | Wake
)


@dataclass(frozen=True, slots=True)
class Selected:
    """One reference of the source, on its way to one destination, that differs there."""

    source_repository: str
    source_reference: str
    destination_registry: str
    destination_repository: str
    destination_reference: str
    digest: str
    region: str
    fresh: bool
    listed: bool
    absent: bool = False  # the destination has no such reference
    state: CopyState = CopyState.PENDING
    failure_class: str = ""
    reason: str = ""
    hint: str = ""
    entry: int = 0  # of the rule's select, that took it
    found: str = ""  # the digest that the destination had under the name
    via: tuple[str, str, str] = ("", "", "")  # the name it goes on from: registry, repository, tag


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """A process as it reports itself."""

    boot: str
    kind: str
    region: str
    slots: int
    host: str
    pid: int
