"""Who sends which large blob to whom next: the board of an execution (docs/adr/0016).

A blob is with its holders and needed by copies at other registries. Of all that could be sent, what the fewest have
goes first, the largest of those; nobody sends or gets more at once than its line carries. So nobody's line stands
still while there is something for it, and each byte is sent on by whoever has time. Values and rules alone: how
it is kept is another's business (service/store/boards.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from service.model.line import Line
from service.model.work import Errand, PartBlob

MOST_BLOBS = 64
"""Blobs on a board: of what is offered beyond, each copy brings its own."""

QUEUED_SECONDS = 20.0
"""An errand that has not begun after so long is lost."""

LOST_SECONDS = 900.0
"""A transfer that takes longer, or whose end nobody could tell, holds no line any more; claims keep others off its blob."""

FORGOTTEN_SECONDS = 600.0
"""A blob that for so long nobody brought anywhere goes from the board: those that need it are not to have it so."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a board is changed, in seconds of its own clock, and whether a process lives."""

    now: float
    lives: Callable[[str], bool]


@dataclass
class Need:
    """A copy that needs a blob: where, whose workers are to bring it ("": none live there), what Flower shows.

    `near`: the registries that it is best fed from.
    """

    registry: str
    region: str
    label: str
    near: tuple[str, ...]


@dataclass
class UnderWay:
    """A transfer: from which copy's place, since when, by which process ("": in a queue), of how many large ones."""

    holder: int
    since: float
    boot: str = ""
    beside_out: int = 1
    beside_in: int = 1


@dataclass
class OnBoard:
    """A blob: where it is (copy to registry), who needs it, and what is under way, by the copy that gets it."""

    size: int
    media_type: str
    holders: dict[int, str]
    needs: dict[int, Need]
    under_way: dict[int, UnderWay] = field(default_factory=dict)
    moved_at: float = 0.0


@dataclass
class Board:
    """Blobs by digest, lines by `out NAME` and `in NAME`."""

    blobs: dict[str, OnBoard] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)

    def offer(
        self, blob: PartBlob, holder: int, registry: str, needs: Mapping[int, Need], now: float
    ) -> list[str]:
        """Put up a blob that a copy has brought to its registry; return the registries that are to get it.

        None are returned where there is no room on the board.
        """
        found = self.blobs.get(blob.digest)
        if found is None:
            if not needs or len(self.blobs) >= MOST_BLOBS:
                return []
            found = self.blobs[blob.digest] = OnBoard(blob.size, blob.media_type, {}, {})
        self._has(found, holder, registry, now)
        there = {*found.holders.values(), *(need.registry for need in found.needs.values())}
        new = {copy: need for copy, need in needs.items() if need.registry not in there}
        found.needs.update(new)
        self._clean(blob.digest)
        found = self.blobs.get(blob.digest)
        if found is None:
            return []
        return [need.registry for copy, need in found.needs.items() if copy not in found.under_way]

    def assign(self, execution: str, moment: Moment) -> list[tuple[Errand, Need]]:
        """Return the errands that are to be sent now, each with whom it is for; they are under way from here on."""
        self._forget_lost(moment)
        sent = []
        while (best := min(self._possible(), default=None)) is not None:
            *_, digest, holder, copy = best
            found = self.blobs[digest]
            need, sender = found.needs[copy], found.holders[holder]
            self._line("out", sender).given += found.size
            self._line("in", need.registry).given += found.size
            found.under_way[copy] = UnderWay(holder, moment.now)
            self._join(sender, need.registry)
            blob = PartBlob(digest, found.size, found.media_type)
            sent.append((Errand(execution, blob, holder, copy), need))
        return sent

    def begin(self, errand: Errand, now: float, boot: str) -> list[str] | None:
        """Note that a process carries out an errand; return the registries that get the blob later.

        None: it is not to be done any more.
        """
        found = self.blobs.get(errand.blob.digest)
        if found is None or errand.follower not in found.needs:
            return None
        under_way = found.under_way.get(errand.follower)
        if under_way is not None and under_way.boot:
            return None
        if under_way is None:
            under_way = found.under_way[errand.follower] = UnderWay(errand.holder, now)
        under_way.boot, under_way.since = boot, now
        begun = {copy for copy, one in found.under_way.items() if one.boot}
        return [need.registry for copy, need in found.needs.items() if copy not in begun]

    def feed(
        self,
        blob: PartBlob,
        holder: int,
        needs: Mapping[int, Need],
        fed: Collection[int],
        moment: Moment,
        boot: str,
    ) -> list[int]:
        """Note that a process writes a blob to more registries while it brings it to the holder's.

        Returns those of `fed` that are to get it so: nobody has it yet, or is about to bring it there.
        The others of `needs` get it from whoever has it first.
        """
        self._forget_lost(moment)
        found = self.blobs.get(blob.digest)
        if found is None:
            if len(self.blobs) >= MOST_BLOBS:
                return []
            found = OnBoard(blob.size, blob.media_type, {}, {}, moved_at=moment.now)
        if found.holders:
            return []
        known = {need.registry: copy for copy, need in found.needs.items()}
        needs = {
            copy: need
            for copy, need in needs.items()
            if known.setdefault(need.registry, copy) == copy
        }
        begun = [copy for copy in fed if copy in needs and copy not in found.under_way]
        if begun:
            found.needs.update(needs)
            found.under_way.update({copy: UnderWay(holder, moment.now, boot) for copy in begun})
            self.blobs[blob.digest] = found
        return begun

    def broke_off(self, digest: str) -> None:
        """Note that a blob that was to be fed comes from nobody: who needs it brings it."""
        if (found := self.blobs.get(digest)) is not None and not found.holders:
            del self.blobs[digest]

    def again(self, errand: Errand) -> None:
        """Note that an errand came to nothing, and that its copy is to have the blob by another."""
        if (found := self.blobs.get(errand.blob.digest)) is not None:
            found.under_way.pop(errand.follower, None)

    def end(self, errand: Errand, now: float, *, placed: bool, answer: float = 0.0) -> Need | None:
        """Note that an errand is over: its blob is there, and goes on from there, or is left to the copy.

        `answer`: the seconds that the slower of the two registries takes for one. Returns whom it was for.
        """
        found = self.blobs.get(errand.blob.digest)
        if found is None or errand.follower not in found.needs:
            return None
        under_way = found.under_way.pop(errand.follower, None)
        need = found.needs.pop(errand.follower)
        if placed:
            if under_way is not None and under_way.boot and under_way.holder in found.holders:
                sender, size, since = found.holders[under_way.holder], found.size, under_way.since
                self._line("out", sender).note(since, now, size, under_way.beside_out, answer)
                self._line("in", need.registry).note(since, now, size, under_way.beside_in, answer)
            self._has(found, errand.follower, need.registry, now)
        self._clean(errand.blob.digest)
        return need

    def awaits(self, copy: int) -> bool:
        """Whether a copy is to get another blob."""
        return any(copy in found.needs for found in self.blobs.values())

    def boots(self, before: float) -> set[str]:
        """Return the processes that carry out errands which were begun before then."""
        under_way = (one for found in self.blobs.values() for one in found.under_way.values())
        return {one.boot for one in under_way if one.since < before} - {""}

    # ---- inside ----------------------------------------------------------------------------------

    def _has(self, found: OnBoard, copy: int, registry: str, now: float) -> None:
        found.holders[copy] = registry
        found.moved_at = now
        for other in [c for c, need in found.needs.items() if need.registry == registry]:
            del found.needs[other]
            found.under_way.pop(other, None)

    def _clean(self, digest: str) -> None:
        if not self.blobs[digest].needs:
            del self.blobs[digest]

    def _possible(self) -> Iterator[tuple[int, int, int, int, int, int, str, int, int]]:
        """Yield what may be sent now, what comes first less: how it is judged, then digest, holder, copy."""
        out = {name: self._busy("out", name) for name in self._registries()}
        into = {name: self._busy("in", name) for name in out}
        for digest, found in self.blobs.items():
            senders = [
                ((len(out[name]), self._line("out", name).given), copy, name)
                for copy, name in found.holders.items()
                if self._carries("out", name, out[name], found.size)
            ]
            if not senders:
                continue
            known = len(found.holders) + len(found.under_way)
            for copy, need in found.needs.items():
                if copy in found.under_way:
                    continue
                if not self._carries("in", need.registry, into[need.registry], found.size):
                    continue
                near = [(at, holder) for at, holder, name in senders if name in need.near]
                if near:
                    at, holder = min(near)
                    gets = (len(into[need.registry]), self._line("in", need.registry).given)
                    yield known, -found.size, *at, *gets, digest, holder, copy

    def _registries(self) -> set[str]:
        return {
            name
            for found in self.blobs.values()
            for name in (*found.holders.values(), *(n.registry for n in found.needs.values()))
        }

    def _busy(self, direction: str, name: str) -> list[int]:
        """Return the sizes of what is under way on a line."""
        return [
            found.size
            for found in self.blobs.values()
            for copy, under_way in found.under_way.items()
            if name
            == (
                found.holders.get(under_way.holder)
                if direction == "out"
                else found.needs[copy].registry
            )
        ]

    def _join(self, sender: str, receiver: str) -> None:
        """Note with all on two lines how many large ones they share them with by now."""
        beside_out = self._line("out", sender).large(self._busy("out", sender))
        beside_in = self._line("in", receiver).large(self._busy("in", receiver))
        for found in self.blobs.values():
            for copy, under_way in found.under_way.items():
                if found.holders.get(under_way.holder) == sender:
                    under_way.beside_out = max(under_way.beside_out, beside_out)
                if found.needs[copy].registry == receiver:
                    under_way.beside_in = max(under_way.beside_in, beside_in)

    def _carries(self, direction: str, name: str, busy: list[int], size: int) -> bool:
        return self._line(direction, name).has_room(busy, size)

    def _line(self, direction: str, name: str) -> Line:
        return self.lines.setdefault(f"{direction} {name}", Line())

    def _forget_lost(self, moment: Moment) -> None:
        for digest, found in list(self.blobs.items()):
            for copy, under_way in list(found.under_way.items()):
                seconds = moment.now - under_way.since
                begun = bool(under_way.boot)
                if seconds > (LOST_SECONDS if begun else QUEUED_SECONDS) or (
                    begun and not moment.lives(under_way.boot)
                ):
                    del found.under_way[copy]
            if not found.under_way and moment.now - found.moved_at > FORGOTTEN_SECONDS:
                del self.blobs[digest]
