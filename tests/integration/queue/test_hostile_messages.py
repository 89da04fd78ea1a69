"""Messages of somebody who can write to Redis: nothing in them is run, and the worker goes on (reliability.md S12)."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import redis

from service.model.states import CopyState
from service.model.work import CopyRef
from tests.support.processes import wait_until
from tests.support.world import World
from workers.signatures import QueuePublisher


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


def envelope(client: redis.Redis) -> tuple[str, dict[str, Any]]:
    """A message as we send it, taken back out of its queue."""
    QueuePublisher(client).commit("local", CopyRef(1 << 40, 1))
    (queue,) = client.keys("transship:commit.local*")
    raw = client.rpop(queue)
    assert raw is not None
    return queue.decode(), json.loads(raw)


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


@pytest.mark.timeout(90)
def test_what_others_write_into_a_queue_is_not_run(world: World, tmp_path: Path) -> None:
    client = world.services.redis
    queue, ours = envelope(client)
    traces = {name: tmp_path / f"ran-{name}" for name in ("pickle", "unsaid", "yaml", "result")}

    def sent(body: bytes, content_type: str | None = None, **headers: Any) -> None:
        message = copy.deepcopy(ours)
        message["body"] = encoded(body)
        message["properties"]["body_encoding"] = "base64"
        if content_type is not None:
            message["content-type"] = content_type
        message["headers"].update(headers)
        client.lpush(queue, json.dumps(message))

    sent(pickle.dumps(Bomb(traces["pickle"])), "application/x-python-serialize")
    sent(pickle.dumps(Bomb(traces["unsaid"])))
    sent(
        f"!!python/object/apply:os.system ['touch {traces['yaml']}']".encode(), "application/x-yaml"
    )
    sent(json.dumps([["touch x"], {}, {}]).encode(), task="os.system")
    sent(json.dumps([[], {}, {}]).encode(), task="celery.chord_unlock")
    sent(json.dumps([["a", {"b": 1}, None], {"copy": 1}, {}]).encode())
    for odd in (b"\x80\x04not even an envelope", b"[]", b"{}", b"7", b'{"headers": {}}'):
        client.lpush(queue, odd)
    client.set("transship:celery-task-meta-x", pickle.dumps(Bomb(traces["result"])))
    image = world.push("team/app", "v1", [b"layer"])
    execution = world.plan("team/app")
    (ref,) = world.dispatch()

    with world.worker() as worker:
        QueuePublisher(client).replicate("local", [[ref]], urgent=False)
        wait_until(lambda: world.states(execution) == [CopyState.COPIED], 40, "the real work")
        wait_until(lambda: not client.exists(queue), 20, "the others' messages to be taken")
        assert worker.alive

    assert world.tag_at_west("team/app", "v1") == image.digest
    assert [name for name, path in traces.items() if path.exists()] == []
