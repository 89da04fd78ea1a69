"""Redis and SQL that forget, die, hang and lie: rows F008, F009, F037, F090-F097, F100, F101, F103."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial

import httpx
import psycopg
import pytest
import redis

from api.samples.faults import FOREVER
from tests.faults.lab import Lab, Scene, open_lab
from tests.faults.test_processes import held_at, whole
from tests.oracle.states import ENDED
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer, RedisServer

pytestmark = pytest.mark.timeout(240)

RECOVERY_SECONDS = 30.0
POSTGRESQL = pytest.mark.parametrize("lab", ["postgresql"], indirect=True)
SQLITE = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
"""Rows of one database alone: the other has no such server, or no such file."""

SEED = random.SystemRandom().randrange(1 << 32)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if request.param == "sqlite":
        with open_lab(tmp_path_factory.mktemp("lab")) as lab:
            yield lab
        return
    with PostgresServer() as postgres, open_lab(tmp_path_factory.mktemp("lab"), postgres) as lab:
        yield lab


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    """Every way is open and every server runs after a test."""
    yield
    for way in (*lab.redis_ways.values(), *lab.sql_ways.values()):
        way.heal()
    lab.east.faults.clear()
    lab.west.faults.clear()
    if not lab.redis.alive:
        lab.redis.start()
    with lab.redis.client() as client:
        client.config_set("maxmemory", "0")
    if lab.postgres is not None and not lab.postgres.alive:
        lab.postgres.start()
    for name, process in lab.processes.items():
        if not process.alive:
            lab.start(name)


def a_fleet(scene: Scene, images: int = 8) -> None:
    for number in range(images):
        scene.push(f"app{number}:v1", (40_000, 60_000))
    scene.push("app:v1", (50_000, 30_000))


# ---- Redis ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["reading-the-manifest", "closing-an-upload", "putting-the-tag"])
def test_f090_a_redis_that_forgets_everything(lab: Lab, moment: str) -> None:
    scene = lab.scene(f"f090-{moment}")
    a_fleet(scene)
    held = held_at(scene, moment)

    identity = scene.start()
    held.reached()
    lab.redis.flushall()
    held.let_go()

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


def test_f090_forgets_at_ten_random_moments(lab: Lab) -> None:
    print("seed", SEED)
    dice = random.Random(SEED)
    scene = lab.scene("f090-random")
    a_fleet(scene, 20)
    steps = sorted(dice.sample(range(1, 80), 10))
    flushed = 0

    identity = scene.start()
    before = len(lab.west.log)
    for step in steps:
        wait_until(
            lambda step=step: (
                len(lab.west.log) - before >= step or lab.execution(identity)["state"] in ENDED
            ),
            20,
            f"{step} requests",
        )
        lab.redis.flushall()
        flushed += 1

    assert flushed == 10
    assert lab.wait(identity, 40)["state"] == "succeeded"
    whole(scene, tags=21, blobs=63)


def test_f091_a_redis_that_dies_and_comes_back_empty(lab: Lab) -> None:
    scene = lab.scene("f091")
    a_fleet(scene)
    held = held_at(scene, "reading-a-blob")

    identity = scene.start()
    held.reached()
    lab.redis.kill()
    held.let_go()
    lab.redis.start()

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


@pytest.fixture
def replica(lab: Lab) -> Iterator[RedisServer]:
    """A second Redis that has what the first one had a moment ago, and takes its place for good."""
    with RedisServer(tcp=True) as second:
        with second.client() as client:
            client.replicaof("127.0.0.1", str(lab.redis.port))
            up = {"master_link_status": "up", "master_sync_in_progress": 0}
            wait_until(lambda: up.items() <= client.info("replication").items(), 20, "the replica")
            client.replicaof("NO", "ONE")
        yield second
        for way in lab.redis_ways.values():
            way.lead_to(lab.redis.port)


def _queues(client: redis.Redis) -> list[bytes]:
    """Return the queues of copies that hold messages."""
    return [key for key in client.scan_iter() if b"copy.local" in key]


@SQLITE
def test_f093_a_replica_takes_over_that_lacks_the_last_writes(
    lab: Lab, replica: RedisServer
) -> None:
    scene = lab.scene("f093")
    a_fleet(scene, 90)  # more than are under way at once
    held = threading.Event()
    scene.east.fault(scene.at_source("app.*/blobs/"), hold=held, times=FOREVER)

    identity = scene.start()
    with lab.redis.client() as before, replica.client() as after:
        assert not _queues(after)
        wait_until(lambda: _queues(before), 20, "a full queue")
    for way in lab.redis_ways.values():
        way.lead_to(replica.port)
    lab.redis.kill()
    held.set()

    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=91, blobs=273)


def test_f009_f092_while_redis_is_away_the_api_accepts_and_what_it_took_is_done_later(
    lab: Lab,
) -> None:
    scene = lab.scene("f092")
    a_fleet(scene, 3)
    for way in lab.redis_ways.values():
        way.refuse()

    identity = scene.start()
    ready = httpx.get(
        str(lab.client.base_url).replace("/api/v1/", "/readyz"), trust_env=False, timeout=60
    )
    told = ready.json()
    for way in lab.redis_ways.values():
        way.heal()

    assert "redis" in json.dumps(told), told
    assert lab.wait(identity, RECOVERY_SECONDS)["state"] == "succeeded"
    whole(scene, tags=4, blobs=12)


@pytest.mark.parametrize("role", ["worker", "scheduler"])
@pytest.mark.parametrize("strike", ["blackhole", "reset"])
def test_f095_f096_one_role_that_loses_redis_alone(lab: Lab, role: str, strike: str) -> None:
    scene = lab.scene(f"f096-{role}-{strike}")
    a_fleet(scene, 4)
    held = held_at(scene, "reading-a-blob")

    identity = scene.start()
    held.reached()
    way = lab.redis_ways[role]
    getattr(way, strike)()
    passed = way.pieces  # and what was on its way by then
    held.let_go()
    if strike == "blackhole":
        lab.lapse()
        assert way.pieces <= passed + 64
    way.heal()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=5, blobs=15)


def test_f097_garbage_in_the_queue_is_thrown_away(lab: Lab) -> None:
    scene = lab.scene("f097")
    scene.push("app:v1")
    worker = lab.processes["worker"].pid
    pickle = (
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    )
    with lab.redis.client() as client:
        names = [key for key in client.scan_iter() if client.type(key) in (b"list", b"set")]
        queues = {b"copy.local", b"commit.local", *(n for n in names if b"." in n)}
        for queue in queues:
            if client.type(queue) in (b"list", b"none"):
                for garbage in (b"", b"nonsense", b"{}", b"[1,2", pickle, b"x" * 300_000):
                    client.lpush(queue, garbage)

    assert scene.run(40)["state"] == "succeeded"
    assert lab.processes["worker"].alive
    assert lab.processes["worker"].pid == worker
    whole(scene, tags=1, blobs=3)


# ---- SQL -----------------------------------------------------------------------------------------


@POSTGRESQL
def test_f100_a_postgresql_that_dies_and_comes_back(lab: Lab) -> None:
    scene = lab.scene("f100")
    a_fleet(scene)
    held = held_at(scene, "closing-an-upload")

    identity = scene.start()
    held.reached()
    lab.postgres.kill()
    held.let_go()
    lab.postgres.start()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


@POSTGRESQL
def test_f100_every_connection_is_terminated(lab: Lab) -> None:
    scene = lab.scene("f100-terminated")
    a_fleet(scene)
    held = held_at(scene, "reading-a-blob")

    identity = scene.start()
    held.reached()
    with psycopg.connect(lab.postgres.dsn(), autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    held.let_go()

    assert ended is not None
    assert ended[0] > 0
    assert lab.wait(identity, 40)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


@pytest.mark.parametrize("count", [1, 400, 4000])
@POSTGRESQL
def test_f101_a_commit_whose_outcome_is_unknown(lab: Lab, count: int) -> None:
    scene = lab.scene(f"f101-{count}")
    a_fleet(scene)
    held = held_at(scene, "closing-an-upload")
    way = lab.sql_ways["worker"]

    identity = scene.start()
    held.reached()
    cuts = way.cuts
    way.cut_after(count)
    held.let_go()
    wait_until(lambda: way.cuts > cuts, 20, "the cut")

    assert lab.wait(identity, 40)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


@POSTGRESQL
def test_f008_without_sql_the_api_says_so_and_takes_nothing(lab: Lab) -> None:
    scene = lab.scene("f008")
    scene.push("app:v1")
    way = lab.sql_ways["api"]
    way.refuse()
    try:
        answer = lab.client.post(f"/rules/{scene.name}/executions")
        root = str(lab.client.base_url).replace("/api/v1/", "")
        ready = httpx.get(f"{root}/readyz", trust_env=False, timeout=60)
        live = httpx.get(f"{root}/healthz", trust_env=False, timeout=60)
    finally:
        way.heal()

    assert answer.status_code == 503, answer.text
    assert "retry-after" in answer.headers
    assert ready.status_code == 503
    assert live.status_code == 200
    assert scene.run(40)["state"] == "succeeded"
    whole(scene, tags=1, blobs=3)


@SQLITE
def test_f103_an_sqlite_file_that_a_backup_holds_for_seconds(lab: Lab) -> None:
    scene = lab.scene("f103")
    a_fleet(scene)
    held = held_at(scene, "closing-an-upload")

    identity = scene.start()
    held.reached()
    holder = sqlite3.connect(
        lab.folder / "transship.db", isolation_level=None, check_same_thread=False, timeout=60
    )
    holder.execute("BEGIN EXCLUSIVE")
    held.let_go()
    timer = threading.Timer(4.0, holder.execute, ("ROLLBACK",))  # longer than any lease of the test
    timer.start()
    timer.join()
    holder.close()

    assert lab.wait(identity, 40)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


def test_f094_a_redis_without_memory_pushes_back_and_nothing_is_lost(lab: Lab) -> None:
    scene = lab.scene("f094")
    a_fleet(scene)
    held = held_at(scene, "reading-a-blob")

    identity = scene.start()
    held.reached()
    with lab.redis.client() as client:
        client.config_set("maxmemory", "100kb")
        client.config_set("maxmemory-policy", "noeviction")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("any", "thing")
        held.let_go()
        lab.lapse()
        client.config_set("maxmemory", "0")

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=9, blobs=27)


@SQLITE
def test_f104_an_sqlite_file_whose_writers_are_killed_in_their_writes_stays_sound(
    lab: Lab,
) -> None:
    print("seed", SEED)
    dice = random.Random(SEED)
    accepted = []
    for number in range(6):
        scene = lab.scene(f"f104-{number}")
        a_fleet(scene, 3)
        accepted.append((scene, scene.start()))
        wanted = len(lab.west.log) + dice.randint(1, 12)
        wait_until(partial(_has_asked, lab, wanted), 20, "some requests")
        lab.processes["worker"].kill()
        lab.start("worker")
        if number == 2:  # who dies with five workers is poison, whatever killed them
            for _, identity in accepted:
                lab.wait(identity, 60)

    for scene, identity in accepted:
        assert lab.wait(identity, 60)["state"] == "succeeded"
        whole(scene, tags=4, blobs=12)
    with sqlite3.connect(lab.folder / "transship.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def _has_asked(lab: Lab, requests: int) -> bool:
    return len(lab.west.log) >= requests
