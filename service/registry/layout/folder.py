"""The files of a layout: below one directory, whole or not there, whoever dies while writing.

Directories are opened one below the other and links are not followed, so that no name leads out.
Files are written aside in `.transship/`, synced and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from service.crashpoints import crashpoint
from service.errors import Denied, LayoutFailed, RegistryError, Rejected

OURS = ".transship"
ASIDE = (OURS, "uploads")
LOCKS = (OURS, "locks")
LOCK_SECONDS = 60.0
"""So long another process may have a lock before whoever waits for it gives up."""
LOCK_STEP_SECONDS = 0.01
LEFT_SECONDS = 60.0
"""A file aside that nobody has open and that is older was left by a process that died."""

Parts = tuple[str, ...]
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = (errno.ENOENT,)
_ELSEWHERE = (
    "mount it, or create it: a layout is read and written where its files are, and every worker that "
    "copies to or from it needs it at this path"
)


class Folder:
    """One directory. For any number of threads and processes."""

    def __init__(self, root: str, registry: str) -> None:
        """`registry` is whose errors are told. Nothing is looked at yet."""
        self.root = root
        self._registry = registry
        self._swept = False
        self._guard = threading.Lock()
        self._local: dict[str, threading.Lock] = {}

    # ---- reading -----------------------------------------------------------------------------

    def is_there(self) -> bool:
        """Whether the directory itself is there."""
        return os.path.isdir(self.root)  # noqa: PTH112 - a text that is handed on to openat

    def may_be_made(self) -> bool:
        """Whether the directory is missing, and the one above it is there."""
        return not self.is_there() and os.path.isdir(os.path.dirname(self.root))  # noqa: PTH112, PTH120

    def require(self) -> None:
        """Raise LayoutFailed where the directory is not on this machine."""
        if not self.is_there():
            raise self._missing()

    def _missing(self) -> LayoutFailed:
        return LayoutFailed(
            f"{self._registry}: there is no directory {self.root} on this machine",
            registry=self._registry,
            hint=_ELSEWHERE,
        )

    def open(self, parts: Parts) -> tuple[int, os.stat_result] | None:
        """Open a file for reading; None when it is not there. The caller closes it."""
        try:
            with self._directory(parts[:-1]) as above:
                found = os.open(parts[-1], _READ, dir_fd=above)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise self._failed(error, parts) from error
        about = os.fstat(found)
        if not stat.S_ISREG(about.st_mode):
            os.close(found)
            raise self._refused(parts, "is no file")
        return found, about

    def read(self, parts: Parts, most: int) -> bytes | None:
        """Read a whole file; None when it is not there; raises Rejected above `most` bytes."""
        opened = self.open(parts)
        if opened is None:
            return None
        found, about = opened
        try:
            if about.st_size > most:
                raise self._refused(parts, f"has {about.st_size} bytes, at most {most} are read")
            data = bytearray()
            while piece := os.read(found, 1 << 20):
                data += piece
                if len(data) > most:
                    raise self._refused(parts, f"grows beyond {most} bytes")
            return bytes(data)
        except OSError as error:
            raise self._failed(error, parts) from error
        finally:
            os.close(found)

    def size(self, parts: Parts) -> int | None:
        """Return a file's bytes; None when it is not there."""
        about = self.about(parts)
        return None if about is None else about.st_size

    def about(self, parts: Parts) -> os.stat_result | None:
        """Return what the file system says of a file; None when it is not there. Links are refused."""
        try:
            with self._directory(parts[:-1]) as above:
                about = os.stat(parts[-1], dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise self._failed(error, parts) from error
        if not stat.S_ISREG(about.st_mode):
            raise self._refused(parts, "is a link, or no file")
        return about

    def directories(self, parts: Parts) -> list[str]:
        """Return the names of the directories in a directory, sorted, without links and ours."""
        try:
            with self._directory(parts) as there, os.scandir(there) as entries:
                found = [
                    one.name
                    for one in entries
                    if one.name != OURS and one.is_dir(follow_symlinks=False)
                ]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise self._failed(error, parts) from error
        return sorted(found)

    def files(self, parts: Parts) -> list[str]:
        """Return the names of the files in a directory, sorted, without links."""
        try:
            with self._directory(parts) as there, os.scandir(there) as entries:
                found = [one.name for one in entries if one.is_file(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise self._failed(error, parts) from error
        return sorted(found)

    # ---- writing -----------------------------------------------------------------------------

    def aside(self) -> Aside:
        """Begin a file aside, to be put in its place when it is whole."""
        self._sweep()
        name = uuid.uuid4().hex
        try:
            with self._directory(ASIDE, make=True) as there:
                return Aside(self, name, os.open(name, _MAKE, 0o644, dir_fd=there))
        except OSError as error:
            raise self._failed(error, (*ASIDE, name)) from error

    def replace(self, parts: Parts, data: bytes) -> None:
        """Write a whole file in place of the one that is there, if any."""
        aside = self.aside()
        try:
            aside.write(data)
            aside.put(parts)
        finally:
            aside.close()

    def append(self, parts: Parts, line: bytes) -> None:
        """Append a line of less than 4 KiB, in one write; it is not synced."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with self._directory(parts[:-1], make=True) as above:
                there = os.open(parts[-1], flags, 0o644, dir_fd=above)
                try:
                    os.write(there, line)
                finally:
                    os.close(there)
        except OSError as error:
            raise self._failed(error, parts) from error

    def remove(self, parts: Parts) -> None:
        """Remove a file, if it is there."""
        try:
            with self._directory(parts[:-1]) as above:
                os.unlink(parts[-1], dir_fd=above)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._failed(error, parts) from error

    @contextlib.contextmanager
    def lock(self, name: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Have what a name stands for to oneself: among threads, and among processes by flock.

        `name` goes into a file's name. The system gives up the lock of a process that dies. Raises LayoutFailed.
        """
        with self._guard:
            local = self._local.setdefault(name, threading.Lock())
        until = time.monotonic() + seconds
        if not local.acquire(timeout=seconds):
            raise self._held(name, seconds)
        try:
            held = self._flock((*LOCKS, name), until, seconds)
            try:
                yield
            finally:
                os.close(held)
        finally:
            local.release()

    def _flock(self, parts: Parts, until: float, seconds: float) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with self._directory(parts[:-1], make=True) as above:
                held = os.open(parts[-1], flags, 0o644, dir_fd=above)
        except OSError as error:
            raise self._failed(error, parts) from error
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(held)
                    raise self._held(parts[-1], seconds) from None
                time.sleep(LOCK_STEP_SECONDS)
            except OSError as error:
                os.close(held)
                raise self._failed(error, parts) from error
            else:
                return held

    def _held(self, name: str, seconds: float) -> LayoutFailed:
        return LayoutFailed(
            f"{self._registry}: another process has held {self.root}/{'/'.join(LOCKS)}/{name} for {seconds:.0f} s",
            registry=self._registry,
            hint="look for a process that is stopped, and go on with it or end it",
        )

    def _sweep(self) -> None:
        """Remove, once a client, what processes that died have left aside."""
        with self._guard:
            if self._swept:
                return
            self._swept = True
        try:
            with self._directory(ASIDE) as there:
                for name in os.listdir(there):  # noqa: PTH208 - an open directory
                    self._sweep_one(name, there)
        except OSError:
            return  # there is none yet; what goes wrong here is the write's to tell

    def _sweep_one(self, name: str, there: int) -> None:
        with contextlib.suppress(OSError):
            left = os.open(name, _READ, dir_fd=there)
            try:
                if time.time() - os.fstat(left).st_mtime > LEFT_SECONDS:
                    fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer has it
                    os.unlink(name, dir_fd=there)
            finally:
                os.close(left)

    # ---- what both need ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _directory(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a directory below the root, which is made as well where its parent is there."""
        if make and not self.is_there():
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.root)  # noqa: PTH102
        there = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=there)
                        os.fsync(there)
                below = os.open(part, _DIRECTORY, dir_fd=there)
                os.close(there)
                there = below
            yield there
        finally:
            os.close(there)

    def _refused(self, parts: Parts, why: str) -> Rejected:
        return Rejected(
            f"{self._registry}: {self.root}/{'/'.join(parts)} {why}: refused",
            registry=self._registry,
            hint="a layout has plain files and directories",
        )

    def _failed(self, error: OSError, parts: Parts) -> RegistryError:
        """Return what an error of the file system means."""
        where = f"{self._registry}: {self.root}/{'/'.join(parts)}"
        what = f"{where}: {error.strerror or error}"
        if error.errno == errno.ENOENT and not self.is_there():
            return self._missing()
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return self._refused(parts, "is a link, or lies below one or below a file")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return Denied(
                what, registry=self._registry, hint="check what this user may write there"
            )
        hint = "check the disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run it again: what is there is not copied again"
        elif error.errno == errno.EFBIG:
            hint = (
                "the file system takes no file of that size (FAT: 4 GiB); use ext4, exFAT or NTFS"
            )
        elif error.errno == errno.ENOENT:
            hint = _ELSEWHERE
        elif error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            hint = "the file system has no flock; use another one"
        return LayoutFailed(what, registry=self._registry, hint=hint)


class Aside:
    """A file that is being written; locked, so that nobody takes it for one that was left."""

    def __init__(self, folder: Folder, name: str, there: int) -> None:
        self._folder = folder
        self._parts = (*ASIDE, name)
        self._there: int | None = there
        self._placed = False
        with contextlib.suppress(OSError):
            fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of it; raises LayoutFailed."""
        rest = memoryview(data)
        while rest and self._there is not None:
            try:
                rest = rest[os.write(self._there, rest) :]
            except OSError as error:
                raise self._folder._failed(error, self._parts) from error  # noqa: SLF001 - two halves of one thing

    def put(self, parts: Parts, before: Callable[[], None] = lambda: None) -> None:
        """Sync the file and put it where it belongs, in place of what is there."""
        folder = self._folder
        try:
            if self._there is not None:
                os.fsync(self._there)
            before()
            crashpoint("layout.before_rename")
            with (
                folder._directory(ASIDE) as here,  # noqa: SLF001
                folder._directory(parts[:-1], make=True) as above,  # noqa: SLF001
            ):
                os.rename(self._parts[-1], parts[-1], src_dir_fd=here, dst_dir_fd=above)
                self._placed = True
                os.fsync(above)
        except OSError as error:
            raise folder._failed(error, parts) from error  # noqa: SLF001

    def close(self) -> None:
        """Let go; what was not put in its place is removed."""
        if self._there is not None:
            os.close(self._there)
            self._there = None
            if not self._placed:
                with contextlib.suppress(RegistryError):
                    self._folder.remove(self._parts)
