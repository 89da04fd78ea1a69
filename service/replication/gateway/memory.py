"""What a gateway knows by itself: tags, manifests, what belongs to which repository, and where it was found.

In a SQLite file of its own, so that a gateway that is started anew while SQL is away serves what it served
before. All of it may be lost: it is learnt again. Bounded by rows, the oldest go first.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.errors import InvalidConfiguration
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.gateway import ImagePlace
from service.model.manifest import Manifest, parse_manifest
from service.replication.gateway.writes import Write, Writes
from service.telemetry import get_logger

log = get_logger("gateway")

ROWS = {"tags": 500_000, "manifests": 50_000, "members": 2_000_000, "facts": 20_000}
"""So many rows a table are kept on disk: about 1 GiB when all are full of small images.

Of facts only those about repositories go: registries with their credentials, and what was revoked, are few, and a
gateway that is started while SQL is away has nothing else to begin with.
"""

FILE = "known.db"
CACHED_MANIFEST_BYTES = 64 << 20
CACHED_MEMBERS = 200_000
_TRIM_EVERY = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tags (key TEXT PRIMARY KEY, digest TEXT, at REAL);
CREATE TABLE IF NOT EXISTS manifests (key TEXT PRIMARY KEY, type TEXT, raw BLOB);
CREATE TABLE IF NOT EXISTS members (key TEXT PRIMARY KEY, size INTEGER, manifest INTEGER, places TEXT);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value BLOB);
"""

_MANIFEST, _GIVEN = 1, 2
"""Bits of a member's column `manifest`."""

