"""O8: each deletion at a destination follows two clear absences at the source, and a declaration.

A clear absence (P6) is a GET or HEAD of the tag's manifest answered 404 at the source. Two of them are
wanted, `apart_seconds` apart, before the DELETE; any answer but 404 in between starts the count anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from tests.oracle.pushes import Place

_MANIFEST = re.compile(r"^/v2/(.+)/manifests/([^/?]+)")


@dataclass(frozen=True)
class Seen:
    """A request as a registry's log has it; `at` by one clock for both registries."""

    method: str
    path: str
    status: int
    at: float


def judge_deletions(
    source: Iterable[Seen],
    destination: Iterable[Seen],
    declared: Mapping[Place, Place],
    *,
    apart_seconds: float,
) -> list[str]:
    """Judge every DELETE of a manifest at the destination.

    `declared`: destination place -> its source place, of all deletions that the test asked for.
    """
    looks = [(*_place(one), one) for one in source if one.method in ("GET", "HEAD")]
    found = []
    for deletion in destination:
        if deletion.method != "DELETE" or deletion.status not in (200, 202, 204):
            continue
        repository, reference = _place(deletion)
        if not repository:
            continue  # an upload session, or a blob
        origin = declared.get((repository, reference))
        if origin is None:
            found.append(f"{repository}:{reference} was deleted, and nobody asked for that")
            continue
        absences = _absences(
            [
                look
                for place_repository, tag, look in looks
                if (place_repository, tag) == origin and look.at < deletion.at
            ]
        )
        if len(absences) < 2 or absences[-1] - absences[0] < apart_seconds:
            found.append(
                f"{repository}:{reference} was deleted after {len(absences)} absences "
                f"of {origin[0]}:{origin[1]}, two are wanted {apart_seconds:g} s apart"
            )
    return found


def _absences(looks: list[Seen]) -> list[float]:
    absences: list[float] = []
    for look in looks:
        absences = [*absences, look.at] if look.status == 404 else []
    return absences


def _place(seen: Seen) -> Place:
    match = _MANIFEST.match(unquote(seen.path))
    return (match[1], match[2]) if match else ("", "")
