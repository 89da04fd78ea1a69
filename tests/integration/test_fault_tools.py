"""The tools that break things: each fault does what it says, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
import redis

from api.samples.http_messages import WireFault
from tests.oracle.closure import check
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, RealRegistry, RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.wire import Wire

# ---- before a registry ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[RealRegistry]:
    with RealRegistry() as registry:
        yield registry


@pytest.fixture
def proxy(real: RealRegistry) -> Iterator[FaultProxy]:
    with FaultProxy(real.url) as proxy:
        yield proxy


def test_an_image_goes_through_it_unchanged(real: RealRegistry, proxy: FaultProxy) -> None:
    with Wire(proxy.url) as wire:
        wire.image("through/app", "v1")

    places = {("through/app", "v1"): ("through/app", "v1")}
    report = check(real.url, proxy.url, places, extra=False)
    assert report.faults == []
    assert report.blobs >= 2
    assert any(line.method == "PUT" and "/uploads/" in line.path for line in proxy.log)


def test_an_answer_of_its_own_strikes_the_nth_request(proxy: FaultProxy) -> None:
    rule = proxy.fault("/v2/$", status=503, nth=2, headers={"Retry-After": "7"})
    with Wire(proxy.url) as wire:
        answers = [wire.request("GET", "/v2/") for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 503, 200]
    assert answers[1]["Retry-After"] == "7"
    assert rule.fired == 1


def test_bytes_are_flipped_cut_and_reset(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 64
    with Wire(proxy.url) as wire:
        digest = wire.push_blob("struck/app", data)["Docker-Content-Digest"]
        path = f"/v2/struck/app/blobs/{digest}"
        proxy.fault(path, wire=WireFault(flip_at=100))
        flipped = wire.request("GET", path).body
        assert [i for i in range(len(data)) if flipped[i] != data[i]] == [100]
        proxy.fault(path, wire=WireFault(truncate_at=500))
        assert wire.request("GET", path).body == data[:500]
    proxy.fault(path, wire=WireFault(reset_at=500))
    with Wire(proxy.url) as wire, pytest.raises(ConnectionResetError):
        wire.request("GET", path)


def test_a_mount_can_be_refused_and_an_upload_forgotten(proxy: FaultProxy) -> None:
    with Wire(proxy.url) as wire:
        digest = wire.push_blob("first/app", b"x" * 3000)["Docker-Content-Digest"]
        path = f"/v2/second/app/blobs/uploads/?mount={digest}&from=first/app"
        refusal = proxy.fault("mount=", method="POST", refuse_mount=True)
        assert wire.request("POST", path).status == 202
        assert wire.request("POST", path).status == 201
        assert refusal.fired == 1

        forgotten = proxy.fault("/uploads/$", method="POST", forget_upload=True)
        opened = wire.request("POST", "/v2/second/app/blobs/uploads/")
        assert opened.status == 202
        location = opened["Location"].partition(proxy.host)[2]
        assert wire.request("PATCH", location, b"abc").status == 404
        assert forgotten.fired == 1


def test_a_registry_that_is_away_is_a_bad_gateway() -> None:
    with FaultProxy(f"http://127.0.0.1:{free_port()}") as proxy, Wire(proxy.url) as wire:
        assert wire.request("GET", "/v2/").status == 502


# ---- before Redis and PostgreSQL -----------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture
def way(server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as way:
        yield way


def a_client(way: TcpProxy) -> redis.Redis:
    return redis.Redis(port=way.port, socket_timeout=0.3, retry=None)


def test_all_goes_through_until_told_otherwise(way: TcpProxy) -> None:
    with a_client(way) as client:
        assert client.ping()
        client.set("large", b"x" * 500_000)
        assert len(client.get("large")) == 500_000
    assert way.pieces >= 2


def test_refused_and_healed(way: TcpProxy) -> None:
    with a_client(way) as client:
        assert client.ping()
        way.refuse()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        way.heal()
        assert client.ping()


def test_silent_and_healed(way: TcpProxy) -> None:
    for silence in (way.blackhole, way.half_open):
        with a_client(way) as client:
            assert client.ping()
            silence()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            way.heal()
            assert client.ping()


def test_half_open_lets_the_command_through(way: TcpProxy, server: RedisServer) -> None:
    with a_client(way) as client, server.client() as direct:
        direct.delete("half")
        assert client.ping()
        way.half_open()
        with pytest.raises(redis.TimeoutError):
            client.set("half", "done")
        assert direct.get("half") == b"done"


def test_reset_and_cut_after_so_many_bytes(way: TcpProxy, server: RedisServer) -> None:
    with a_client(way) as client, server.client() as direct:
        assert client.ping()
        way.reset()
        with contextlib.suppress(redis.ConnectionError):
            client.ping()  # whether this one meets the reset is the client's pool to say
        assert client.ping()
        assert way.cuts == 1

        direct.delete("cut")
        way.cut_after(20)
        with pytest.raises(redis.ConnectionError):
            client.set("cut", "y" * 1000)
        assert direct.get("cut") is None
        assert client.ping()


def test_a_commit_may_be_cut_off() -> None:
    with PostgresServer() as postgres, TcpProxy(postgres.port) as way:
        dsn = f"postgresql://postgres@127.0.0.1:{way.port}/postgres"
        connection = psycopg.connect(dsn, connect_timeout=5)
        connection.execute("CREATE TABLE t (v int)")
        connection.commit()
        connection.execute("INSERT INTO t VALUES (1)")
        way.refuse()
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        way.heal()
        with psycopg.connect(dsn, connect_timeout=5) as again:
            assert again.execute("SELECT count(*) FROM t").fetchone() == (0,)
