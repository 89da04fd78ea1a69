"""Receipts: which copies an instance says that it has committed, as a file that is checked offline (docs/adr/0024).

A text file of JSON lines. The first one is the header, then comes one line for each destination name, sorted by
registry, repository and reference, none twice. The signature lies beside it in FILE.sig: Base64 of Ed25519
(RFC 8032) over the bytes of the file, so that `openssl pkeyutl -verify -rawin` judges it as well as this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.errors import InvalidDigest, InvalidManifest, InvalidReceipt, InvalidReference
from service.model import strict_json
from service.model.digest import Digest
from service.model.reference import validate_repository, validate_tag

VERSION = 1
SUFFIX = ".sig"
MOST_LINE_BYTES = 64 * 1024
MOST_HEADER_BYTES = 4 << 20
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_CUT = "it was cut off, or is still being written: fetch it again, and its .sig with it"
_MADE = "a receipt is what `transship receipts make` wrote, unchanged"


@dataclass(frozen=True, slots=True)
class Header:
    """What a receipt says of itself.

    `instance`: the fingerprint of the key that signs; `made`: when the last of its executions ended (RFC 3339,
    UTC), so that the same executions give the same bytes; `entries`: how many lines follow.
    """

    instance: str
    made: str
    executions: tuple[str, ...]
    entries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One committed copy. References are `registry/repository:tag`, or `...@digest`, with registries by name.

    `bytes` were read from registries for it, 0 when all was in place; `route` are the names of the registries that
    it came through, from the source to the destination; `at`: when it was committed.
    """

    source: str
    destination: str
    digest: str
    bytes: int
    route: tuple[str, ...]
    at: str
    attempts: int


def header_line(header: Header) -> bytes:
    """Return the first line of a receipt."""
    return _line(
        {
            "transship_receipt": VERSION,
            "instance": header.instance,
            "made": header.made,
            "executions": list(header.executions),
            "entries": header.entries,
        }
    )


def entry_line(entry: Entry) -> bytes:
    """Return the line of one copy."""
    return _line(
        {
            "source": entry.source,
            "destination": entry.destination,
            "digest": entry.digest,
            "bytes": entry.bytes,
            "route": list(entry.route),
            "at": entry.at,
            "attempts": entry.attempts,
        }
    )


