"""Our messages are the ones that the installed Celery would have written (ADR 0004)."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
import redis

from service.errors import EngineError
from service.model.task_id import task_id
from service.model.work import CopyRef, Errand, PartBlob
from service.settings import Settings
from tests.support.servers import RedisServer
from workers import envelope, queues, signatures
from workers.app import check_version, make_app
from workers.signatures import QueuePublisher

COPY, COMMIT = "transship:copy.local", "transship:commit.local"
REF = CopyRef(41, 3)
LABELS = ["west <- east team/app:v1 sha256:aa (1.0 MB)", "b", "c"]

# Celery's canvas leaks subscriptions and prints at exit, so it writes in a process of its own.
CANVAS = """
import sys
from celery import chord
from service.settings import Settings
from workers.app import make_app
app = make_app(Settings(redis_url=sys.argv[1]))
@app.task(name="transship.copy_blob")
def copy_blob(*a): ...
@app.task(name="transship.commit_manifest")
def commit_manifest(*a): ...
app.finalize()
labels = sys.argv[2:]
if len(labels) == 1:
    copy_blob.apply_async(args=[41, 3, 0, True], task_id="alone", queue="copy.local", argsrepr=labels[0])
else:
    body = commit_manifest.si(41, 3).set(task_id="body", queue="commit.local", argsrepr="copy 41.3")
    header = [
        copy_blob.si(41, 3, n, False).set(task_id=f"part{n}", queue="copy.local", argsrepr=label)
        for n, label in enumerate(labels)
    ]
    chord(header, body).apply_async(task_id="body")
