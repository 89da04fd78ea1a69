"""Replicate a page of changed tags: what is missing is copied here, or fanned out when it is large."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from redis.exceptions import RedisError

from service.crashpoints import crashpoint
from service.errors import Cancelled, ManifestNotFound, TransshipError
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.states import BlobState, CopyState
from service.model.task_id import task_id
from service.model.work import (
    BlobPlaced,
    CopyEnded,
    CopyFansOut,
    CopyPostponed,
    CopyRef,
    CopyWaits,
    CopyWork,
    Counters,
    PartBlob,
    PartEnded,
    PartWork,
    Wake,
)
from service.replication.commit_manifest import Committer
from service.replication.conditions import must_not_follow, renamed, unmet
from service.replication.conflict import standing
from service.replication.copy_blob import BlobPlacer
from service.replication.engine import Engine
from service.replication.failures import (
    CORRUPT_TRIES,
    MAX_THROTTLES,
    OUTAGES,
    backoff,
    outcome_of,
)
from service.replication.holders import from_nearest, nearest
from service.replication.onward import Onward
from service.replication.signatures import require_signature
from service.replication.tree import Tree, TreeReader
from service.replication.working import at_work
from service.telemetry import get_logger

PATIENCE_STEP_SECONDS = 0.01
PATIENCE_ANSWERS = 12
"""How many answers' time a held blob is waited for: its holder needs half a dozen, one after the other."""
MAX_PATIENCE_SECONDS = 3.0
MAX_PATIENCE_STEP_SECONDS = 0.1

log = get_logger("replicate")

Result = CopyEnded | CopyPostponed | CopyWaits | CopyFansOut


def replicate(engine: Engine, refs: Sequence[CopyRef]) -> dict[str, int]:
    """Carry out dispatched copies, side by side over slow links; each ends in an outcome of its own.

    Returns how many came to which state, for the task's result.
    """
    with engine.holding.hold(refs):
        works = engine.state.begin(refs, engine.boot)
        crashpoint("copy.begun")
        # within the page, too, what is stopped or paused ends before its next image, not behind the last one
        over = {work.ref: engine.cancelled(work) for work in works}
        names = engine.beside.each(
            works,
            lambda work: _settle(engine, work, fan_out=True, over=over[work.ref]),
            answers=lambda: max(_answers_within(engine, work) for work in works),
        )
    return dict(Counter(names))


def _answers_within(engine: Engine, work: CopyWork) -> float:
    """Return the seconds that the slower side of a copy takes for an answer, 0.0 if it cannot be told."""
    sides = (nearest(work).registry, work.destination_registry)
    try:
        return max(engine.clients.get(side).answers_within("manifest") for side in sides)
    except TransshipError:
        return 0.0  # the copy itself will say so


def commit_manifest(engine: Engine, ref: CopyRef) -> str:
    """Commit a copy that was fanned out; does nothing when somebody else has or had it."""
    with engine.holding.hold([ref]):
        work = engine.state.begin_commit(ref, engine.boot)
        crashpoint("commit.claimed")
        return "fenced" if work is None else _settle(engine, work, fan_out=False)


def copy_part(engine: Engine, ref: CopyRef, part: int, *, last: bool) -> str:
    """Place the blobs of one part of a fanned-out copy.

    `last`: no chord waits for it, so commit, unless another part is still under way.
    """
    with engine.holding.hold([ref]):
        work = engine.state.begin_part(ref, part, engine.boot)
        if work is None:
            return "fenced"
        counters = Counters()
        with (
            at_work(work.copy, "copy_blob", part=part),
            engine.meter.collect(counters.requests),
        ):
            placed = _place_part(engine, work, counters)
        crashpoint("part.placed")
        engine.post([PartEnded(work, counters, tuple(placed))])
    if last:
        return commit_manifest(engine, ref)
    return "placed"


# ---- one copy ------------------------------------------------------------------------------------


def _settle(
    engine: Engine,
    work: CopyWork,
    *,
    fan_out: bool,
    over: Callable[[], bool] = lambda: False,
) -> str:
    """Work on an owned copy until it has an outcome, and post that; `over`: it is not wanted any more."""
    with at_work(work, "replicate" if fan_out else "commit") as tell:
        came_to = _come_to(engine, work, fan_out, over)
        tell(**{"transship.outcome": came_to})
        return came_to


