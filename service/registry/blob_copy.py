"""Copy one blob from registry to registry: bounded memory, hashed as it flows, resumed where it can be.

One blocking thread a blob: receive into a reused buffer, hash, send. The last piece is held back
until the digest holds, so no registry is ever given a complete wrong blob.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from service.crashpoints import crashpoint
from service.errors import (
    Cancelled,
    NetworkError,
    ProtocolError,
    RegistryAway,
    RegistryError,
    Rejected,
    ServerError,
    Throttled,
    UploadLost,
)
from service.model.descriptor import Descriptor
from service.protections import without
from service.registry.buffers import BUFFERS
from service.registry.connection import Connection, Response
from service.registry.feed import Feeds
from service.registry.limiter import Limiter, hold_all, streaming
from service.registry.results import UploadSession
from service.registry.timeouts import RateGuard

if TYPE_CHECKING:
    from service.registry.client import RegistryClient

WHOLE_BYTES = 256 * 1024  # up to here a blob is read and verified before the upload begins
MAX_UPLOADS = 4  # tries at the destination
MAX_RESUMES = 5  # failures of the source in a row without PROGRESS_BYTES between them
PROGRESS_BYTES = 1024 * 1024
CHECKPOINT_BYTES = 16 * 1024 * 1024


def copy_blob(
    source: RegistryClient,
    source_repository: str,
    destination: RegistryClient,
    destination_repository: str,
    descriptor: Descriptor,
    *,
    session: UploadSession | None = None,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    pace: Callable[[], Limiter] | None = None,
    feeds: Feeds | None = None,
) -> int:
    """Copy the blob; returns the bytes read from the source, repeated ones included.

    `session` is an open upload at the destination to be used (a mount that was not one); whatever
    happens it is used up or cancelled. `progress` is told of every piece read, in bytes;
    `cancelled` is asked before each; `pace` gives a limiter of bytes beside those of the registries.
    `feeds` are given every byte of a blob above WHOLE_BYTES, the last ones when its digest holds; whoever
    has made them ends them.

    Raises Cancelled, Corrupt (the source's bytes are not the descriptor's), BlobNotFound and the
    other RegistryErrors; `registry` in them names the side.
    """
    copy = _BlobCopy(
        source,
        source_repository,
        destination,
        destination_repository,
        descriptor,
        progress,
        cancelled,
        pace,
        feeds or Feeds(),
    )
    sides = (source.http.limiter, destination.http.limiter)
    try:
        with hold_all(*sides), streaming(*sides, pace() if pace is not None else None):
            copy.run(session)
    finally:
        copy.close()
    return copy.bytes_read


class _SourceFailed(Exception):
    """The source's error, told apart from the destination's on its way up."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(error.message)
        self.error = error


