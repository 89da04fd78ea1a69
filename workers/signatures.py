"""Task names and the typed calls that send them: all that other packages may know of the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from service.model.task_id import task_id
from service.model.work import CopyRef, Errand
from workers import envelope, queues

PLAN = "transship.plan_execution"
REPLICATE = "transship.replicate"
COPY_BLOB = "transship.copy_blob"
COMMIT = "transship.commit_manifest"
AHEAD = "transship.place_ahead"
EXAMINE = "transship.examine_registry"
RELEASE = "transship.carry_out_release"
DELETE = "transship.delete"
CHECK = "transship.check_registries"


class QueuePublisher:
    """The Publisher over Celery's queues in one region's Redis."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def plan(self, execution: str, *, urgent: bool = False, region: str | None = None) -> None:
        """Send an execution to be planned; an urgent one does not stand behind others.

        One that only workers of some region may plan goes to their queue.
        """
        queue = queues.URGENT_CONTROL if urgent else queues.CONTROL
        if region is not None:
            queue = queues.urgent(region) if urgent else queues.control(region)
        text = envelope.message(
            task=PLAN,
            identity=_fresh_id(),
            args=[execution],
            queue=queue,
            argsrepr=f"execution {execution}",
        )
        envelope.send(self._redis, queue, [text])

    def replicate(self, region: str, pages: Sequence[Sequence[CopyRef]], *, urgent: bool) -> None:
        """Send each page of copies as one task."""
        queue = queues.urgent(region) if urgent else queues.copy(region)
        messages = [
            envelope.message(
                task=REPLICATE,
                identity=task_id(page[0], f"page{len(page)}"),
                args=[[[ref.id, ref.fence] for ref in page]],
                queue=queue,
                argsrepr=_page_label(page),
            )
            for page in pages
        ]
        envelope.send(self._redis, queue, messages)

    def fan_out(
        self,
        region: str,
        ref: CopyRef,
        task_ids: Sequence[str],
        labels: Sequence[str],
        *,
        urgent: bool = False,
    ) -> None:
        """Send a copy's parts as a flat chord whose callback commits; a single part commits itself."""
        queue = queues.urgent(region) if urgent else queues.copy(region)
        alone = len(task_ids) == 1
        group = None if alone else task_id(ref, "chord")
        chord = (
            None
            if alone
            else envelope.body_signature(
                task=COMMIT,
                identity=task_id(ref, "commit"),
                args=[ref.id, ref.fence],
                queue=queues.commit(region),
                argsrepr=_label(ref),
            )
        )
        if group is not None:
            envelope.open_chord(self._redis, group, len(task_ids))
        messages = [
            envelope.message(
                task=COPY_BLOB,
                identity=identity,
                args=[ref.id, ref.fence, part, alone],
                queue=queue,
                argsrepr=label,
                group=group,
                group_index=None if alone else part,
                chord=chord,
            )
            for part, (identity, label) in enumerate(zip(task_ids, labels, strict=True))
        ]
        envelope.send(self._redis, queue, messages)

    def part(self, region: str, ref: CopyRef, part: int, task_id: str) -> None:
        """Send one part again, outside its chord; whoever ends last commits."""
        queue = queues.copy(region)
        text = envelope.message(
            task=COPY_BLOB,
            identity=task_id,
            args=[ref.id, ref.fence, part, True],
            queue=queue,
            argsrepr=f"{_label(ref)} part {part}, sent again",
        )
        envelope.send(self._redis, queue, [text])

    def ahead(self, region: str, errand: Errand, label: str) -> None:
        """Send a blob of copies ahead of them."""
        queue = queues.copy(region)
        blob = errand.blob
        text = envelope.message(
            task=AHEAD,
            identity=_fresh_id(),
            args=[asdict(errand)],
            queue=queue,
            argsrepr=f"{label} {blob.digest[:19]} ({blob.size / 1e6:.1f} MB), ahead",
        )
        envelope.send(self._redis, queue, [text])

    def waiting(self, region: str) -> int:
        """Return how many messages stand in the queues of a region."""
        return sum(self.depths(region).values())

    def depths(self, region: str) -> dict[str, int]:
        """Return how many messages stand in each queue of a region: urgent, commit, copy."""
        names = {
            "urgent": queues.urgent(region),
            "commit": queues.commit(region),
            "copy": queues.copy(region),
        }
        pipe = self._redis.pipeline(transaction=False)
        for name in names.values():
            pipe.llen(envelope.queue_key(name))
        return dict(zip(names, map(int, pipe.execute()), strict=True))

    def examine(self, region: str, examination: str) -> None:
        """Send an examination to be carried out; it does not stand behind copies."""
        queue = queues.urgent(region)
        text = envelope.message(
            task=EXAMINE,
            identity=_fresh_id(),
            args=[examination],
            queue=queue,
            argsrepr=f"examination {examination}",
        )
        envelope.send(self._redis, queue, [text])

    def delete(self, region: str, piece: str, registries: Sequence[str]) -> None:
        """Send a piece of deletions that is to be done in a region; it does not stand behind copies."""
        queue = queues.urgent(region)
        text = envelope.message(
            task=DELETE,
            identity=_fresh_id(),
            args=[piece, list(registries)],
            queue=queue,
            argsrepr=f"deletions of {piece}",
        )
        envelope.send(self._redis, queue, [text])

    def check(self, region: str, registries: Sequence[str]) -> None:
        """Send registries to be asked whether they are well; it does not stand behind copies."""
        queue = queues.urgent(region)
        text = envelope.message(
            task=CHECK,
            identity=_fresh_id(),
            args=[list(registries)],
            queue=queue,
            argsrepr=f"health of {len(registries)} registries",
        )
        envelope.send(self._redis, queue, [text])

    def release_part(self, place: str, release: str, region: str, fence: int) -> None:
        """Send what a release has to do in a region; it does not stand behind copies."""
        queue = queues.urgent(place)
        text = envelope.message(
            task=RELEASE,
            identity=_fresh_id(),
            args=[release, region, fence],
            queue=queue,
            argsrepr=f"release {release} in {region}",
        )
        envelope.send(self._redis, queue, [text])

    def commit(self, region: str, ref: CopyRef) -> None:
        """Send a copy to be committed."""
        queue = queues.commit(region)
        text = envelope.message(
            task=COMMIT,
            identity=_fresh_id(),
            args=[ref.id, ref.fence],
            queue=queue,
            argsrepr=_label(ref),
        )
        envelope.send(self._redis, queue, [text])


def _fresh_id() -> str:
    import uuid

    return str(uuid.uuid4())


def _page_label(page: Sequence[CopyRef]) -> str:
    first = _label(page[0])
    return first if len(page) == 1 else f"{first} and {len(page) - 1} more"


def _label(ref: CopyRef) -> str:
    return ref.label or f"copy {ref.id}.{ref.fence}"