"""


def _canvas(server: RedisServer, client: redis.Redis, *labels: str) -> list[dict[str, Any]]:
    subprocess.run(
        [sys.executable, "-c", CANVAS, server.url, *labels],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return _taken(client)


def test_a_single_message_is_celerys(redis_server: RedisServer, client: redis.Redis) -> None:
    (theirs,) = _canvas(redis_server, client, LABELS[0])
    QueuePublisher(client).fan_out("local", REF, ["alone"], LABELS[:1])

    (ours,) = _taken(client)

    assert ours == theirs
    assert ours["headers"]["id"] == ours["properties"]["correlation_id"] == "alone"


def test_a_chord_is_celerys(redis_server: RedisServer, client: redis.Redis) -> None:
    theirs = _canvas(redis_server, client, *LABELS)
    (their_size,) = client.keys("*.s")
    size, lifetime = client.get(their_size), client.ttl(their_size)
    client.delete(their_size)
    QueuePublisher(client).fan_out("local", REF, [f"part{n}" for n in range(3)], LABELS)

    ours = _taken(client)

    group, their_group = task_id(REF, "chord"), theirs[0]["headers"]["group"]
    assert {message["headers"]["group"] for message in ours} == {group}
    for our, their in zip(ours, theirs, strict=True):
        body, their_body = (m["body"][2]["chord"] for m in (our, their))
        assert body["options"].pop("task_id") == task_id(REF, "commit")
        assert their_body["options"].pop("task_id") == "body"
        assert body["options"].pop("ignore_result") is True  # theirs comes from the app's default
        their_body["options"].pop("group_id")  # of the chord itself; nothing reads it in the body
        their_body["options"].pop("reply_to")
        their["headers"]["group"] = group
        assert our == their
    (key,) = client.keys("*.s")
    assert key == their_size.replace(their_group.encode(), group.encode())
    assert client.get(key) == size == b"3"
    assert abs(client.ttl(key) - lifetime) < 60


@pytest.mark.parametrize("version", ["5.6.3", "5.8.0", "6.0", "5.70.0"])
def test_another_celery_is_refused(version: str) -> None:
    with pytest.raises(EngineError, match=version):
        check_version(version)


def test_the_installed_celery_is_taken() -> None:
    check_version()
    check_version("5.7.4")


def test_a_chord_sent_again_starts_from_nothing(client: redis.Redis) -> None:
    group = "g"
    client.set(f"{envelope.PREFIX}{envelope.GROUP_PREFIX}{group}.c", "done")

    envelope.open_chord(client, group, 2)

    assert [key.decode() for key in client.keys("*")] == [
        f"{envelope.PREFIX}{envelope.GROUP_PREFIX}{group}.s"
    ]


def test_a_thousand_chords_leave_no_channel_and_no_connection(client: redis.Redis) -> None:
    publisher = QueuePublisher(client)
    publisher.fan_out("local", CopyRef(0, 1), ["x", "y"], ["", ""])
    connections = len(client.client_list())

    for number in range(1000):
        ids = [f"{number}.{part}" for part in range(3)]
        publisher.fan_out("local", CopyRef(number, 2), ids, LABELS)

    assert client.pubsub_channels() == []
    assert len(client.client_list()) == connections
    assert client.llen(COPY) == 3002
    assert publisher.waiting("local") == 3002


def test_every_call_reaches_its_queue(client: redis.Redis) -> None:
    publisher = QueuePublisher(client)
    publisher.plan("e1")
    publisher.plan("e2", urgent=True)
    publisher.plan("e3", region="local")
    publisher.plan("e4", region="local", urgent=True)
    publisher.replicate("local", [[CopyRef(1, 1), CopyRef(2, 1)], [CopyRef(3, 1)]], urgent=False)
    publisher.replicate("local", [[CopyRef(4, 1)]], urgent=True)
    publisher.replicate("local", [], urgent=True)
    publisher.commit("local", REF)

    found = {
        key.decode().removeprefix(envelope.PREFIX): [
            (m["headers"]["task"], m["body"][0]) for m in _taken(client, key.decode())
        ]
        for key in client.keys("*")
    }

    assert found == {
        queues.CONTROL: [(signatures.PLAN, ["e1"])],
        queues.URGENT_CONTROL: [(signatures.PLAN, ["e2"])],
        "copy.local": [
            (signatures.REPLICATE, [[[1, 1], [2, 1]]]),
            (signatures.REPLICATE, [[[3, 1]]]),
        ],
        "control.local": [(signatures.PLAN, ["e3"])],
        "urgent.local": [
            (signatures.PLAN, ["e4"]),
            (signatures.REPLICATE, [[[4, 1]]]),
        ],
        "commit.local": [(signatures.COMMIT, [41, 3])],
    }
    assert set(found) <= set(queues.served_by("local"))


def test_no_message_carries_an_address_or_a_name_of_a_registry(client: redis.Redis) -> None:
    """Nothing but row numbers travels; labels are for Flower and are made of names only."""
    publisher = QueuePublisher(client)
    publisher.replicate("local", [[CopyRef(1, 1)]], urgent=False)
    publisher.commit("local", REF)
    publisher.ahead("local", Errand("x", PartBlob(f"sha256:{'0' * 64}", 5, "a/b"), 1, 2), "label")

    messages = [message for key in (COPY, COMMIT) for message in _taken(client, key)]

    assert len(messages) == 3
    assert "://" not in json.dumps(messages)
    (errand,) = [one["body"][0] for one in messages if "blob" in json.dumps(one["body"])]
    assert errand == [
        {
            "blob": {"digest": f"sha256:{'0' * 64}", "size": 5, "media_type": "a/b"},
            "execution": "x",
            "holder": 1,
            "follower": 2,
        }
    ]


def test_settings_of_the_queue_hold_what_was_measured() -> None:
    conf = make_app(Settings(redis_url="redis://127.0.0.1:1/0")).conf

    assert conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert conf.task_ignore_result
    options = conf.broker_transport_options
    assert options["visibility_timeout"] > 2 * conf.result_chord_join_timeout
    assert "retry_on_timeout" not in options  # would switch batch publishing off


def _taken(client: redis.Redis, key: str = COPY) -> list[dict[str, Any]]:
    """The messages of a list, the oldest first, without what differs from one to the next."""
    messages = [json.loads(text) for text in reversed(client.lrange(key, 0, -1))]
    client.delete(key)
    for message in messages:
        message["body"] = json.loads(base64.b64decode(message["body"]))
        for name in ("reply_to", "delivery_tag"):
            assert message["properties"].pop(name) is not None
        message["properties"].pop("argsrepr", None)  # apply_async repeats the header's there
        assert message["headers"].pop("origin")
    return messages
