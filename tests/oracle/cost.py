"""O6: what a scenario may cost: each unique byte once, few requests, nothing left open behind it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

_BLOB = re.compile(r"^/v2/(.+)/blobs/(sha\d+:[0-9a-f]+)$")
_UPLOAD = re.compile(r"^/v2/(.+)/blobs/uploads/")


class Line(Protocol):
    """A line of an access log."""

    method: str
    path: str  # with query
    status: int
    bytes: int  # of the answer's body


@dataclass(frozen=True)
class Bounds:
    """What a scenario may cost at most. `reads_of_a_blob`: full reads at the source of one digest."""

    requests: int
    reads_of_a_blob: int = 1
    bytes_over_unique: float = 1.0


def judge_source(lines: Iterable[Line], unique_bytes: int, bounds: Bounds) -> list[str]:
    """Judge the source's access log; a proof (a byte or so) is no read."""
    requests = 0
    moved = 0
    reads: Counter[str] = Counter()
    for line in lines:
        requests += 1
        match = _BLOB.match(unquote(line.path.partition("?")[0]))
        if match is None or line.method != "GET" or line.status not in (200, 206):
            continue
        moved += line.bytes
        if line.status == 200 or line.bytes > 1:
            reads[match[2]] += 1
    found = []
    if requests == 0:
        found.append("the source's log is empty: nothing was judged")
    if requests > bounds.requests:
        found.append(f"{requests} requests at the source, {bounds.requests} allowed")
    if moved > bounds.bytes_over_unique * unique_bytes + 4096:
        found.append(
            f"{moved} bytes of blobs left the source, {bounds.bytes_over_unique:g} x {unique_bytes} allowed"
        )
    found += [
        f"blob {digest} was read {count} times at the source, {bounds.reads_of_a_blob} allowed"
        for digest, count in sorted(reads.items())
        if count > bounds.reads_of_a_blob
    ]
    return found


def open_uploads(root: Path) -> list[str]:
    """Return the upload sessions that a registry's storage directory (distribution) still holds.

    distribution 2.8.2 leaves an empty folder of hash states behind a session that was deleted; one that
    is open has the time when it was started.
    """
    return sorted(
        str(path.parent.relative_to(root)) for path in root.glob("**/_uploads/*/startedat")
    )


@dataclass(frozen=True)
class Footprint:
    """What a process holds: open files, threads, resident bytes."""

    files: int
    threads: int
    resident: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Read it from /proc."""
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return cls(
            sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            int(fields["Threads"]),
            int(fields["VmRSS"].split()[0]) * 1024,
        )


def judge_growth(
    before: Mapping[str, Footprint],
    after: Mapping[str, Footprint],
    *,
    files: int = 16,
    resident: float = 1.5,
) -> list[str]:
    """Judge what processes (by name) hold after a scenario against what they held warmed up before."""
    found = []
    for name, now in after.items():
        was = before.get(name)
        if was is None:
            continue
        if now.files > was.files + files:
            found.append(f"{name} holds {now.files} files open, {was.files} before")
        if now.resident > was.resident * resident:
            found.append(f"{name} has {now.resident >> 20} MiB, {was.resident >> 20} before")
    return found