def _come_to(engine: Engine, work: CopyWork, fan_out: bool, over: Callable[[], bool]) -> str:
    counters = Counters()
    with engine.meter.collect(counters.requests):
        try:
            _check(over)
            if engine.guard is not None:
                work = engine.guard.allowed(work)
            digest = _current_digest(engine, work)
            work = _knowing(work, digest)
            copy = partial(
                _copy, engine, counters=counters, digest=digest, fan_out=fan_out, over=over
            )
            outcome = from_nearest(work, copy)
        except Exception as error:  # noqa: BLE001 - whatever it is, this copy ends and the others go on
            outcome = outcome_of(error, work, counters, engine.settings)
            if not isinstance(error, Cancelled):
                _log(work, error, outcome)
    crashpoint("commit.before_sql")
    engine.post([outcome])
    crashpoint("copy.after_sql")
    try:
        if isinstance(outcome, CopyFansOut):
            labels = [_label(work, part) for part in outcome.parts]
            engine.publisher.fan_out(
                work.region, work.ref, outcome.task_ids, labels, urgent=work.urgent
            )
        if isinstance(outcome, CopyWaits):
            _close_the_gap(engine, work, outcome.digest)
    except RedisError as error:  # the rest of the page is this process's to carry out all the same
        log.warning("queue_away", copy=work.ref.id, error=f"{type(error).__name__}: {error}")
        if isinstance(outcome, CopyFansOut):
            engine.post([outcome_of(error, work, Counters(), engine.settings)])
    return outcome.state.value if isinstance(outcome, CopyEnded) else type(outcome).__name__


def _check(over: Callable[[], bool]) -> None:
    """Raise Cancelled when it is over."""
    if over():
        raise Cancelled


def _copy(
    engine: Engine,
    work: CopyWork,
    *,
    counters: Counters,
    digest: Digest | None,
    fan_out: bool,
    over: Callable[[], bool],
) -> Result:
    if digest is None:
        return _gone(work, counters)
    if must_not_follow(work, digest):
        return renamed(work, counters)
    settled = standing(engine, work, counters, digest)
    if settled is not None:
        return settled
    require_signature(engine, work, digest)
    reader = TreeReader(engine, work)
    misfit = unmet(engine, work, counters, reader.root(digest))
    if misfit is not None:
        return misfit
    _check(over)
    tree = reader.read(digest)
    _check(over)
    source = engine.clients.get(work.source_registry)
    engine.clients.get(work.destination_registry).learn_left_out(
        work.destination_repository,
        source,
        work.source_repository,
        partial(engine.beside.each, answers=lambda: source.answers_within("manifest")),
    )
    placer = BlobPlacer(engine, work, counters, Onward(engine, work))
    missing = placer.settle(tree.blobs())
    small = sum(blob.size for blob in missing) < engine.settings.small_image_bytes
    in_one = fan_out and bool(missing) and small
    if not in_one:
        placer.flush()
    if missing and not fan_out:
        return _unplaced(engine, work, counters, placer, missing)
    if missing and not in_one:
        return _fan_out(engine, work, counters, placer, missing)
    if missing:
        _check(over)
        held = _be_patient(engine, work, placer, placer.transfer(missing))
        if held:
            return _wait(placer, work, counters, held)
    return _commit(engine, work, counters, tree)


def _gone(work: CopyWork, counters: Counters) -> CopyEnded:
    """Skip a tag that vanished after it was listed or asked for; one that the rule names must be there."""
    if work.listed or work.asked:
        reason = "the source no longer has this tag"
        return CopyEnded(work, CopyState.SKIPPED, counters, reason=reason)
    return CopyEnded(
        work,
        CopyState.FAILED,
        counters,
        failure_class="gone",
        reason=f"the source has no {work.source_repository}:{work.source_reference}",
    )


def _current_digest(engine: Engine, work: CopyWork) -> Digest | None:
    """Return the digest to copy: the one that was compared, or the tag's present one on a re-plan.

    A tag of which nobody has seen the digest is read itself: its manifest is needed anyway.
    Raises Cancelled when the process drains.
    """
    if engine.draining.is_set():
        raise Cancelled
    if work.digest and not work.replans:
        return Digest.parse(work.digest)
    if ":" in work.source_reference:
        return Digest.parse(work.source_reference)
    source = engine.clients.get(work.source_registry)
    if work.digest or source.endpoint.counts_reads:
        head = source.head_manifest(work.source_repository, work.source_reference)
        return None if head is None else head.digest
    try:
        manifest = source.get_manifest(work.source_repository, work.source_reference)
    except ManifestNotFound:
        return None
    place = work.source_registry, work.source_repository
    return engine.manifests.get(place, manifest.digest, lambda: manifest).digest


