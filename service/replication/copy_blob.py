"""Copy a blob: in place already? mount it? else claim it, stream it and prove it (DESIGN section 4).

Nothing counts as placed without a byte read in this execution, or an upload by it: HEAD 200 and
mount 201 prove nothing on a registry that has collected garbage (reliability.md M8).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from service.crashpoints import crashpoint
from service.errors import (
    AuthenticationFailed,
    BlobNotFound,
    Cancelled,
    Corrupt,
    Denied,
    LeftOut,
    RegistryAway,
    RepositoryNotFound,
)
from service.model.descriptor import Descriptor
from service.model.ports import ClaimState
from service.model.work import CopyWork, Counters, LedgerDistrusted, Presence, Proof, Wake
from service.registry.blob_copy import copy_blob as stream
from service.registry.fed_upload import upload_fed
from service.registry.feed import Feed, Feeds
from service.registry.results import MOUNTED, UploadSession
from service.replication.engine import Engine
from service.replication.rule_pace import pace_of
from service.telemetry import get_logger

if TYPE_CHECKING:
    from service.replication.onward import Onward

HEAD_FROM_BYTES = 32 << 10
"""Below this an upload costs the destination no more than the question whether it is needed."""

HEAD_ALWAYS_FROM_BYTES = 1 << 20
"""From here on a question is cheap beside the bytes, whatever is known of the destination."""

MOUNT_TRIES = 2

log = get_logger("copy_blob")


class BlobPlacer:
    """Places the blobs of one copy at its destination and keeps account of what is proved.

    Blobs do not depend on each other: over slow links they are placed side by side.
    """

    def __init__(
        self,
        engine: Engine,
        work: CopyWork,
        counters: Counters,
        onward: Onward | None = None,
        feed: Feed | None = None,
    ) -> None:
        """`onward` sends large blobs on to others; `feed` brings the bytes of the one blob that is placed."""
        self._engine = engine
        self._work = work
        self._counters = counters
        self._source = engine.clients.get(work.reads_from.registry)
        self._destination = engine.clients.get(work.destination_registry)
        self._scope = engine.clients.scope(work.destination_registry)
        self._origin = (work.reads_from.registry, work.reads_from.repository)
        self._token = f"{engine.boot}/{os.urandom(6).hex()}"
        self._cancelled = engine.cancelled(work)
        self._pace = pace_of(engine.limiters, work)
        self._onward = onward
        self._feed = feed
        self._lock = threading.Lock()
        self._fresh_proofs: list[Proof] = []
        self._uploaded: list[str] = []
        self._near: dict[str, tuple[str, float | None]] = {}
        self.proved: set[str] = set()

    # ---- without moving bytes --------------------------------------------------------------------

    def settle(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Prove what is in place, mount what the registry has elsewhere; return what is missing.

        The proofs reach the ledger with the next flush.
        """
        wanted = [blob for blob in blobs if str(blob.digest) not in self.proved]
        known = self._known(wanted)

        def settled(blob: Descriptor) -> bool:
            self._check_cancelled()
            return self._settle_one(blob, known.get(str(blob.digest), []))

        def answers() -> float:
            sides = self._source.answers_within("blob"), self._destination.answers_within("mount")
            return max(sides)

        found = self._engine.beside.each(wanted, settled, answers=answers)
        return [blob for blob, there in zip(wanted, found, strict=True) if not there]

    def _known(self, blobs: Sequence[Descriptor]) -> dict[str, list[Presence]]:
        known: dict[str, list[Presence]] = {}
        if blobs:
            for row in self._engine.state.presence(
                self._work.destination_registry,
                self._scope,
                [str(blob.digest) for blob in blobs],
                self._work.execution,
            ):
                known.setdefault(row.digest, []).append(row)
        for (
            blob
        ) in blobs:  # a size that the ledger does not know is the bytes' to judge, not a proof's
            digest = str(blob.digest)
            known[digest] = [r for r in known.get(digest, ()) if r.size in (-1, blob.size)]
        return known

    def _settle_one(self, blob: Descriptor, rows: list[Presence]) -> bool:
        here = [row for row in rows if row.repository == self._work.destination_repository]
        if any(row.proved_here for row in here):
            self.proved.add(str(blob.digest))
            return True
        if here:
            if self._probe(blob):
                self._present(blob)
                return True
            self._distrust(
                f"{blob.digest} was in {self._work.destination_repository} and is gone",
                here[0].proved_at,
            )
            return False
        if self._destination.asking_is_free and self._in_place(blob) and self._may_be_had(blob):
            self._present(blob)
            return True
        elsewhere = sorted(rows, key=lambda row: not row.proved_here)
        return any(
            self._mount(blob, row.repository, row.proved_at) for row in elsewhere[:MOUNT_TRIES]
        )

    def _proved_meanwhile(self, blob: Descriptor) -> bool:
        """Whether another copy of the execution has proved it here, since this one has looked."""
        rows = self._known([blob]).get(str(blob.digest), ())
        here = self._work.destination_repository
        return any(row.proved_here and row.repository == here for row in rows)

    def _mount(self, blob: Descriptor, repository: str, proved_at: float | None = None) -> bool:
        """Mount a blob and prove it; `proved_at`: when the ledger says that it was there.

        Only what the source has in the repository that is copied: the other one may be somebody else's, and a
        manifest can name any digest.
        """
        if repository == self._work.destination_repository or not self._is_the_sources(blob):
            return False
        result = self._destination.mount_blob(
            self._work.destination_repository, blob.digest, repository
        )
        if isinstance(result, UploadSession):
            self._destination.cancel_upload(result)
        if result is not MOUNTED:
            self._near.setdefault(str(blob.digest), (repository, proved_at))
            return False
        if not self._probe(blob):
            if proved_at is not None:
                self._distrust(
                    f"{blob.digest} was mounted from {repository} but cannot be read", proved_at
                )
            return False
        self._count(mounted=1, saved=blob.size)
        self._prove(blob)
        return True

    def _is_the_sources(self, blob: Descriptor) -> bool:
        return self._engine.source_blobs.has(self._source, self._origin[1], blob)

    def _probe(self, blob: Descriptor) -> bool:
        return self._destination.probe_blob(
            self._work.destination_repository, blob.digest, blob.size
        )

    def _present(self, blob: Descriptor) -> None:
        self._count(present=1, saved=blob.size)
        self._prove(blob)

    # ---- moving bytes ----------------------------------------------------------------------------

    def transfer(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Move missing blobs, each under a claim; return those that somebody else is moving.

        Raises RegistryError for the first one that fails, after the others so far are on the ledger,
        and Cancelled.
        """
        wanted = list(blobs)

        def moved(blob: Descriptor) -> bool:
            self._check_cancelled()
            return self._transfer_one(blob)

        try:
            found = self._engine.beside.each(wanted, moved, answers=self._answers_within)
        finally:
            self.flush()
        return [blob for blob, there in zip(wanted, found, strict=True) if not there]

    def _answers_within(self) -> float:
        """Return the seconds that the slower of both sides takes for an answer."""
        return max(self._source.answers_within("blob"), self._destination.answers_within("upload"))

    def _transfer_one(self, blob: Descriptor) -> bool:
        digest = str(blob.digest)
        state, detail = self._claim(digest)
        if state is ClaimState.CORRUPT and self._work.asked_again and self._forgive(digest):
            state, detail = self._claim(digest)
        if state is ClaimState.HELD:
            return False
        if state is ClaimState.CORRUPT:
            raise Corrupt(
                f"the source's blob {digest} was found corrupt or missing within the last ten minutes, "
                "and is not read again until then",
                registry=self._origin[0],
                hint="once the source has been mended, run the rule by hand or retry what failed",
            )
        if state is ClaimState.DONE:
            if detail == self._work.destination_repository and (
                self._proved_meanwhile(blob) or self._probe(blob)
            ):
                self._present(blob)
                return True
            if self._mount(blob, detail):
                return True
            self._stream(blob)  # the marker was wrong: do it without a claim
            self._prove(blob)
            return True
        try:
            crashpoint("blob.leased")
            if self._look_first(blob) and self._in_place(blob) and self._may_be_had(blob):
                self._present(blob)
            else:
                self._stream(blob)
                crashpoint("blob.after_put_before_sql")
                self._prove(blob)
                if self._onward is not None:
                    self._onward.offer(blob)
        except BaseException as error:
            self._give_up(digest, error)
            raise
        self._uploaded.append(digest)
        return True

    def _claim(self, digest: str) -> tuple[ClaimState, str]:
        return self._engine.claims.claim(
            self._work.destination_registry,
            self._scope,
            digest,
            self._token,
            source=self._origin,
            ahead=self._work.ahead,
        )

    def _forgive(self, digest: str) -> bool:
        """Believe once that whoever asked again has mended the source."""
        return self._engine.claims.forgive(self._work.execution, self._origin, digest)

    def _look_first(self, blob: Descriptor) -> bool:
        if self._work.repair:
            return True  # all but a few of its blobs are there
        if self._destination.asking_is_free or self._source.leaves_out(
            self._work.reads_from.repository, blob.digest
        ):
            return True
        likely = self._work.retried or not self._work.fresh
        return blob.size >= HEAD_ALWAYS_FROM_BYTES or (likely and blob.size >= HEAD_FROM_BYTES)

    def _may_be_had(self, blob: Descriptor) -> bool:
        """Whether what is in place may count: a registry shows it there anyway, a layout has one file for all repositories."""
        return not self._destination.asking_is_free or self._is_the_sources(blob)

    def _in_place(self, blob: Descriptor) -> bool:
        size = self._destination.head_blob(self._work.destination_repository, blob.digest)
        return size == blob.size and self._probe(blob)

    def _stream(self, blob: Descriptor) -> None:
        near = self._near.pop(str(blob.digest), None)
        if near is not None and self._feed is not None:
            self._feed.leave()  # its bytes are at hand
        if near is None or not self._stream_from_near(blob, *near):
            self._stream_from_source(blob)
        self._count(copied=1)

    def _stream_from_near(self, blob: Descriptor, repository: str, proved_at: float | None) -> bool:
        """Copy from another repository of the destination, which would not mount it.

        No byte crosses the source's link a second time (issue 4). What it cannot be read from comes
        from the source; a destination that does not take the upload would not take it then either.
        """
        try:
            stream(
                self._destination,
                repository,
                self._destination,
                self._work.destination_repository,
                blob,
                cancelled=self._cancelled,
                pace=self._pace.current if self._pace is not None else None,
            )
        except RegistryAway:
            if self._destination.http.breaker.is_open:
                raise
            return False  # this repository is refused, not the credentials
        except LeftOut:
            return False  # a layout answers for its repository what only the other side has
        except (AuthenticationFailed, BlobNotFound, Corrupt, Denied, RepositoryNotFound) as error:
            log.info("not_near", digest=str(blob.digest), repository=repository, error=str(error))
            if proved_at is not None and isinstance(error, BlobNotFound | Corrupt):
                self._distrust(f"{blob.digest} was in {repository} and is gone", proved_at)
            return False
        self._count(saved=blob.size)
        return True

    def _stream_from_source(self, blob: Descriptor) -> None:
        pace = self._pace.current if self._pace is not None else None
        if self._feed is not None:
            read = upload_fed(
                self._destination,
                self._work.destination_repository,
                blob,
                self._feed,
                cancelled=self._cancelled,
                pace=pace,
            )
            self._count(read=read)
            return
        with self._turn(blob), self._along(blob) as feeds:
            read = stream(
                self._source,
                self._origin[1],
                self._destination,
                self._work.destination_repository,
                blob,
                cancelled=self._cancelled,
                pace=pace,
                feeds=feeds,
            )
        self._engine.source_blobs.add(*self._origin, blob)
        self._count(read=read)

    def _along(self, blob: Descriptor) -> AbstractContextManager[Feeds]:
        return nullcontext(Feeds()) if self._onward is None else self._onward.along(blob)

    def _turn(self, blob: Descriptor) -> AbstractContextManager[None]:
        """Wait for others on the same way, where the next hop waits for whole images."""
        if not self._work.routed:
            return nullcontext()
        return self._engine.turns.turn(
            (self._origin[0], self._work.destination_registry),
            (not self._work.urgent, -blob.size.bit_length(), self._work.ref.id),
            blob.size,
            answers=self._answers_within,
            cancelled=self._cancelled,
        )

    def _give_up(self, digest: str, error: BaseException) -> None:
        """Let the claim go; a blob that is bad at its source is remembered for a while."""
        at_source = getattr(error, "registry", "") == self._origin[0]
        woken = self._engine.claims.give_up(
            self._work.destination_registry,
            self._scope,
            digest,
            self._token,
            corrupt=at_source and isinstance(error, Corrupt),
            missing=at_source and isinstance(error, BlobNotFound),
            source=self._origin,
        )
        self._wake(woken)

    # ---- account ---------------------------------------------------------------------------------

    def _count(
        self, *, copied: int = 0, mounted: int = 0, present: int = 0, read: int = 0, saved: int = 0
    ) -> None:
        with self._lock:
            self._counters.blobs_copied += copied
            self._counters.blobs_mounted += mounted
            self._counters.blobs_present += present
            self._counters.bytes_copied += read
            if read:
                crossed = self._counters.crossed
                crossed[self._origin[0]] = crossed.get(self._origin[0], 0) + read
            self._counters.bytes_saved += saved

    def flush(self) -> None:
        """Write proofs durably, then turn claims into done markers and wake who waited."""
        proofs, self._fresh_proofs = self._fresh_proofs, []
        uploaded, self._uploaded = self._uploaded, []
        try:
            self._engine.state.prove(self._work.execution, proofs)
        except BaseException:
            for digest in uploaded:  # or this living process would keep others off them for good
                with suppress(RedisError):
                    self._engine.claims.give_up(
                        self._work.destination_registry,
                        self._scope,
                        digest,
                        self._token,
                        corrupt=False,
                    )
            raise
        crashpoint("blob.after_sql_before_done")
        if uploaded:
            woken = self._engine.claims.finish(
                self._work.destination_registry,
                self._scope,
                uploaded,
                self._token,
                self._work.destination_repository,
            )
            self._wake(woken)

    def wait_for(self, blob: Descriptor) -> bool:
        """Register the copy as a waiter for a blob; False when nobody moves it any more."""
        return self._engine.claims.wait(
            self._work.destination_registry, self._scope, str(blob.digest), self._work.ref.id
        )

    def _prove(self, blob: Descriptor) -> None:
        self.proved.add(str(blob.digest))
        self._fresh_proofs.append(
            Proof(
                self._work.destination_registry,
                self._scope,
                self._work.destination_repository,
                str(blob.digest),
                blob.size,
            )
        )

    def _wake(self, waiters: Sequence[int]) -> None:
        own = (
            None if self._work.ahead else self._work.ref.id
        )  # which may have begun, and waits for this
        others = tuple(copy for copy in waiters if copy != own)
        if others:
            self._engine.state.post([Wake(others)])

    def _distrust(self, reason: str, proved_at: float) -> None:
        self._engine.state.post(
            [LedgerDistrusted(self._work.destination_registry, self._scope, reason, proved_at)]
        )

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled
