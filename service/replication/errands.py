"""Sends large blobs on before their image is whole (docs/adr/0016).

A copy that goes on from another registry begins when the image is committed there. A large blob need not
wait for that, nor keep to the tree of the route: whoever has it sends it to whoever needs it and has time, as the
execution's board says (service/model/board.py). Who wants to copy it there meanwhile waits; to whom it does not come,
or not in time, the copy itself brings it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial

from redis.exceptions import RedisError

from service.errors import StoreUnavailable, TransshipError
from service.model.board import Board, Moment, Need
from service.model.descriptor import Descriptor
from service.model.work import CopyWork, Errand, PartBlob, Wake
from service.registry.fed_upload import takes_a_feed
from service.replication.engine import Engine
from service.telemetry import get_logger

AHEAD_BYTES = 1 << 20
"""From here on a blob's way takes longer than the asking."""

MOST_WAITING = 64
"""Messages in a region's queues beyond which a head start comes too late to be one."""

WAITED_SECONDS = 20.0
WAITED_BYTES_PER_SECOND = 1_000_000
MOST_WAITED_SECONDS = 300.0
"""How long copies wait for a blob since one was last seen to bring it somewhere, or to be about to."""

Sent = Sequence[tuple[Errand, Need]]

log = get_logger("errands")


class Errands:
    """Sends blobs of one copy on to those that go on from it."""

    def __init__(self, engine: Engine, work: CopyWork) -> None:
        self._engine = engine
        self._work = work

    def offer(self, blob: Descriptor, fed: Collection[int] = ()) -> None:
        """Send on a blob that the copy has brought to its destination, but to those that were fed; nobody's failure."""
        work, part = self._work, _part(blob)
        try:
            if not self._goes_on(blob):
                return
            needs = {copy: need for copy, need in self._needs.items() if copy not in fed}
            if not needs:
                return
            change = partial(_offer, part, work, needs)
            waiting, sent = self._engine.boards.change(work.execution, change)
            announce(self._engine, part, waiting)
        except (RedisError, StoreUnavailable) as error:
            log.info("not_sent_ahead", copy=work.ref.id, digest=part.digest, error=str(error))
            return
        send(self._engine, sent)

    def feed(self, blob: Descriptor) -> list[tuple[Errand, str]]:
        """Return the errands that this process carries out while it reads the blob for the copy itself, each with its registry.

        Those that it would be sent anyway: of its own region's registries, and of regions in which nobody
        lives. Their bytes pass here in any case, and so they pass once; nobody's failure.
        """
        engine, work, part = self._engine, self._work, _part(blob)
        try:
            if not self._goes_on(blob):
                return []
            needs = self._needs
            ours = [
                copy
                for copy, need in needs.items()
                if need.region in ("", engine.settings.region)
                and work.destination_registry in need.near
                and _takes_a_feed(engine, need.registry, blob)
            ]
            ours = ours[: engine.followers.free()]
            if not ours:
                return []
            fed = engine.boards.change(
                work.execution,
                lambda board, moment: board.feed(
                    part, work.ref.id, needs, ours, moment, engine.boot
                ),
            )
        except (RedisError, StoreUnavailable) as error:
            log.info("not_sent_along", copy=work.ref.id, digest=part.digest, error=str(error))
            return []
        return [
            (Errand(work.execution, part, work.ref.id, copy), needs[copy].registry) for copy in fed
        ]

    def broke_off(self, blob: Descriptor) -> None:
        """Note that a blob that others were to be fed with was not read; they bring it themselves."""
        try:
            self._engine.boards.change(
                self._work.execution, lambda board, _: board.broke_off(str(blob.digest))
            )
        except RedisError as error:
            log.info("errand_lost", digest=str(blob.digest), error=str(error))

    def _goes_on(self, blob: Descriptor) -> bool:
        """Whether others go on from this copy, and the blob is worth it. Raises StoreUnavailable."""
        work = self._work
        if not work.routed or blob.size < AHEAD_BYTES or work.on_conflict != "overwrite":
            return False
        return bool(self._needs)

    @cached_property
    def _needs(self) -> dict[int, Need]:
        return self._engine.state.needs(self._work.ref.id)


def _takes_a_feed(engine: Engine, registry: str, blob: Descriptor) -> bool:
    if not engine.followers.keeps_up(registry):
        return False
    try:
        return takes_a_feed(engine.clients.get(registry), blob)
    except TransshipError:
        return False  # its copy will say why


def _part(blob: Descriptor) -> PartBlob:
    return PartBlob(str(blob.digest), blob.size, blob.media_type)


def _offer(
    blob: PartBlob, work: CopyWork, needs: Mapping[int, Need], board: Board, moment: Moment
) -> tuple[Sequence[str], Sent]:
    waiting = board.offer(blob, work.ref.id, work.destination_registry, needs, moment.now)
    return waiting, board.assign(work.execution, moment)


def begin(engine: Engine, errand: Errand) -> bool:
    """Note that this process carries out an errand; whether it is still to be done. Raises RedisError."""
    waiting = engine.boards.change(
        errand.execution, lambda board, moment: board.begin(errand, moment.now, engine.boot)
    )
    if waiting is None:
        return False
    announce(engine, errand.blob, waiting)
    return True


def end(engine: Engine, errand: Errand, *, placed: bool, answer: float) -> None:
    """Note that an errand is over, let those go on that waited for it, and send what may go now; nobody's failure."""
    send(engine, _ended(engine, errand, placed=placed, answer=answer))


def _ended(engine: Engine, errand: Errand, *, placed: bool, answer: float) -> Sent:
    def change(board: Board, moment: Moment) -> tuple[Need | None, bool, Sent]:
        need = board.end(errand, moment.now, placed=placed, answer=answer)
        return need, board.awaits(errand.follower), board.assign(errand.execution, moment)

    try:
        need, awaits_more, sent = engine.boards.change(errand.execution, change)
    except RedisError as error:
        log.info("errand_lost", digest=errand.blob.digest, error=str(error))
        return ()
    if need is not None:
        _withdraw(engine, errand.blob, need.registry, placed=placed)
        if placed and not awaits_more:
            with suppress(StoreUnavailable):  # then it goes when its parent is done
                engine.state.let_go(errand.follower, need.near)
    return sent


def leave(engine: Engine, errand: Errand) -> None:
    """Note that an errand came to nothing, and that the next who can is to bring the blob; nobody's failure."""

    def change(board: Board, moment: Moment) -> Sent:
        board.again(errand)
        return board.assign(errand.execution, moment)

    try:
        sent = engine.boards.change(errand.execution, change)
    except RedisError as error:
        log.info("errand_lost", digest=errand.blob.digest, error=str(error))
        return
    send(engine, sent)


def send(engine: Engine, sent: Sent) -> None:
    """Send errands to where they are carried out; those of a region in which all are busy are left to the copies."""
    waiting = deque(sent)
    while waiting:
        errand, need = waiting.popleft()
        region = need.region or engine.settings.region
        try:
            if engine.publisher.waiting(region) < MOST_WAITING:
                engine.publisher.ahead(region, errand, need.label)
                continue
        except RedisError as error:
            log.info("errand_lost", digest=errand.blob.digest, error=str(error))
            return
        waiting.extend(_ended(engine, errand, placed=False, answer=0.0))


def announce(engine: Engine, blob: PartBlob, registries: Collection[str]) -> None:
    """Have copies to these registries wait for a blob for a while. Raises RedisError."""
    places = []
    for registry in registries:
        with suppress(TransshipError):  # it cannot be told: its copies will say so
            places.append((registry, engine.clients.scope(registry)))
    if places:
        seconds = WAITED_SECONDS + blob.size / WAITED_BYTES_PER_SECOND
        engine.claims.announce(places, blob.digest, min(MOST_WAITED_SECONDS, seconds))


def _withdraw(engine: Engine, blob: PartBlob, registry: str, *, placed: bool) -> None:
    with suppress(TransshipError, RedisError):  # then they wait for some seconds more
        scope = engine.clients.scope(registry)
        woken = engine.claims.withdraw(registry, scope, blob.digest, placed=placed)
        if woken:
            engine.post([Wake(tuple(woken))])
