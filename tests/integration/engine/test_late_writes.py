"""A process that stood still between its last look at the fence and its PUT of the tag."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import update

from service.model.states import CopyState
from service.model.work import CopyRef
from service.replication import replicate as use_cases
from service.store.tables import copies
from tests.support.world import World, some_bytes


class _Freezes:
    """A state whose first answer 'you hold it' comes just before others take the copy over."""

    def __init__(self, state: Any, meanwhile: Any) -> None:
        self._state = state
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def holds(self, ref: CopyRef) -> bool:
        answer: bool = self._state.holds(ref)
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

    patient = replace(world.settings, dead_after_seconds=600)  # however long the others take
    engine = replace(
        frozen.with_state(_Freezes(frozen.services.state, meanwhile)), settings=patient
    )
    use_cases.replicate(engine, [ref])

    assert newer[0].digest != older.digest
    assert world.tag_puts("team/app", "v1") == 3  # the heir's, the late one, and its undoing
    assert world.tag_at_west("team/app", "v1") == newer[0].digest
    assert world.states(execution) == [CopyState.COPIED]