_KEEP_FACT = (
    "INSERT INTO facts VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


@dataclass(frozen=True, slots=True)
class Member:
    """Something that belongs to a repository: a manifest, or a blob of one, with its size in bytes."""

    size: int
    is_manifest: bool
    places: tuple[ImagePlace, ...]  # where the image that it is of was found, the best first
    given: bool = False
    """Whether a registry has given it by this repository's name. That a manifest names it is no proof: whoever may
    push names what is another one's, and what is kept here is kept for all."""


class Memory:
    """Thread-safe; writes are a thread's of their own, and lost in a crash at worst."""

    def __init__(self, folder: Path) -> None:
        """Open, or begin, the file in a folder. Raises InvalidConfiguration."""
        self._lock = threading.Lock()
        self._manifests: OrderedDict[Digest, Manifest] = OrderedDict()
        self._bytes = 0
        self._members: OrderedDict[str, Member] = OrderedDict()
        self._tags: OrderedDict[str, tuple[Digest, float]] = OrderedDict()
        self._writes = Writes()
        self._held = _held(folder)
        self._connection = _opened(folder)
        self._reading = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="memory", daemon=True)
        self._writer.start()

    def tag(self, place: ImagePlace, tag: str) -> tuple[Digest, float] | None:
        """Return the digest that a tag was last seen with at its source, and when (time.time)."""
        key = f"{place[0]}/{place[1]}:{tag}"
        with self._lock:
            found = self._tags.get(key)
        if found is None:
            row = self._row("SELECT digest, at FROM tags WHERE key = ?", key)
            if row is not None:
                found = Digest.parse(row[0]), row[1]
        return found

    def remember_tag(self, place: ImagePlace, tag: str, digest: Digest) -> None:
        """Keep what a tag is."""
        key, now = f"{place[0]}/{place[1]}:{tag}", time.time()
        with self._lock:
            before = self._tags.get(key)
            _put(self._tags, key, (digest, now), CACHED_MEMBERS)
        if before is None or before[0] != digest:
            row = (key, str(digest), now)
            # a changed tag must not stay what it was
            self._writes.put(
                "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", row, must=before is not None
            )

    def forget_tag(self, place: ImagePlace, tag: str) -> None:
        """Its source has no such tag any more."""
        if self.tag(place, tag) is None:
            return  # whoever asks for what never was, has nothing written
        key = f"{place[0]}/{place[1]}:{tag}"
        with self._lock:
            self._tags.pop(key, None)
        self._writes.put("DELETE FROM tags WHERE key = ?", (key,), must=True)

    def tags(self, place: ImagePlace) -> list[str]:
        """Return the tags of a repository that were asked for, and seen."""
        start = f"{place[0]}/{place[1]}:"
        query = "SELECT key FROM tags WHERE key >= ? AND key < ? ORDER BY key"
        with self._reading:
            rows = self._connection.execute(query, (start, f"{start}\x7f")).fetchall()
        return [str(row[0])[len(start) :] for row in rows]

    def manifest(self, digest: Digest) -> Manifest | None:
        """Return a manifest's bytes; whose it is, `member` says."""
        with self._lock:
            found = self._manifests.get(digest)
            if found is not None:
                self._manifests.move_to_end(digest)
                return found
        row = self._row("SELECT type, raw FROM manifests WHERE key = ?", str(digest))
        if row is None:
            return None
        try:
            manifest = parse_manifest(bytes(row[1]), row[0], digest)
        except Exception:  # noqa: BLE001 - a damaged file is no reason to serve nothing
            log.warning("memory_damaged", digest=str(digest))
            return None
        self._keep(manifest)
        return manifest

    def remember_manifest(
        self, place: ImagePlace, manifest: Manifest, places: Sequence[ImagePlace]
    ) -> None:
        """Keep a manifest that a registry gave by a place's name, and that what it names belongs there, too."""
        self._keep(manifest)
        self._writes.put(
            "INSERT OR IGNORE INTO manifests VALUES (?, ?, ?)",
            (str(manifest.digest), manifest.media_type, manifest.raw),
        )
        found = tuple(places)
        self._belongs(place, manifest.digest, Member(len(manifest.raw), True, found, given=True))
        for child in manifest.children():
            self._belongs(place, child.digest, Member(child.size, True, found))
        for blob in manifest.blobs():
            self._belongs(place, blob.digest, Member(blob.size, False, found))

    def remember_members(
        self, place: ImagePlace, attached: Sequence[Descriptor], places: Sequence[ImagePlace]
    ) -> None:
        """Keep that manifests belong to a repository: what is attached to one of its own."""
        for one in attached:
            self._belongs(place, one.digest, Member(one.size, True, tuple(places)))

    def remember_given(self, place: ImagePlace, digest: Digest, member: Member) -> None:
        """Keep that a registry has given something by a place's name."""
        self._belongs(place, digest, replace(member, given=True))

    def member(self, place: ImagePlace, digest: Digest) -> Member | None:
        """Return what a digest is in a repository; None: not known to belong to it."""
        key = f"{place[0]}/{place[1]}@{digest}"
        with self._lock:
            found = self._members.get(key)
            if found is not None:
                return found
        row = self._row("SELECT size, manifest, places FROM members WHERE key = ?", key)
        if row is None:
            return None
        places = tuple((r, n) for r, n in json.loads(row[2]))
        found = Member(row[0], bool(row[1] & _MANIFEST), places, bool(row[1] & _GIVEN))
        with self._lock:
            _put(self._members, key, found, CACHED_MEMBERS)
        return found

    def fact(self, key: str) -> bytes | None:
        """Return something else that was kept."""
        row = self._row("SELECT value FROM facts WHERE key = ?", key)
        return None if row is None else bytes(row[0])

    def remember_fact(self, key: str, value: bytes) -> None:
        """Keep something else; the caller seals what is secret."""
        self._writes.put(_KEEP_FACT, (key, value), must=True)

    def settle(self) -> None:
        """Wait until what was told before is in the file."""
        done = threading.Event()
        self._writes.put("settle", (done,), must=True)
        done.wait(10.0)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writes.end()
        self._writer.join(10.0)
        self._connection.close()
        os.close(self._held)

    def _belongs(self, place: ImagePlace, digest: Digest, member: Member) -> None:
        key = f"{place[0]}/{place[1]}@{digest}"
        with self._lock:
            before = self._members.get(key)
            if before is not None and before.given:
                member = replace(member, given=True)
            if before == member:
                return
            _put(self._members, key, member, CACHED_MEMBERS)
        kind = _MANIFEST * member.is_manifest | _GIVEN * member.given
        row = (key, member.size, kind, json.dumps(member.places))
        self._writes.put("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)", row)

    def _keep(self, manifest: Manifest) -> None:
        with self._lock:
            if manifest.digest in self._manifests:
                return
            self._manifests[manifest.digest] = manifest
            self._bytes += len(manifest.raw)
            while self._bytes > CACHED_MANIFEST_BYTES:
                _, old = self._manifests.popitem(last=False)
                self._bytes -= len(old.raw)

    def _row(self, query: str, key: str) -> Any:
        with self._reading:
            return self._connection.execute(query, (key,)).fetchone()

    def _write(self) -> None:
        written = told = 0
        while group := self._writes.take(500):
            self._carry_out(group)
            written += len(group)
            if written > _TRIM_EVERY:
                written = 0
                self._trim()
            if self._writes.left_out > told:
                told = self._writes.left_out
                log.warning("memory_left_out", reason="the disk is slow", so_far=told)

    def _carry_out(self, group: list[Write]) -> None:
        settled: list[Callable[[], None]] = []
        try:
            with self._reading, self._connection:
                for statement, values in group:
                    if statement == "settle":
                        settled.append(values[0].set)
                    else:
                        self._connection.execute(statement, values)
        except sqlite3.Error as error:
            log.warning("memory_not_written", error=str(error))
        for tell in settled:
            tell()

    def _trim(self) -> None:
        with suppress(sqlite3.Error), self._reading, self._connection:
            for table, most in ROWS.items():
                first, last = self._connection.execute(
                    f"SELECT (SELECT min(rowid) FROM {table}), (SELECT max(rowid) FROM {table})"
                ).fetchone()
                if first is None or last - first < most:
                    continue  # counting takes long
                of = "WHERE key LIKE 'mapped:%'" if table == "facts" else ""
                self._connection.execute(
                    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} {of} ORDER BY rowid"
                    f" LIMIT max(0, (SELECT count(*) FROM {table}) - ?))",
                    (most,),
                )


def _held(folder: Path) -> int:
    """Hold a folder for this process alone: another one would take away what this one is writing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidConfiguration(
            f"the gateway's folder {folder} cannot be written: {error.strerror}",
            field="TRANSSHIP_GATEWAY_DIR",
            hint="name a folder of this process's own",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InvalidConfiguration(
            f"another gateway uses the folder {folder}",
            field="TRANSSHIP_GATEWAY_DIR",
            hint="give each gateway a folder of its own",
        ) from None
    return descriptor


def _opened(folder: Path) -> sqlite3.Connection:
    """Open the file; one that is damaged is begun anew: all of it can be learnt again."""
    try:
        try:
            return _connected(folder)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            log.warning("memory_damaged", error=str(error))
            for file in folder.glob(f"{FILE}*"):
                file.unlink()
            return _connected(folder)
    except (OSError, sqlite3.Error) as error:
        raise InvalidConfiguration(
            f"the gateway's folder {folder} cannot be written: {error}",
            field="TRANSSHIP_GATEWAY_DIR",
            hint="name a folder of this process's own",
        ) from None


def _connected(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        folder / FILE, check_same_thread=False, timeout=10.0, isolation_level="IMMEDIATE"
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _put(cache: OrderedDict[str, Any], key: str, value: Any, most: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > most:
        cache.popitem(last=False)