def instant(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


class Receipt:
    """A receipt's file: its header at once, its entries one by one, whatever their number.

    Reading says nothing of who wrote it: `service.model.receipt_signature.verify` does.
    """

    def __init__(self, path: Path) -> None:
        """Read the header. Raises InvalidReceipt, which names file and line."""
        self.path = path
        try:
            with path.open("rb") as file:
                first = file.readline(MOST_HEADER_BYTES + 1)
        except OSError as error:
            raise InvalidReceipt(f"{path} cannot be read: {error.strerror}", hint=_MADE) from None
        self.header = self._header(self._object(first, 1, MOST_HEADER_BYTES))

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; raises InvalidReceipt for the first line that is wrong, and when one is missing."""
        last: tuple[str, str, str] | None = None
        number = 1
        with self.path.open("rb") as file:
            file.readline(MOST_HEADER_BYTES + 1)
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                entry, place = self._entry(self._object(line, number, MOST_LINE_BYTES), number)
                if last is not None and place <= last:
                    raise self._wrong(
                        number, f"{entry.destination} is not behind the line before it", _MADE
                    )
                last = place
                yield entry
        found = number - 1
        if found != self.header.entries:
            raise self._wrong(
                number, f"the header tells of {self.header.entries} entries, here are {found}", _CUT
            )

    def _object(self, line: bytes, number: int, most: int) -> dict[str, Any]:
        if not line:
            raise InvalidReceipt(f"{self.path} is empty", hint=_CUT)
        if len(line) > most:
            raise self._wrong(number, f"a line of more than {most} bytes", _MADE)
        if not line.endswith(b"\n"):
            raise self._wrong(number, "the line has no end", _CUT)
        try:
            found = strict_json.loads(line[:-1])
        except InvalidManifest as error:
            raise self._wrong(number, error.message, _MADE) from None
        if not isinstance(found, dict):
            raise self._wrong(number, "not a JSON object", _MADE)
        return found

    def _header(self, found: dict[str, Any]) -> Header:
        version = found.get("transship_receipt")
        if version is None:
            raise self._wrong(1, "this is no receipt: transship_receipt is not there", _MADE)
        if version != VERSION or isinstance(version, bool):
            raise self._wrong(
                1,
                f"a receipt of version {str(version)[:20]}, and this Transship reads {VERSION}",
                "read it with the Transship that wrote it, or a newer one",
            )
        names = ("transship_receipt", "instance", "made", "executions", "entries")
        self._keys(found, names, 1)
        executions = found["executions"]
        if not isinstance(executions, list) or not all(isinstance(one, str) for one in executions):
            raise self._wrong(1, "executions is no list of ids", _MADE)
        return Header(
            self._text(found, "instance", 1),
            self._time(found, "made", 1),
            tuple(executions),
            self._count(found, "entries", 1),
        )

    def _entry(self, found: dict[str, Any], number: int) -> tuple[Entry, tuple[str, str, str]]:
        self._keys(
            found,
            ("source", "destination", "digest", "bytes", "route", "at", "attempts"),
            number,
        )
        source = self._place(found, "source", number)
        place = self._place(found, "destination", number)
        digest = self._text(found, "digest", number)
        try:
            Digest.parse(digest)
        except InvalidDigest as error:
            raise self._wrong(number, f"digest: {error.message}", _MADE) from None
        route = found["route"]
        if not isinstance(route, list) or not all(
            isinstance(one, str) and _REGISTRY.fullmatch(one) for one in route
        ):
            raise self._wrong(number, "route is no list of registries' names", _MADE)
        if len(route) < 2 or route[0] != source[0] or route[-1] != place[0]:
            raise self._wrong(number, "route does not lead from source to destination", _MADE)
        entry = Entry(
            found["source"],
            found["destination"],
            digest,
            self._count(found, "bytes", number),
            tuple(route),
            self._time(found, "at", number),
            self._count(found, "attempts", number),
        )
        return entry, place

    def _keys(self, found: dict[str, Any], names: tuple[str, ...], number: int) -> None:
        for name in names:
            if name not in found:
                raise self._wrong(number, f"{name} is missing", _MADE)
        for name in found:
            if name not in names:
                raise self._wrong(number, f"{name[:40]!r} is no key of a receipt", _MADE)

    def _text(self, found: dict[str, Any], name: str, number: int) -> str:
        value = found[name]
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self._wrong(number, f"{name} is no text", _MADE)
        return value

    def _time(self, found: dict[str, Any], name: str, number: int) -> str:
        value = self._text(found, name, number)
        if not _TIME.fullmatch(value):
            raise self._wrong(number, f"{name} is no time such as 2026-01-31T12:00:00Z", _MADE)
        return value

    def _count(self, found: dict[str, Any], name: str, number: int) -> int:
        value = found[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(number, f"{name} is no number of 0 or more", _MADE)
        return value

    def _place(self, found: dict[str, Any], name: str, number: int) -> tuple[str, str, str]:
        try:
            return split(self._text(found, name, number))
        except (InvalidReference, InvalidDigest) as error:
            raise self._wrong(number, f"{name}: {error.message}", _MADE) from None

    def _wrong(self, number: int, message: str, hint: str) -> InvalidReceipt:
        return InvalidReceipt(f"{self.path}:{number}: {message}", hint=hint)


def split(place: str) -> tuple[str, str, str]:
    """Return registry, repository and tag or digest of a receipt's reference.

    Raises InvalidReference and InvalidDigest.
    """
    registry, _, rest = place.partition("/")
    if not _REGISTRY.fullmatch(registry):
        raise InvalidReference(f"not the name of a registry: {registry[:60]!r}")
    repository, at, digest = rest.partition("@")
    if at:
        return registry, validate_repository(repository), str(Digest.parse(digest))
    repository, _, tag = rest.rpartition(":")
    return registry, validate_repository(repository), validate_tag(tag)


def _line(found: dict[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"
