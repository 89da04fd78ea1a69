"""The repositories of a layout: where each has its index and its blobs, and how an index is changed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import PurePath

from service.errors import (
    InvalidManifest,
    InvalidReference,
    ProtocolError,
    Rejected,
    RepositoryNotFound,
)
from service.model.digest import Digest
from service.model.reference import MAX_REPOSITORY_LENGTH, validate_repository
from service.registry.layout.folder import Folder, Parts
from service.registry.layout.index import (
    LAYOUT,
    MAX_INDEX_BYTES,
    Index,
    check_layout,
    reserved,
)
from service.registry.layout.left_out import FILE as LEFT_OUT

INDEX, MARK, BLOBS = "index.json", "oci-layout", "blobs"
RESERVED = frozenset({INDEX, MARK, BLOBS, LEFT_OUT})
MAX_DEPTH = MAX_REPOSITORY_LENGTH // 2 + 1

Change = Callable[[Index], object]
Key = tuple[int, ...]


def plain_name(path: str) -> str:
    """Return what the one repository of a plain layout is called: its directory's name, as a repository may be."""
    name = re.sub(r"[^a-z0-9]+", "-", PurePath(path).name.lower()).strip("-")
    return name or "image"


class _Pending:
    """Changes of one index that wait for whoever has its lock: written together."""

    def __init__(self) -> None:
        self.changes: list[tuple[Change, _Done]] = []


class _Done:
    def __init__(self) -> None:
        self.written = False
        self.result: object = None


class Repositories:
    """All of one layout. For any number of threads and processes."""

    def __init__(self, folder: Folder, registry: str) -> None:
        self._folder = folder
        self._registry = registry
        self._guard = threading.Lock()
        self._known: dict[str, tuple[Key | None, Index]] = {}
        self._pending: dict[str, _Pending] = {}

    @property
    def plain(self) -> str | None:
        """The name of the one repository, where the directory itself is a layout; else None."""
        return plain_name(self._folder.root) if is_plain(self._folder) else None

    def names(self) -> list[str]:
        """Return all repositories, sorted. Raises LayoutFailed where there is no such directory."""
        self._folder.require()
        plain = self.plain
        if plain is not None:
            return [plain]
        found: list[str] = []
        self._gather((), found)
        return sorted(found)

    def _gather(self, parts: Parts, found: list[str]) -> None:
        for name in self._folder.directories(parts):
            if name in RESERVED or len(parts) >= MAX_DEPTH:
                continue
            below = (*parts, name)
            text = "/".join(below)
            try:
                validate_repository(text)
            except InvalidReference:
                continue  # nothing can be asked for by that name
            if self._folder.size((*below, MARK)) is not None:
                found.append(text)
            self._gather(below, found)

    def place(self, repository: str) -> Parts:
        """Return the directory of a repository. Raises Rejected, and RepositoryNotFound for another than the plain one."""
        validate_repository(repository)
        plain = self.plain
        if plain is not None:
            if repository == plain:
                return ()
            raise RepositoryNotFound(
                f"{self._registry}: {self._folder.root} is a layout of one repository, {plain}; it has no {repository}",
                registry=self._registry,
                hint=f"name it {plain}, or give a directory of its own to a layout of many repositories",
            )
        part = reserved(repository, RESERVED)
        if part is not None:
            raise Rejected(
                f"{self._registry}: {repository}: a layout has a file {part} of its own",
                registry=self._registry,
                hint="give the repository another name there: `to` of the rule's entry",
            )
        return tuple(repository.split("/"))

    def index(self, repository: str) -> Index | None:
        """Read a repository's index; None where there is none. Raises ProtocolError for one that is none."""
        if not self._folder.is_there():
            return None
        place = self.place(repository)
        key = self._key(place)
        if key is None:
            return None
        with self._guard:
            known = self._known.get(repository)
        if known is not None and known[0] == key:
            return known[1]
        found = self._read(place)
        with self._guard:
            self._known[repository] = (key, found)
        return found

    def _key(self, place: Parts) -> Key | None:
        """Return what tells one state of a repository's two files from another; None where it is no layout."""
        found = [self._folder.about((*place, name)) for name in (INDEX, MARK)]
        return (
            tuple(
                number
                for one in found
                if one
                for number in (one.st_ino, one.st_mtime_ns, one.st_size)
            )
            if all(found)
            else None
        )

    def _read(self, place: Parts) -> Index:
        try:
            mark = self._folder.read((*place, MARK), 4096)
            raw = self._folder.read((*place, INDEX), MAX_INDEX_BYTES)
            if mark is not None:
                check_layout(mark)
            return Index() if raw is None else Index.parse(raw)
        except InvalidManifest as error:
            where = "/".join((self._folder.root, *place))
            raise ProtocolError(
                f"{self._registry}: {where}/{INDEX}: {error.message}",
                registry=self._registry,
                hint="bring the layout over anew, or have the tool that wrote it write it again",
            ) from None

    def change(self, repository: str, do: Change) -> object:
        """Change a repository's index, under its lock, and write it whole; returns what `do` returns.

        Changes that wait for the same lock are written together.
        """
        place, done = self.place(repository), _Done()
        with self._guard:
            pending = self._pending.setdefault(repository, _Pending())
            pending.changes.append((do, done))
        try:
            with self._folder.lock(Digest.of(repository.encode()).encoded):
                if not done.written:
                    self._write(repository, place, pending)
        except BaseException:
            with self._guard:  # others may not carry out what its caller takes for failed
                pending.changes = [one for one in pending.changes if one[1] is not done]
            raise
        return done.result

    def _write(self, repository: str, place: Parts, pending: _Pending) -> None:
        """Write all changes that wait; those of others wait on where that fails."""
        with self._guard:
            changes, pending.changes = pending.changes, []
            known = self._known.get(repository)
        try:
            if known is not None and known[0] == self._key(place):
                index = known[1].copy()
            else:
                index = self._read(place)
            results = [(one, change(index)) for change, one in changes]
            self._folder.replace((*place, INDEX), index.dump())
            if self._folder.size((*place, MARK)) is None:  # from now on it is a layout
                self._folder.replace((*place, MARK), LAYOUT)
        except BaseException:
            with self._guard:
                pending.changes = [*changes, *pending.changes]
            raise
        key = self._key(place)
        with self._guard:
            self._known[repository] = (key, index)
        for one, result in results:
            one.written, one.result = True, result

    # ---- blobs -----------------------------------------------------------------------------------

    def blob_places(self, repository: str, digest: Digest) -> list[Parts]:
        """Return where a blob may be: in the directory that all share, then in the repository's own."""
        place = self.place(repository)
        shared = (BLOBS, digest.algorithm, digest.encoded)
        return [shared] if not place else [shared, (*place, *shared)]

    def find_blob(self, repository: str, digest: Digest) -> tuple[Parts, int] | None:
        """Return where a blob is, and its bytes; None where it is not."""
        if not self._folder.is_there():
            return None
        for parts in self.blob_places(repository, digest):
            size = self._folder.size(parts)
            if size is not None:
                return parts, size
        return None


def is_plain(folder: Folder) -> bool:
    """Whether a directory is itself a layout."""
    return folder.is_there() and folder.size((MARK,)) is not None


def start_plain(folder: Folder) -> bool:
    """Make a directory a plain layout; whether it is one now. One that has something else is left alone."""
    if is_plain(folder):
        return True
    if folder.is_there() and (folder.directories(()) or folder.files(())):
        return False
    folder.replace((MARK,), LAYOUT)  # first: who dies here has begun one, which can be gone on with
    folder.replace((INDEX,), Index().dump())
    return True