class _BlobCopy:
    def __init__(
        self,
        source: RegistryClient,
        source_repository: str,
        destination: RegistryClient,
        destination_repository: str,
        descriptor: Descriptor,
        progress: Callable[[int], None] | None,
        cancelled: Callable[[], bool] | None,
        pace: Callable[[], Limiter] | None,
        feeds: Feeds,
    ) -> None:
        self._source = source
        self._source_repository = source_repository
        self._destination = destination
        self._repository = destination_repository
        self._digest = descriptor.digest
        self._size = descriptor.size
        self._progress = progress
        self._cancelled = cancelled
        self._pace = pace
        self._feeds = feeds
        self.bytes_read = 0
        self._session: UploadSession | None = None
        self._opening: Connection | None = None  # a session asked for, its answer not yet read
        self._body: Response | None = None
        self._position = 0  # bytes of the blob hashed so far; the source's stream stands there
        self._hasher = descriptor.digest.hasher()
        self._checkpoints = [(0, descriptor.digest.hasher())]
        self._resumes = 0
        self._resumed_at = 0
        self._digest_refused = False
        name = f"{source.name} to {destination.name}"
        self._guard = RateGuard(destination.timeouts, name)
        self._buffer = memoryview(b"")

    def run(self, session: UploadSession | None) -> None:
        self._session = session
        try:
            self._check_cancelled()
            if session is None:
                self._opening = self._destination.uploads.begin_start(self._repository)
            if self._size <= WHOLE_BYTES:
                self._copy_whole()
            else:
                with BUFFERS.lend(self._size, self._destination.buffer_bytes) as self._buffer:
                    self._copy_stream()
        except _SourceFailed as failure:
            self._abandon()
            raise failure.error from failure.error.__cause__
        except BaseException:
            self._abandon()
            raise

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _copy_whole(self) -> None:
        data = self._source.read_blob(
            self._source_repository, self._digest, self._size, WHOLE_BYTES
        )
        self._account(len(data))
        self._feeds.put(0, data)
        session, self._session = self._session or self._open_session(), None
        crashpoint("blob.session_open")
        crashpoint("blob.before_final_put")
        self._destination.put_blob(self._repository, self._digest, data, session)
        self._moved(len(data))

    def _copy_stream(self) -> None:
        self._rewind(0)  # opens the source, whose absence is better known before the upload
        attempt = 0
        while True:
            attempt += 1
            try:
                if self._session is None:
                    self._session = self._open_session()
                crashpoint("blob.session_open")
                if self._destination.chunk_bytes or self._session.offset:
                    self._upload_chunks(self._session)
                else:
                    self._upload_at_once(self._session)
            except (
                UploadLost,
                NetworkError,
                ServerError,
                Throttled,
                Rejected,
                RegistryAway,
            ) as error:
                self._destination.http.named(error)
                if self._position == self._size and self._arrived():
                    break
                if not self._may_go_on(error) or attempt >= MAX_UPLOADS:
                    raise
                if isinstance(error, RegistryAway):  # until then nothing is answered
                    self._destination.http.back_off(attempt, error)
                    self._session = self._resumable(error)
                else:
                    self._session = self._resumable(error)
                    self._destination.http.back_off(attempt, error)
            else:
                break
        self._session = None

    def _open_session(self) -> UploadSession:
        connection, self._opening = self._opening, None
        return self._destination.uploads.finish_start(self._repository, connection)

    def _upload_at_once(self, session: UploadSession) -> None:
        self._rewind(0)
        uploads = self._destination.uploads
        connection = uploads.begin_put(session, self._digest, self._size)
        self._pump(connection, 0, self._size)
        crashpoint("blob.before_final_put")
        uploads.finish_put(connection, session, self._digest, self._size)

    def _upload_chunks(self, session: UploadSession) -> None:
        uploads = self._destination.uploads
        chunk = self._destination.chunk_of(self._size - session.offset, session.minimum_chunk)
        rounds = 0
        while session.offset < self._size:
            start, stop = session.offset, min(session.offset + chunk, self._size)
            self._rewind(start)
            connection = uploads.begin_patch(session, start, stop)
            self._pump(connection, start, stop)
            session = self._session = uploads.finish_patch(connection, session, stop)
            rounds = 0 if session.offset > start else rounds + 1
            if rounds > MAX_RESUMES:
                raise ProtocolError(f"{self._destination.name}: an upload that does not grow")
        self._finish_hash()
        connection = uploads.begin_put(session, self._digest, 0)
        uploads.finish_put(connection, session, self._digest, self._size)

    def _pump(self, connection: Connection, start: int, stop: int) -> None:
        """Send the bytes from `start` to before `stop`; what lies before `start` is only hashed.

        Ends early when the destination has closed: its answer says why.
        """
        try:
            while self._position < stop:
                self._check_cancelled()
                skipping = self._position < start
                most = (start if skipping else stop) - self._position
                for gate in self._gates():
                    most = gate.piece(most)
                began = self._guard.now()
                piece = self._read(most)
                if self._position == self._size:
                    self._check_digest()
                began += self._feed(piece)
                if skipping:
                    self._moved(len(piece), sent=False)
                    continue
                if not connection.send(piece):
                    return
                self._guard.moved(len(piece), began)
                self._account(len(piece))
                self._moved(len(piece))
        except BaseException:
            connection.close()
            raise

    def _read(self, most: int) -> memoryview:
        """Receive and hash the next piece; a source that breaks off is gone on with by Range."""
        view = self._buffer[:most] if most < len(self._buffer) else self._buffer
        while True:
            try:
                body = self._body or self._open()
                count = body.readinto(view)
                if count == 0:
                    raise NetworkError(
                        f"{self._source.name}: {self._size - self._position} bytes short of "
                        f"{self._digest}",
                        registry=self._source.name,
                    )
                break
            except RegistryError as error:
                self._after_source_failure(error)
        piece = view[:count]
        self._hasher.update(piece)
        self._position += count
        self.bytes_read += count
        if self._position >= self._checkpoints[-1][0] + CHECKPOINT_BYTES:
            self._checkpoints.append((self._position, self._hasher.copy()))
        return piece

    def _feed(self, piece: memoryview) -> float:
        """Hand what was just read to those that write it elsewhere; returns the seconds that it was waited for them."""
        return self._feeds.put(self._position - len(piece), piece)

    def _open(self) -> Response:
        """Open the source's stream at the present position."""
        blobs = self._source.blobs
        body = blobs.open(self._source_repository, self._digest, self._position)
        start = self._position if body.status == 206 else 0
        if body.length is not None and body.length != self._size - start:
            found = body.length + start
            body.close()
            raise blobs.corrupt(
                self._source_repository, self._digest, f"{found} bytes instead of {self._size}"
            )
        self._body = body
        while start < self._position:  # Range was ignored: read over what is known
            most = min(len(self._buffer), self._position - start)
            count = body.readinto(self._buffer[:most])
            if count == 0:
                raise NetworkError(f"{self._source.name}: the blob broke off")
            start += count
            self.bytes_read += count
        return body

    def _after_source_failure(self, error: RegistryError) -> None:
        """Wait and let the source be opened again; raises _SourceFailed when it is enough."""
        self.close()
        self._source.http.named(error)
        if self._position - self._resumed_at >= PROGRESS_BYTES:
            self._resumes = 0
        self._resumes += 1
        self._resumed_at = self._position
        transient = isinstance(
            error, NetworkError | ServerError | Throttled | ProtocolError | RegistryAway
        )
        if not transient or self._resumes > MAX_RESUMES:
            raise _SourceFailed(error)
        self._check_cancelled()
        try:
            self._source.http.back_off(min(self._resumes, 3), error)
        except RegistryError as refused:
            raise _SourceFailed(refused) from None

    def _rewind(self, start: int) -> None:
        """Bring source and hash to a checkpoint at or before `start`, and open the source."""
        if self._position > start:
            self.close()
            while self._checkpoints[-1][0] > start:
                self._checkpoints.pop()
            position, hasher = self._checkpoints[-1]
            self._position, self._hasher = position, hasher.copy()
        while self._body is None and self._position < self._size:
            try:
                self._open()
            except RegistryError as error:
                self._after_source_failure(error)

    def _finish_hash(self) -> None:
        """Read to the end what the destination already holds, so that the digest is known."""
        while self._position < self._size:
            self._check_cancelled()
            piece = self._read(self._size - self._position)
            if self._position == self._size:
                self._check_digest()
            self._feed(piece)
            self._moved(len(piece), sent=False)
        self._check_digest()

    def _check_digest(self) -> None:
        if self._hasher.hexdigest() != self._digest.encoded and not without("digest-check"):
            self.close()
            raise _SourceFailed(
                self._source.blobs.corrupt(
                    self._source_repository, self._digest, "other bytes than its digest names"
                )
            )

    def _may_go_on(self, error: RegistryError) -> bool:
        """Whether another upload may succeed; a 413 turns this client to chunks from now on.

        A digest that holds here and not there means bytes lost on the way, or a session that was
        resumed at the wrong place: once, it is begun anew.
        """
        if isinstance(error, Rejected):
            if error.oci_code == "DIGEST_INVALID" and not self._digest_refused:
                self._digest_refused = True
                return True
            if error.status != 413 or self._destination.chunk_bytes:
                return False
            self._destination.learn_chunks(self._session.minimum_chunk if self._session else 0)
            return self._destination.chunk_bytes is not None
        return True

    def _resumable(self, error: RegistryError) -> UploadSession | None:
        """Return the session to go on with by what the registry holds of it, None to start anew."""
        session, self._session = self._session, None
        if session is None:
            return None
        if isinstance(error, UploadLost) and error.status == 404:
            return None
        refused = isinstance(error, UploadLost) and error.status != 401  # 401: the token had ended
        if refused or isinstance(error, Rejected):
            self._destination.cancel_upload(session)
            return None
        if self._destination.capabilities.uploads == "whole":
            self._destination.cancel_upload(session)
            return None
        try:
            held = self._destination.uploads.status(session)
        except RegistryError:
            held = None
        if held is not None and 0 < held.offset <= self._size:
            return held
        self._destination.cancel_upload(session)
        return None

    def _arrived(self) -> bool:
        """Whether the blob is there although the answer was lost."""
        try:
            return self._destination.probe_blob(self._repository, self._digest, self._size)
        except RegistryError:
            return False

    def _account(self, count: int) -> None:
        if self._size <= WHOLE_BYTES:
            self.bytes_read += count
        if self._progress is not None:
            self._progress(count)

    def _gates(self) -> tuple[Limiter, ...]:
        """Return who has a say in how fast bytes move: both sides, and the rule."""
        gates = (
            self._source.http.limiter,
            self._destination.http.limiter,
            self._pace() if self._pace is not None else None,
        )
        return tuple(gate for gate in gates if gate is not None and gate.gated)

    def _moved(self, count: int, *, sent: bool = True) -> None:
        """Wait until the budgets have room for what was moved; unsent bytes are the source's alone."""
        for gate in self._gates():
            if sent or gate is self._source.http.limiter:
                gate.moved(count)

    def _check_cancelled(self) -> None:
        if self._cancelled is not None and self._cancelled():
            raise Cancelled

    def _abandon(self) -> None:
        if self._opening is not None:
            try:
                self._session = self._open_session()
            except RegistryError:
                return
        if self._session is not None:
            self._destination.cancel_upload(self._session)
            self._session = None
