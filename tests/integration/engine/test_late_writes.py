"""A process that stood still between its last look at the fence and its PUT of the tag."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from sqlalchemy import update

from service.model.states import CopyState
from service.model.work import CopyRef
from service.replication import replicate as use_cases
from service.store.tables import copies
from tests.support.world import World, some_bytes


class _Freezes:
    """A state whose first answer 'you hold it' behind `asked` comes just before others take the copy over.

    Looks before that are those of a copy that is slow, whether it is to go on.
    """

    def __init__(self, state: Any, asked: threading.Event, meanwhile: Any) -> None:
        self._state = state
        self._asked = asked
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def holds(self, ref: CopyRef) -> bool:
        answer: bool = self._state.holds(ref)
        if not self._asked.is_set():
            return answer
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return answer


def test_an_older_tag_written_late_is_put_right(world: World) -> None:
    older = world.push("team/app", "v1", [some_bytes("older", 1000)])
    execution = world.plan("team/*")
    frozen, heir = world.party(), world.party()
    (ref,) = world.dispatch()
    newer = []

    def meanwhile() -> None:
        newer.append(world.push("team/app", "v1", [some_bytes("newer", 1000)]))
        world.services.database.write(
            lambda c: c.execute(
                update(copies).values(state=CopyState.PENDING, fence=copies.c.fence + 1, owner="")
            )
        )
        world.run_to_end(execution, heir)
        assert world.tag_at_west("team/app", "v1") == newer[0].digest

    reread = threading.Event()  # the source's tag, which comes right before the last look
    world.east.fault("/v2/team/app/manifests/v1", method="HEAD", after=lambda *_: reread.set())
    patient = replace(world.settings, dead_after_seconds=600)  # however long the others take
    engine = replace(
        frozen.with_state(_Freezes(frozen.services.state, reread, meanwhile)), settings=patient
    )
    use_cases.replicate(engine, [ref])

    assert reread.is_set()
    assert newer[0].digest != older.digest
    assert world.tag_puts("team/app", "v1") == 3  # the heir's, the late one, and its undoing
    assert world.tag_at_west("team/app", "v1") == newer[0].digest
    assert world.states(execution) == [CopyState.COPIED]
