"""Blobs of a layout: files that are read as a registry's answers are, and written as uploads are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.errors import BlobNotFound, Corrupt, LayoutFailed, LeftOut, Rejected, Unsupported
from service.model.digest import Digest
from service.protections import without
from service.registry.blobs import Blobs
from service.registry.connection import Connection, Response
from service.registry.http import Http
from service.registry.layout.folder import Aside, Folder
from service.registry.layout.left_out import LeftOutParts
from service.registry.layout.repositories import Repositories
from service.registry.results import MOUNTED, Mounted, UploadSession
from service.registry.uploads import Uploads

if TYPE_CHECKING:
    from service.registry.origin import Origin


_MEND = "`transship verify --repair` with the rule that wrote the layout"


class LayoutBlobs(Blobs):
    """The blob reading calls of one layout."""

    def __init__(
        self, http: Http, folder: Folder, repositories: Repositories, left_out: LeftOutParts
    ) -> None:
        super().__init__(http)
        self._folder = folder
        self._repositories = repositories
        self._left_out = left_out

    def head(self, repository: str, digest: Digest) -> int | None:
        """Return the blob's bytes; None when it is neither there nor confirmed by the other side."""
        found = self._repositories.find_blob(repository, digest)
        return self._left_out.confirmed_blob(repository, digest) if found is None else found[1]

    def probe(self, repository: str, digest: Digest, size: int) -> bool:
        """Whether the blob can be read: it is as large as it should be, and its last byte can be had."""
        found = self._repositories.find_blob(repository, digest)
        if found is None:
            return self._left_out.confirmed_blob(repository, digest) == size
        if found[1] != size:
            return False
        if size == 0:
            return digest == Digest.of(b"", digest.algorithm)
        body = self.open(repository, digest, size - 1)
        try:
            return body.readinto(memoryview(bytearray(1))) == 1
        except LayoutFailed:
            return False
        finally:
            body.close()

    def read(self, repository: str, digest: Digest, size: int, limit: int) -> bytes:
        """Read a small blob whole and verified; raises Rejected, BlobNotFound, LeftOut, Corrupt."""
        if size > limit:
            raise Rejected(
                f"{self._http.name}/{repository}@{digest}: {size} bytes, at most {limit} are read"
            )
        body = self.open(repository, digest)
        try:
            if body.length != size and not without("size-check"):
                raise self.corrupt(repository, digest, f"{body.length} bytes instead of {size}")
            data = body.read(size)
        finally:
            body.close()
        if Digest.of(data, digest.algorithm) != digest and not without("digest-check"):
            raise self.corrupt(repository, digest, "other bytes than its digest names")
        return data

    def open(self, repository: str, digest: Digest, offset: int = 0) -> Response:
        """Open a blob's file at byte `offset`; raises BlobNotFound, and LeftOut."""
        for parts in self._repositories.blob_places(repository, digest):
            opened = self._folder.open(parts)
            if opened is not None:
                found, about = opened
                return _Body(self._http, found, offset, about.st_size)
        if self._left_out.has_left_out(repository, digest) or self._left_out.running:
            raise left_out(self._http.name, f"{repository}@{digest}")
        raise BlobNotFound(
            f"{self._http.name}: {self._folder.root} has no blob {digest} for {repository}",
            registry=self._http.name,
            hint=f"it was not brought over whole: bring it again, or {_MEND}",
        )

    def corrupt(self, repository: str, digest: Digest, what: str) -> Corrupt:
        """Return the error that says which file holds something else."""
        found = self._repositories.find_blob(repository, digest)
        file = "/".join((self._folder.root, *(found[0] if found else ())))
        return Corrupt(
            f"{self._http.name}/{repository}@{digest}: {file} holds {what}",
            registry=self._http.name,
            hint=f"delete that file, and {_MEND}",
        )


