"""O7: no canary credential anywhere but at the registry it is for.

A canary is a credential that a scenario made up; it is looked for as it is, in base64 (all three
alignments and as Basic authorization), percent-encoded, in hex and JSON-escaped.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Canary:
    """A credential made up for one registry (`host`: where it may be sent)."""

    name: str
    username: str
    secret: str
    host: str = ""


class SecretSearch:
    """Collects haystacks and counts what it read, so that a search of nothing is red."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self.canaries = list(canaries)
        assert self.canaries
        self._needles = [
            (canary, kind, needle)
            for canary in self.canaries
            for kind, needle in _spellings(canary)
        ]
        self.faults: list[str] = []
        self.places = 0
        self.bytes = 0

    def __str__(self) -> str:
        head = (
            f"{self.places} places, {self.bytes} bytes searched for {len(self._needles)} spellings"
        )
        return "\n  ".join([head, *self.faults])

    def look(self, place: str, data: bytes | str) -> None:
        """Search one haystack."""
        raw = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        self.places += 1
        self.bytes += len(raw)
        for canary, kind, needle in self._needles:
            if needle in raw:
                self.faults.append(f"{place} holds the secret of {canary.name}, {kind}")

    def files(self, folder: Path, pattern: str = "**/*") -> None:
        """Search the files of a folder: logs, spools, core dumps."""
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                self.look(str(path.relative_to(folder)), path.read_bytes())

    def sqlite(self, path: Path) -> None:
        """Search every value of an SQLite database, by its rows and by its bytes."""
        with closing(sqlite3.connect(path)) as connection:
            for line in connection.iterdump():
                self.look(f"{path.name} (dump)", line)
        for file in sorted(path.parent.glob(path.name + "*")):
            self.look(file.name, file.read_bytes())

    def redis(self, client: Any) -> None:
        """Search every key and value of a Redis (`client`: redis-py's, decode_responses off)."""
        for key in client.scan_iter():
            self.look(f"redis {key!r}", key)
            dumped = client.dump(key)
            self.look(f"redis {key!r} (dump)", dumped or b"")
            for value in _values(client, key):
                self.look(f"redis {key!r}", value)

    def process(self, pid: int, name: str) -> None:
        """Search a process's command line."""
        self.look(f"command line of {name}", Path(f"/proc/{pid}/cmdline").read_bytes())

    def requests(self, host: str, lines: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Search what another host was sent: (request target, headers) of its log."""
        others = [canary for canary in self.canaries if canary.host != host]
        if not others:
            return
        inner = SecretSearch(others)
        for target, headers in lines:
            text = "\n".join([target, *(f"{key}: {value}" for key, value in headers.items())])
            inner.look(f"a request to {host}", text)
        self.faults += inner.faults
        self.places += inner.places
        self.bytes += inner.bytes


def _spellings(canary: Canary) -> Iterator[tuple[str, bytes]]:
    secret = canary.secret.encode()
    yield "as it is", secret
    yield "in hex", secret.hex().encode()
    yield "as Basic authorization", base64.b64encode(f"{canary.username}:{canary.secret}".encode())
    for shift in range(3):
        yield "in base64", _inside_base64(secret, shift)
    for kind, text in (
        ("percent-encoded", quote(canary.secret, safe="")),
        ("in JSON", json.dumps(canary.secret)[1:-1]),
    ):
        if text != canary.secret:
            yield kind, text.encode()


def _inside_base64(secret: bytes, shift: int) -> bytes:
    """Return the part of the encoding that is the same whatever stands before and behind."""
    encoded = base64.b64encode(b"\0" * shift + secret)
    start = 4 if shift else 0
    end = len(encoded) - (4 if (shift + len(secret)) % 3 else 0)
    return encoded[start:end]


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    """Return a key's values: DUMP compresses long ones."""
    kind = client.type(key)
    if kind == b"string":
        yield client.get(key) or b""
    elif kind == b"list":
        yield from client.lrange(key, 0, -1)
    elif kind == b"set":
        yield from client.smembers(key)
    elif kind == b"zset":
        yield from client.zrange(key, 0, -1)
    elif kind == b"hash":
        for field, value in client.hgetall(key).items():
            yield field
            yield value
