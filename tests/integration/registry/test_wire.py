"""Odd answers, byte by byte, at the raw client and behind httpx's interface."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

import httpx
import pytest

from service import errors
from service.model.digest import Digest
from service.registry.client import RegistryClient
from service.registry.connector import Connector
from service.registry.origin import Origin
from service.registry.pool import Pool
from service.registry.timeouts import Timeouts
from service.registry.transport import Transport
from tests.integration.registry.scripted import ScriptedServer
from tests.integration.registry.support import QUICK, Pauses, client

DIGEST = Digest.of(b"hello")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BLOB = "/v2/a/b/blobs/x"


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def end(_: socket.socket) -> None:
    raise OSError


def read(made: RegistryClient, size: int = 5) -> bytes:
    return made.read_blob("a/b", DIGEST, size, 1000)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:5\r\n\r\nhello",
        b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        ),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: z\r\n\r\n"
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n"
        ),
    ],
)
def test_answers_that_are_good(answer: bytes) -> None:
    with ScriptedServer([answer]) as server:
        made = client(server.url)
        assert read(made) == b"hello"
        made.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_answers_that_come_in_crumbs(size: int) -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    )

    def crumbs(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for offset in range(0, len(data), size):
            sock.sendall(data[offset : offset + size])

    with ScriptedServer([crumbs, crumbs]) as server:
        made = client(server.url)
        assert read(made) == b"hello"
        assert read(made) == b"hello"
        assert server.connections == 1
        made.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", errors.ProtocolError),
        (b"HTTP/2 200\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!", errors.Corrupt),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo", errors.Corrupt),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhell", errors.Corrupt),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello and more", errors.Corrupt),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", errors.NetworkError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", errors.NetworkError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello", errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", errors.NetworkError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, errors.ProtocolError),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, errors.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00",
         errors.Corrupt),
        (reset, errors.NetworkError),
        (end, errors.NetworkError),
    ],
)  # fmt: skip
def test_answers_that_are_none(answer: bytes, error: type[Exception]) -> None:
    with ScriptedServer([answer]) as server:
        made = client(server.url)
        with pytest.raises(error):
            read(made)
        made.close()


def test_a_416_with_a_body_that_never_comes_is_not_waited_for() -> None:
    answer = b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 1000\r\n\r\nshort"
    release = threading.Event()

    def hang(sock: socket.socket) -> None:
        sock.sendall(answer)
        release.wait(10)

    with ScriptedServer([hang]) as server:
        made = client(server.url)
        assert made.probe_blob("a/b", DIGEST, 5) is False
        release.set()
        made.close()


def test_silence_ends_by_the_read_timeout() -> None:
    release = threading.Event()
    with ScriptedServer([lambda _: bool(release.wait(10)) and None]) as server:
        made = client(server.url, timeouts=Timeouts(read_seconds=0.05))
        with pytest.raises(errors.NetworkError, match="no answer within"):
            made.ping()
        release.set()
        made.close()


def test_a_head_that_drips_ends_by_its_deadline() -> None:
    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            sock.sendall(b"x")
            threading.Event().wait(0.005)

    with ScriptedServer([drip]) as server:
        made = client(server.url, timeouts=Timeouts(read_seconds=1, head_seconds=0.1))
        with pytest.raises(errors.NetworkError, match="deadline"):
            made.ping()
        made.close()


def test_a_small_body_that_drips_ends_by_its_deadline() -> None:
    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while True:
            sock.sendall(b"x")
            threading.Event().wait(0.005)

    with ScriptedServer([drip]) as server:
        limits = Timeouts(read_seconds=1, head_seconds=0.1, minimum_rate=10_000_000)
        made = client(server.url, timeouts=limits)
        with pytest.raises(errors.NetworkError, match="deadline"):
            made.ping()
        made.close()


def test_a_connection_closed_while_it_was_kept_is_replaced() -> None:
    with ScriptedServer([OK, end], [OK]) as server:
        pauses = Pauses()
        made = client(server.url, sleep=pauses)
        made.ping()
        made.ping()
        assert server.connections == 2
        assert pauses.seconds == []
        made.close()


def test_unasked_bytes_on_a_kept_connection_end_it() -> None:
    with ScriptedServer([OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], [OK]) as server:
        made = client(server.url)
        made.ping()
        made.ping()
        assert server.connections == 2
        made.close()


def test_what_is_kept_too_long_is_not_used() -> None:
    with ScriptedServer([OK, OK]) as server:
        made = client(server.url, timeouts=Timeouts(idle_seconds=0.0))
        made.ping()
        made.ping()
        assert server.connections == 2
        made.close()


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    token = b'{"token":"t"}'
    challenge = (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"
        b'WWW-Authenticate: Bearer realm="/token",service="s"\r\n\r\n'
    )
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(token), token)
    with ScriptedServer([challenge, answer, OK]) as server:
        made = client(server.url)
        made.ping()
        assert b"GET /token?service=s&client_id=transship HTTP/1.1" in server.requests[1]
        assert b"Authorization: Bearer t\r\n" in server.requests[2]
        made.close()


def test_head_and_small_body_go_out_in_one_piece() -> None:
    first: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            first.append(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 202 Accepted\r\nLocation: /u\r\nContent-Length: 0\r\n\r\n")
            first.append(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    made = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
    made.put_blob("a/b", DIGEST, b"hello")
    thread.join(10)
    listener.close()
    made.close()
    assert first[1].startswith(b"PUT /u?digest=sha256:")
    assert first[1].endswith(b"\r\n\r\nhello")


def test_a_redirect_loop_and_a_bad_redirect_end() -> None:
    def to(place: bytes) -> bytes:
        return b"HTTP/1.1 307 T\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"

    for place in (b"/v2/a/b/blobs/x", b"ftp://x/", b"http://u:p@127.0.0.1/", b"http://a b/"):
        with ScriptedServer([to(place)] * 10) as server:
            made = client(server.url)
            with pytest.raises(errors.ProtocolError):
                read(made)
            made.close()
    for host in (b"169.254.169.254", b"10.0.0.1", b"2130706433", b"0x7f.1", b"localhost"):
        with ScriptedServer([to(b"http://" + host + b":1/")] * 10) as server:
            made = client(server.url)
            with pytest.raises(errors.AddressRefused):
                read(made)
            made.close()


def test_a_forked_child_opens_its_own_connection() -> None:
    with ScriptedServer([OK, OK], [OK]) as server:
        made = client(server.url)
        made.ping()
        pid = os.fork()
        if pid == 0:
            try:
                made.ping()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        made.ping()
        assert server.connections == 2
        assert len(server.requests) == 3
        made.close()


# behind httpx's interface


@pytest.fixture
def pool() -> Iterator[Pool]:
    from service.model.endpoint import RegistryEndpoint

    made = Pool(Connector(RegistryEndpoint("east", "http://127.0.0.1:1"), QUICK), QUICK)
    yield made
    made.close()


def test_httpx_speaks_through_our_transport(pool: Pool) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
    with ScriptedServer([answer] * 4) as server, httpx.Client(transport=Transport(pool)) as http:
        assert http.get(f"{server.url}/a?b=c%20d").content == b"hello"
        assert http.post(server.url, json={"a": 1}).headers["x"] == "y"
        with http.stream("GET", server.url) as response:
            assert b"".join(response.iter_raw()) == b"hello"
        response = http.put(server.url, content=iter([b"x" * 70_000, b"y"]),
                            headers={"Content-Length": "70001"})  # fmt: skip
        assert response.status_code == 200
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /a?b=c%20d HTTP/1.1\r\n")
        assert server.requests[1].endswith(b'{"a":1}')
        assert len(server.requests[3].partition(b"\r\n\r\n")[2]) == 70_001


def test_httpx_bodies_without_a_length_are_chunked(pool: Pool) -> None:
    seen: list[bytes] = []

    def until_end(sock: socket.socket) -> None:
        data = server.requests[-1]  # what came along with the head
        while not data.endswith(b"0\r\n\r\n"):
            data += sock.recv(65536)
        seen.append(data)
        sock.sendall(OK)

    with ScriptedServer([until_end]) as server, httpx.Client(transport=Transport(pool)) as http:
        assert http.post(server.url, content=iter([b"one", b"", b"two"])).status_code == 200
    assert seen[0].endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (end, httpx.NetworkError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError),
    ],
)
def test_httpx_callers_get_httpx_errors(pool: Pool, answer: bytes, error: type[Exception]) -> None:
    with ScriptedServer([answer]) as server, httpx.Client(transport=Transport(pool)) as http:
        with pytest.raises(error) as caught:
            http.get(server.url)
        assert isinstance(caught.value.__cause__, errors.RegistryError)
    with httpx.Client(transport=Transport(pool)) as http, pytest.raises(httpx.UnsupportedProtocol):
        http.get("http://169.254.169.254/latest")


def test_an_answer_to_half_a_body_is_still_read(pool: Pool) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            refuse(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
    with httpx.Client(transport=Transport(pool)) as http:
        body = iter([b"x" * 65536] * 20)
        headers = {"Content-Length": str(65536 * 20)}
        assert http.put(f"{origin}/", content=body, headers=headers).status_code == 413
    thread.join(10)
    listener.close()