class LayoutUploads(Uploads):
    """The blob writing calls of one layout: a file aside, and a rename."""

    def __init__(self, http: Http, folder: Folder, repositories: Repositories) -> None:
        super().__init__(http)
        self._folder = folder
        self._repositories = repositories
        self._origin: Origin = http.origin

    def start(self, repository: str) -> UploadSession:
        """Return a session; nothing is written before its PUT. Raises Rejected for a name that cannot be."""
        self._repositories.place(repository)
        return UploadSession(repository, self._origin, uuid.uuid4().hex)

    def begin_start(self, repository: str) -> Connection | None:
        """There is no round trip to save."""
        del repository
        return None

    def finish_start(self, repository: str, connection: Connection | None) -> UploadSession:
        """Return a session."""
        del connection
        return self.start(repository)

    def mount(
        self, repository: str, digest: Digest, from_repository: str
    ) -> Mounted | UploadSession | None:
        """Say MOUNTED where all repositories share the blob; else None."""
        self._repositories.place(repository)
        self._repositories.place(from_repository)
        shared = self._repositories.blob_places(repository, digest)[0]
        return None if self._folder.size(shared) is None else MOUNTED

    def cancel(self, session: UploadSession) -> None:
        """Nothing is left of a session whose PUT has ended."""

    def put_small(
        self, repository: str, digest: Digest, data: bytes, session: UploadSession | None
    ) -> None:
        """Write a blob that is in memory."""
        current = session or self.start(repository)
        sink = self.begin_put(current, digest, len(data))
        try:
            sink.send(data)
        except BaseException:
            sink.close()
            raise
        self.finish_put(sink, current, digest, len(data))

    def begin_put(self, session: UploadSession, digest: Digest, size: int) -> Connection:
        """Open a file aside, which `send` of what is returned writes."""
        del session, size
        return _Sink(self._folder.aside(), digest)

    def finish_put(
        self, connection: Connection, session: UploadSession, digest: Digest, size: int
    ) -> None:
        """Put the file in its place if its bytes are the digest's; raises Rejected, LayoutFailed."""
        if not isinstance(connection, _Sink):
            raise TypeError("not a file of this layout")
        place = self._repositories.blob_places(session.repository, digest)[0]
        connection.finish(self._http.name, size, lambda aside: aside.put(place))

    def begin_patch(self, session: UploadSession, start: int, stop: int) -> Connection:
        """Raise Unsupported: uploads go whole."""
        del start, stop
        raise Unsupported(f"{self._http.name}: {session.repository}: a layout takes blobs whole")


def left_out(registry: str, what: str) -> LeftOut:
    """Return the error for something that the layout was made without."""
    return LeftOut(
        f"{registry}: {what} is not in the layout: it was made --since a receipt that has it",
        registry=registry,
    )


class _Sink(Connection):
    """What stands where an upload's connection does: a file aside, hashed as it is written."""

    __slots__ = ("_aside", "_count", "_digest", "_hasher")

    def __init__(self, aside: Aside, digest: Digest) -> None:
        self.authorization = ""
        self.leave = None
        self._aside = aside
        self._digest = digest
        self._hasher = digest.hasher()
        self._count = 0

    def send(self, data: bytes | bytearray | memoryview) -> bool:
        """Write all of it; raises LayoutFailed."""
        self._hasher.update(data)
        self._count += len(data)
        self._aside.write(data)
        return True

    def finish(self, registry: str, size: int, place: Callable[[Aside], None]) -> None:
        """Have the file placed if it is whole; it is closed either way."""
        try:
            if self._count != size or self._hasher.hexdigest() != self._digest.encoded:
                raise Rejected(
                    f"{registry}: {self._count} bytes came for {self._digest} of {size}, and they are other ones",
                    registry=registry,
                    oci_code="DIGEST_INVALID",
                )
            place(self._aside)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file; what is not whole is removed."""
        self._aside.close()


class _Body(Response):
    """What stands where a response's body does: an open file."""

    __slots__ = ("_file", "_name")

    def __init__(self, http: Http, file: int, offset: int, size: int) -> None:
        self.status = 206 if offset else 200
        self.headers = {}
        self.waited_seconds = 0.0
        self.length = max(0, size - offset)
        self._file: int | None = file
        self._name = http.name
        if offset:
            os.lseek(file, offset, os.SEEK_SET)

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the end. Raises LayoutFailed."""
        if self._file is None:
            return 0
        try:
            return os.readv(self._file, [view])
        except OSError as error:
            raise LayoutFailed(
                f"{self._name}: reading a blob: {error.strerror or error}",
                registry=self._name,
                hint="check the disk",
            ) from error

    def read(self, limit: int) -> bytes:
        """Read what is left, at most `limit` bytes."""
        return self.read_some(limit)

    def read_some(self, most: int, limit: int | None = None) -> bytes:
        """Read up to `most` bytes, and close."""
        del limit
        data = bytearray(most)
        view, count = memoryview(data), 0
        while count < most and (more := self.readinto(view[count:])):
            count += more
        self.close()
        return bytes(view[:count])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
