"""A real worker process takes our messages; its lease on long tasks is renewed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import redis
from kombu import Connection

from service.model.states import CopyState
from service.settings import Settings
from tests.support.processes import wait_until
from tests.support.servers import RedisServer
from tests.support.world import World, some_bytes
from workers import signatures
from workers.app import make_app
from workers.lease import Lease
from workers.signatures import QueuePublisher

LAYERS = [some_bytes(f"layer{number}", 1_100_000 + number) for number in range(3)]


def test_a_flat_chord_runs_its_body_once(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    redis_client = world.services.redis

    with world.worker(TRANSSHIP_SMALL_IMAGE_BYTES="1000000"):
        QueuePublisher(redis_client).replicate("local", [[ref]], urgent=False)
        wait_until(lambda: world.states(execution) == [CopyState.COPIED], 30, "the commit")
        wait_until(lambda: redis_client.hlen("transship:unacked") == 0, 10, "every task's end")
        (claim,) = redis_client.keys("transship:celery-taskset-meta-*")

    assert claim.endswith(b".c")
    assert redis_client.get(claim) == b"done"
    assert world.tag_at_west("team/app", "v1") == image.digest
    assert world.is_whole(image)
    assert world.tag_puts("team/app", "v1") == 1
    assert [world.reads(layer) for layer in image.layers] == [1, 1, 1]
    (copy,) = world.copies(execution)
    assert copy.attempts == 1
    assert redis_client.pubsub_channels("*celery-task-meta*") == []


def test_a_worker_drains_and_says_farewell(world: World) -> None:
    redis_client = world.services.redis
    with world.worker() as worker:
        wait_until(lambda: "ready." in worker.output(), 20, "the consumer")
        assert worker.stop(timeout=60) == 0

    assert world.services.dispatching.slots() == {}
    assert redis_client.keys("transship:alive:*") == []


# ---- the lease -----------------------------------------------------------------------------------


def test_the_lease_is_renewed_for_what_is_held_and_nothing_else(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    """kombu keeps what a channel has delivered in `qos._delivered`; private, so held to here."""
    app = make_app(Settings(redis_url=redis_server.url, visibility_timeout=90))
    publisher = QueuePublisher(client)
    publisher.plan("held")
    publisher.plan("acknowledged")
    connection: Connection = app.connection_for_read()
    with connection, connection.channel() as channel:
        held, acknowledged = (channel.basic_get("control", no_ack=False) for _ in range(2))
        assert held is not None
        assert acknowledged is not None
        tags = list(channel.qos._delivered)
        assert len(tags) == 2
        channel.basic_ack(acknowledged.delivery_tag)
        index = "transship:" + channel.unacked_index_key
        long_ago = time.time() - 80
        client.zadd(index, {tags[0]: long_ago, "stranger": long_ago})
        consumer = _consumer(app, channel)
        lease = Lease(consumer)

        lease.start(consumer)
        ((every, renew, arguments),) = consumer.timer.calls
        renew(*arguments)

        assert every == 30
        scores = {
            tag.decode(): score for tag, score in client.zrange(index, 0, -1, withscores=True)
        }
        assert scores[tags[0]] > long_ago + 60
        assert scores["stranger"] == long_ago
        assert tags[1] not in scores
        lease.stop(consumer)
        lease.stop(consumer)
        assert consumer.timer.cancelled == 1


def test_a_channel_has_one_client_for_as_long_as_its_pool(redis_server: RedisServer) -> None:
    app = make_app(Settings(redis_url=redis_server.url))
    with app.connection_for_read() as connection, connection.channel() as channel:
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first.ping()
            assert second is first
        channel._disconnect_pools()  # what kombu does when a connection is lost
        with channel.conn_or_acquire() as third:
            assert third.ping()
            assert third is not first


def test_a_lease_that_cannot_be_renewed_leaves_the_consumer_alone(
    redis_server: RedisServer,
) -> None:
    consumer = _consumer(make_app(Settings(redis_url=redis_server.url)), SimpleNamespace())
    lease = Lease(consumer)
    lease.start(consumer)
    ((_, renew, arguments),) = consumer.timer.calls

    renew(*arguments)


def test_the_worker_knows_the_tasks_that_are_sent() -> None:
    from workers.tasks import copies, executions

    app = make_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    for module in (copies, executions):
        module.register(app)
    app.finalize()

    sent = {signatures.PLAN, signatures.REPLICATE, signatures.COPY_BLOB, signatures.COMMIT}
    assert sent <= set(app.tasks)


class _Timer:
    def __init__(self) -> None:
        self.calls: list[tuple[float, Any, Any]] = []
        self.cancelled = 0

    def call_repeatedly(self, seconds: float, function: Any, arguments: Any) -> _Timer:
        self.calls.append((seconds, function, arguments))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def _consumer(app: Any, channel: Any) -> Any:
    return SimpleNamespace(app=app, timer=_Timer(), task_consumer=SimpleNamespace(channel=channel))
