"""O3: no reader ever sees a tag go back, or point at what is not whole.

Samples the destination's tags while a scenario runs. Per tag the digests seen must follow the order of
the pushes at the source (a register check): each sample may stay or go forward, never back. Each new
sight of a digest is read in full at once, so a tag that comes before its blobs is caught.

    with Sampler(destination.url, {("team/app", "v1"): ("mirror/team/app", "v1")}, pushes) as sampler:
        ...
    assert not sampler.faults(), sampler
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tests.oracle.closure import Registry, blobs_of
from tests.oracle.pushes import Place, PushLog


@dataclass(frozen=True)
class Sample:
    """What a tag was seen to name, from `first` to `last` (time.monotonic)."""

    digest: str
    first: float
    last: float


class Sampler:
    """Reads tags of one destination every `every` seconds on a thread of its own.

    `places` maps source to destination names. `lenient`: how many samples of a place may regress for at
    most `repair_seconds` (promise P4: a late write is put right, registries have no compare-and-swap).
    """

    def __init__(
        self,
        url: str,
        places: Mapping[Place, Place],
        pushes: PushLog,
        *,
        every: float = 0.1,
        repair_seconds: float = 0.0,
    ) -> None:
        self._registry = Registry(url)
        self._places = dict(places)
        self._pushes = pushes
        self._every = every
        self._repair_seconds = repair_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._seen: dict[Place, list[Sample]] = {}
        self._holes: list[str] = []
        self._whole: set[tuple[str, str]] = set()
        self.looks = 0
        self.unread = 0  # the registry did not answer: no evidence either way

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._registry.close()

    def __str__(self) -> str:
        head = f"{self.looks} looks at {len(self._places)} tags, {self.unread} unanswered"
        return "\n  ".join([head, *self.faults()])

    def samples(self, place: Place) -> list[Sample]:
        """Return what a destination tag was seen to name, in order."""
        return list(self._seen.get(place, ()))

    def faults(self) -> list[str]:
        """Return what no reader may see, one sentence each."""
        found = list(self._holes)
        for origin, place in self._places.items():
            found += self._regress(origin, place)
        return found

    # ---- sampling --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            for place in self._places.values():
                self._look(place)
            self._stop.wait(self._every)
        for place in self._places.values():  # and once more at the end
            self._look(place)

    def _look(self, place: Place) -> None:
        repository, tag = place
        try:
            manifest = self._registry.manifest(repository, tag)
        except (OSError, http.client.HTTPException, ValueError):
            self.unread += 1
            return
        self.looks += 1
        now = time.monotonic()
        digest = "" if manifest is None else manifest.digest
        seen = self._seen.setdefault(place, [])
        if seen and seen[-1].digest == digest:
            seen[-1] = Sample(digest, seen[-1].first, now)
            return
        seen.append(Sample(digest, now, now))
        if manifest is not None:
            hole = self._hole(repository, manifest.digest, manifest.body(), 0)
            if hole:
                self._holes.append(f"{repository}:{tag} named {digest}, and {hole}")

    def _hole(self, repository: str, digest: str, body: dict, depth: int) -> str:
        """Say what cannot be read of a manifest's content; empty when it is whole."""
        if (repository, digest) in self._whole or depth > 5:
            return ""
        try:
            for child in body.get("manifests", []):
                found = self._registry.manifest(repository, child["digest"])
                if found is None:
                    return f"its child {child['digest']} was not there"
                hole = self._hole(repository, child["digest"], found.body(), depth + 1)
                if hole:
                    return hole
            for blob in blobs_of(body):
                length, actual = self._registry.read_blob(repository, blob["digest"])
                if actual != blob["digest"] or length != blob["size"]:
                    return f"its blob {blob['digest']} had {length} bytes, {actual}"
        except (OSError, http.client.HTTPException) as error:
            if self._still_named(repository, digest):
                return f"its content could not be read: {error}"
            return ""
        self._whole.add((repository, digest))
        return ""

    def _still_named(self, repository: str, digest: str) -> bool:
        try:
            return self._registry.manifest(repository, digest) is not None
        except (OSError, http.client.HTTPException):
            return False

    # ---- judgement -------------------------------------------------------------------------------

    def _regress(self, origin: Place, place: Place) -> list[str]:
        found = []
        reached = 0  # the least push that explains what was seen so far
        last_good: Sample | None = None
        for sample in self._seen.get(place, ()):
            if not sample.digest:
                continue  # not there yet, or removed: what may be missing at the end is O2's to say
            numbers = self._pushes.numbers(origin, sample.digest)
            if not numbers:
                found.append(f"{place[0]}:{place[1]} named {sample.digest}, which was never pushed")
                continue
            later = [number for number in numbers if number >= reached]
            if later:
                reached, last_good = later[0], sample
            elif sample.last - sample.first > self._repair_seconds or last_good is None:
                found.append(
                    f"{place[0]}:{place[1]} went back to push {numbers[-1]} after push {reached} "
                    f"for {sample.last - sample.first:.2f} s"
                )
        return found
