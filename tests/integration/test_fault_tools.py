"""The tools that break things: each fault does what it says, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from api.samples.http_messages import WireFault
from tests.oracle.closure import check
from tests.support.fault_proxy import FaultProxy, taking, without
from tests.support.old_server import MANNERS, OldServer
from tests.support.processes import free_port, wait_until
from tests.support.servers import PostgresServer, RealRegistry, RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.token_gate import ACCOUNT, TokenGate, saying, scope_of
from tests.support.wire import ACCEPT, Wire

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


def test_an_upload_may_be_taken_in_part_and_headers_be_dropped(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 40
    with Wire(proxy.url) as wire:
        location = wire.start("taken/app").rstrip("?&")
        rule = proxy.fault("/uploads/", method="PATCH", before=taking(3000))
        headers = {"Content-Range": f"0-{len(data) - 1}"}
        answer = wire.request("PATCH", location, data, headers)
        assert answer["Range"] == "0-2999"
        assert rule.fired == 1

        digest = wire.push_blob("taken/app", data)["Docker-Content-Digest"]
        path = f"/v2/taken/app/blobs/{digest}"
        asked = {"Range": "bytes=10-19"}
        assert wire.request("GET", path, headers=asked).body == data[10:20]
        proxy.fault(path, before=without("range"))
        assert wire.request("GET", path, headers=asked).body == data
    assert proxy.log[-1].headers["range"] == "bytes=10-19"


def test_a_gate_wants_tokens_of_its_own_service_and_keeps_them_from_the_registry(
    real: RealRegistry,
) -> None:
    with FaultProxy(real.url) as proxy, Wire(proxy.url) as wire, Wire(real.url) as direct:
        direct.image("gate/app", "v1")
        gate = TokenGate(proxy, ttl_seconds=300)
        path = "/v2/gate/app/manifests/v1"
        refused = wire.request("GET", path, headers={"Accept": ACCEPT})
        assert refused.status == 401
        assert f'realm="{proxy.url}/token"' in refused["WWW-Authenticate"]
        assert 'scope="repository:gate/app:pull"' in refused["WWW-Authenticate"]

        asked = "/token?service=sample-registry&scope=repository%3Agate%2Fapp%3Apull"
        pair = base64.b64encode(f"{ACCOUNT}:{gate.password}".encode()).decode()
        assert wire.request("GET", asked, headers={"Authorization": "Basic eDp5"}).status == 401
        token = wire.request("GET", asked, headers={"Authorization": f"Basic {pair}"}).json()
        good = {"Authorization": f"Bearer {token['token']}", "Accept": ACCEPT}
        assert wire.request("GET", path, headers=good).status == 200
        assert wire.request("POST", "/v2/gate/app/blobs/uploads/", headers=good).status == 401
        assert wire.request("GET", "/v2/", headers=good).status == 200
        assert len(gate.asked("gate/app")) == 2
        assert gate.asked("gate/ap") == []

        rule = proxy.fault(scope_of("gate/app"), after=saying(expires_in=..., issued_at="x"))
        said = wire.request("GET", asked, headers={"Authorization": f"Basic {pair}"}).json()
        assert rule.fired == 1
        assert "expires_in" not in said
        assert said["issued_at"] == "x"
        gate.tokens.revoke_all()
        assert wire.request("GET", path, headers=good).status == 401
        gate.realms["gate/app"] = "http://elsewhere.test/token"
        assert "elsewhere.test" in wire.request("GET", path)["WWW-Authenticate"]


@pytest.mark.parametrize("manner", MANNERS)
def test_an_old_server_says_the_same_in_its_manner(real: RealRegistry, manner: str) -> None:
    with Wire(real.url) as wire:
        raw = wire.image("old/app", "v1")
    with OldServer(real.url, manner) as old:
        host, _, port = old.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 10) as sock:
            head = f"GET /v2/old/app/{'tags/list' if 'gzip' in manner else 'manifests/v1'} HTTP/1.1\r\n"
            sock.sendall(f"{head}Host: x\r\nAccept: {ACCEPT}\r\nConnection: close\r\n\r\n".encode())
            told = b"".join(iter(lambda: sock.recv(65536), b""))
    if manner == "http-1.0":
        assert told.startswith(b"HTTP/1.0 200")
        assert b"content-length" not in told.lower()
    elif manner == "lower-case":
        assert b"\ndocker-content-digest:" in told
    elif manner == "continue":
        assert told.startswith(b"HTTP/1.1 100 ")
        assert b"HTTP/1.1 103 " in told
    else:
        assert b"Content-Encoding: gzip" in told
        assert b'"v1"' in gzip.decompress(told.partition(b"\r\n\r\n")[2])
        return
    assert told.endswith(raw)


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
    return redis.Redis(port=way.port, socket_timeout=1.5, retry=None)


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


def test_what_was_forgotten_is_silent_and_new_connections_are_not(way: TcpProxy) -> None:
    with a_client(way) as client:
        assert client.ping()
        assert way.forget() >= 1
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert client.ping()  # on a new connection


def test_half_open_lets_the_command_through(way: TcpProxy, server: RedisServer) -> None:
    with a_client(way) as client, server.client() as direct:
        direct.delete("half")
        assert client.ping()
        way.half_open()
        with pytest.raises(redis.TimeoutError):
            client.set("half", "done")
        wait_until(lambda: direct.get("half") == b"done", 10, "the command to arrive")


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


def test_one_connection_is_cut_and_what_others_send_meanwhile_arrives(
    way: TcpProxy, server: RedisServer
) -> None:
    """Counting together, they once lost a command of one that was not cut, and it waited for good."""
    stop = threading.Event()

    def ask() -> int:
        silent = 0
        with redis.Redis(port=way.port, socket_timeout=5, retry=None) as client:
            while not stop.is_set():
                try:
                    client.ping()
                except redis.TimeoutError:
                    silent += 1
                except redis.ConnectionError:
                    continue
        return silent

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask) for _ in range(8)]
        for number in range(1, 301):
            way.cut_after(number % 40 + 1)
            wait_until(lambda number=number: way.cuts >= number, 10, "a cut")
        stop.set()
        assert [client.result(20) for client in clients] == [0] * 8
    assert way.cuts == 300


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