def _knowing(work: CopyWork, digest: Digest | None) -> CopyWork:
    """Return the work with its digest, to stay with it through waits, tasks and reports.

    Where an entry looks at what a tag is, only the planner's digest is one that it has taken.
    """
    if digest is None or work.digest or work.types or work.platforms:
        return work
    return replace(work, digest=str(digest))


def _commit(engine: Engine, work: CopyWork, counters: Counters, tree: Tree) -> Result:
    return Committer(engine, work, counters).commit(tree)


def _be_patient(
    engine: Engine, work: CopyWork, placer: BlobPlacer, held: list[Descriptor]
) -> list[Descriptor]:
    """Give others a moment: a small blob that is on its way is mostly there in a few answers' time."""
    if not engine.patience_seconds:
        return held
    answer = _answers_within(engine, work)
    patience = max(engine.patience_seconds, min(MAX_PATIENCE_SECONDS, PATIENCE_ANSWERS * answer))
    step = max(PATIENCE_STEP_SECONDS, min(MAX_PATIENCE_STEP_SECONDS, answer / 2))
    deadline = time.monotonic() + patience
    while held and time.monotonic() < deadline:
        time.sleep(step)
        if _is_moving(engine, work, held[-1]):
            step = min(
                2 * step, max(PATIENCE_STEP_SECONDS, answer)
            )  # most are there by now, or soon
        else:
            held = placer.transfer(held)
    return held


def _wait(
    placer: BlobPlacer, work: CopyWork, counters: Counters, held: list[Descriptor]
) -> CopyWaits | CopyPostponed:
    largest = max(held, key=lambda blob: blob.size)
    if placer.wait_for(largest):
        return CopyWaits(work, counters, str(largest.digest))
    return CopyPostponed(work, counters)


def _close_the_gap(engine: Engine, work: CopyWork, digest: str) -> None:
    """Wake ourselves when the blob was finished between registering and the row saying 'waiting'."""
    scope = engine.clients.scope(work.destination_registry)
    if not engine.claims.wait(work.destination_registry, scope, digest, work.ref.id):
        engine.state.post([Wake((work.ref.id,))])


# ---- large images --------------------------------------------------------------------------------


def _fan_out(
    engine: Engine,
    work: CopyWork,
    counters: Counters,
    placer: BlobPlacer,
    missing: list[Descriptor],
) -> Result:
    """Split missing blobs into parts: each large one alone, the small ones together.

    What somebody else is bringing is no part of it: the commit looks for it, and waits.
    """
    free = [blob for blob in missing if not _is_moving(engine, work, blob)]
    if not free:
        return _wait(placer, work, counters, missing)
    limit = engine.settings.small_blob_bytes
    large = sorted((b for b in free if b.size >= limit), key=lambda b: -b.size)
    small = [blob for blob in free if blob.size < limit]
    groups = [*([blob] for blob in large), *([small] if small else [])]
    parts = tuple(
        tuple(PartBlob(str(b.digest), b.size, b.media_type) for b in group) for group in groups
    )
    ids = tuple(task_id(work.ref, f"part{number}") for number in range(len(parts)))
    return CopyFansOut(work, counters, parts, ids)


def _is_moving(engine: Engine, work: CopyWork, blob: Descriptor) -> bool:
    return engine.claims.moving(
        work.destination_registry, engine.clients.scope(work.destination_registry), str(blob.digest)
    )


