"""The ids of tasks: the same copy, fence and part always give the same one."""

from __future__ import annotations

import uuid

from service.model.work import CopyRef

TASK_NAMESPACE = uuid.UUID("7f1b8f0a-5f5e-4b53-9d2c-6f0d3a1f2b90")


def task_id(ref: CopyRef, part: str) -> str:
    """Return the id of the task that carries out `part` of a copy: a message sent twice is one task."""
    return str(uuid.uuid5(TASK_NAMESPACE, f"{ref.id}:{ref.fence}:{part}"))