def _place_part(engine: Engine, work: PartWork, counters: Counters) -> list[BlobPlaced]:
    placed = []
    blobs = [
        Descriptor(media_type=blob.media_type, digest=Digest.parse(blob.digest), size=blob.size)
        for blob in work.blobs
    ]
    for blob in blobs:
        digest = str(blob.digest)
        before = (counters.blobs_copied, counters.blobs_mounted)

        def place(work: CopyWork, blob: Descriptor = blob) -> list[Descriptor]:
            placer = BlobPlacer(engine, work, counters, Onward(engine, work))
            return placer.transfer(placer.settle([blob]))

        try:
            allowed = work.copy if engine.guard is None else engine.guard.allowed(work.copy)
            held = from_nearest(allowed, place)
        except (Cancelled, *OUTAGES) as error:
            reason = "the process drains" if isinstance(error, Cancelled) else str(error)
            placed.append(BlobPlaced(digest, BlobState.WAITING, "stopped", reason))
        except Exception as error:  # noqa: BLE001 - a part returns an outcome, it never raises across a chord
            outcome = outcome_of(error, work.copy, counters, engine.settings)
            _log(work.copy, error, outcome)
            waits = isinstance(outcome, CopyPostponed) and outcome.away
            placed.append(
                BlobPlaced(
                    digest,
                    BlobState.WAITING if waits else BlobState.FAILED,
                    outcome.failure_class,
                    outcome.reason,
                    outcome.pause_seconds if isinstance(outcome, CopyPostponed) else 0.0,
                )
            )
        else:
            placed.append(BlobPlaced(digest, _placed_as(held, before, counters)))
    return placed


def _placed_as(held: list[Descriptor], before: tuple[int, int], counters: Counters) -> BlobState:
    if held:
        return BlobState.WAITING
    if counters.blobs_copied > before[0]:
        return BlobState.COPIED
    if counters.blobs_mounted > before[1]:
        return BlobState.MOUNTED
    return BlobState.PRESENT


def _unplaced(
    engine: Engine,
    work: CopyWork,
    counters: Counters,
    placer: BlobPlacer,
    missing: list[Descriptor],
) -> Result:
    """Say what becomes of a copy whose parts ended and that still misses blobs."""
    failures = {blob.digest: blob for blob in engine.state.part_failures(work.ref)}
    for blob in missing:
        failure = failures.get(str(blob.digest))
        if failure is not None and failure.state is BlobState.FAILED:
            return _part_failed(engine, work, counters, failure)
    away = [f for f in failures.values() if f.state is BlobState.WAITING and f.pause_seconds]
    if away:
        first = min(away, key=lambda failure: failure.pause_seconds)
        return CopyPostponed(
            work,
            counters,
            pause_seconds=first.pause_seconds,
            failure_class=first.failure_class,
            reason=first.reason,
            away=True,
        )
    waiting = [blob for blob in missing if _is_moving(engine, work, blob)]
    if waiting:
        return _wait(placer, work, counters, waiting)
    return CopyPostponed(work, counters)


def _part_failed(
    engine: Engine, work: CopyWork, counters: Counters, failure: BlobPlaced
) -> CopyEnded | CopyPostponed:
    """Let the copy try again as its worst blob would have, were it alone."""
    throttled = failure.failure_class == "throttled"
    tries = CORRUPT_TRIES if failure.failure_class == "corrupt" else engine.settings.max_attempts
    again = work.throttles < MAX_THROTTLES if throttled else work.failures + 1 < tries
    if failure.failure_class in TRANSIENT and again:
        return CopyPostponed(
            work,
            counters,
            pause_seconds=failure.pause_seconds or backoff(work.failures, engine.settings),
            failed=not throttled,
            failure_class=failure.failure_class,
            reason=failure.reason,
        )
    return CopyEnded(
        work,
        CopyState.FAILED,
        counters,
        failure_class=failure.failure_class,
        reason=failure.reason,
    )


TRANSIENT = frozenset({"network", "server", "throttled", "corrupt", "stopped"})


# ---- words -----------------------------------------------------------------------------------------


def _label(work: CopyWork, blobs: Sequence[PartBlob]) -> str:
    size = sum(blob.size for blob in blobs)
    what = blobs[0].digest[:19] if len(blobs) == 1 else f"{len(blobs)} small blobs"
    return f"{work.ref.label} {what} ({size / 1e6:.1f} MB)"


def _log(work: CopyWork, error: Exception, outcome: CopyEnded | CopyPostponed) -> None:
    log.warning(
        "copy_failed",
        execution=work.execution,
        copy=work.ref.id,
        source=f"{work.source_registry}/{work.source_repository}:{work.source_reference}",
        destination=f"{work.destination_registry}/{work.destination_repository}",
        error=type(error).__name__,
        failure_class=outcome.failure_class,
        reason=outcome.reason,
        again=isinstance(outcome, CopyPostponed),
        exc_info=outcome.failure_class == "bug",
    )
