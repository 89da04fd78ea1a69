"""The sample registry's switches: faults, authentication, redirects, pages, damage, the log."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trustme

from api.samples.registry import (
    BasicAuth,
    BearerAuth,
    SampleRegistry,
    TokenService,
    WireFault,
)
from tests.support.processes import ManagedProcess
from tests.support.source_log import read_access_log
from tests.support.wire import Wire, sha256, with_query

DATA = bytes(n % 251 for n in range(100_000))
BLOB = f"/v2/a/b/blobs/{sha256(DATA)}"


@pytest.fixture
def registry() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry, Wire(registry.url) as wire:
        assert wire.push_blob("a/b", DATA).status == 201
        yield registry


@pytest.fixture
def wire(registry: SampleRegistry) -> Iterator[Wire]:
    with Wire(registry.url) as wire:
        yield wire


def test_a_fault_strikes_the_nth_matching_request_and_counts(registry: SampleRegistry, wire: Wire):
    rule = registry.fault(r"/blobs/sha256:", method="GET", nth=2, times=2, status=503)
    rule.headers = {"Retry-After": "7"}
    answers = [wire.request("GET", BLOB) for _ in range(4)]
    assert [a.status for a in answers] == [200, 503, 503, 200]
    assert answers[1]["Retry-After"] == "7"
    assert wire.request("HEAD", BLOB).status == 200
    assert (rule.hits, rule.fired) == (4, 2)


def test_headers_are_changed_and_removed(registry: SampleRegistry, wire: Wire):
    registry.fault(BLOB, headers={"docker-content-digest": None, "X-Y": "z"})
    answer = wire.request("HEAD", BLOB)
    assert (answer["Docker-Content-Digest"], answer["X-Y"]) == (None, "z")


def test_a_byte_is_flipped(registry: SampleRegistry, wire: Wire):
    registry.fault(BLOB, wire=WireFault(flip_at=70_000))
    body = wire.request("GET", BLOB).body
    assert [n for n in range(len(DATA)) if body[n] != DATA[n]] == [70_000]
    assert wire.request("GET", BLOB).body == DATA


def test_an_answer_is_cut_short(registry: SampleRegistry):
    registry.fault(BLOB, wire=WireFault(truncate_at=60_000))
    connection = http.client.HTTPConnection(registry.host)
    connection.request("GET", BLOB)
    with pytest.raises(http.client.IncompleteRead) as caught:
        connection.getresponse().read()
    connection.close()
    assert caught.value.partial == DATA[:60_000]
    assert registry.log[-1].bytes == 60_000


def test_an_answer_is_reset(registry: SampleRegistry):
    registry.fault(BLOB, wire=WireFault(reset_at=1000))
    connection = http.client.HTTPConnection(registry.host)
    connection.request("GET", BLOB)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        connection.getresponse().read()
    connection.close()


def test_an_upload_is_reset_and_its_bytes_stay(registry: SampleRegistry, wire: Wire):
    location = wire.start("a/c")
    rule = registry.fault("/uploads/", method="PUT", reset_request_at=40_000)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        wire.request("PUT", f"{location}digest={sha256(DATA)}", DATA)
    assert rule.fired == 1
    with Wire(registry.url) as again:
        assert again.request("GET", location.rstrip("?&"))["Range"] == "0-39999"
    cut = registry.log[-2]
    assert (cut.method, cut.status, cut.received) == ("PUT", 499, 40_000)


def test_an_answer_in_chunks_behind_an_early_hint(registry: SampleRegistry):
    registry.fault(BLOB, wire=WireFault(chunked=True, informational=True))
    host, port = registry.host.split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    assert raw.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in raw
    assert b"\r\nContent-Length:" not in raw
    assert raw.endswith(b"\r\n0\r\n\r\n")


def test_a_request_is_held_until_it_is_let_go(registry: SampleRegistry, wire: Wire):
    gate, seen = threading.Event(), threading.Event()
    registry.fault(BLOB, hold=gate, before=lambda _: seen.set())
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(wire.request("GET", BLOB).status))
    thread.start()
    assert seen.wait(5)
    assert statuses == []
    registry.faults.clear()
    thread.join(5)
    assert statuses == [200]


def test_sessions_are_forgotten_and_mounts_refused(registry: SampleRegistry, wire: Wire):
    registry.fault("/uploads/", method="POST", forget_upload=True)
    location = wire.start("a/c").rstrip("?&")
    assert wire.request("GET", location).status == 404
    mount = f"/v2/a/c/blobs/uploads/?mount={sha256(DATA)}&from=a/b"
    registry.fault("mount=", refuse_mount=True)
    assert [wire.request("POST", mount).status for _ in range(2)] == [202, 201]
    assert registry.storage.open_uploads == 1


def test_a_collected_blob_lies_until_it_is_pushed_again(registry: SampleRegistry, wire: Wire):
    registry.storage.collect_blob(sha256(DATA))
    head = wire.request("HEAD", BLOB)
    assert (head.status, head["Content-Length"]) == (200, "100000")
    probe = wire.request("GET", BLOB, None, {"Range": "bytes=99999-"})
    assert (probe.status, probe["Content-Length"], probe.body) == (206, "1", b"")
    assert wire.request("GET", BLOB).body == b""
    mount = f"/v2/a/c/blobs/uploads/?mount={sha256(DATA)}&from=a/b"
    assert wire.request("POST", mount).status == 201
    wire.push_blob("a/b", DATA)
    assert wire.request("GET", BLOB).body == DATA


def test_blobs_are_redirected_to_a_host_that_wants_no_credentials():
    with SampleRegistry(redirect_blobs=True) as registry, Wire(registry.url) as wire:
        wire.push_blob("a/b", DATA)
        answer = wire.request("GET", BLOB)
        assert answer.status == 307
        location = answer["Location"]
        assert location.startswith(f"http://{registry.cdn_host}/")
        with Wire(f"http://{registry.cdn_host}") as cdn:
            assert cdn.request("GET", location).body == DATA
            part = cdn.request("GET", location, None, {"Range": "bytes=5-6"})
            assert (part.status, part.body) == (206, DATA[5:7])
            assert cdn.request("GET", location, None, {"Authorization": "Basic x"}).status == 400
        assert wire.request("HEAD", BLOB).status == 200
        assert [a.status for a in registry.cdn_log] == [200, 206, 400]


def test_pages_are_cut_by_the_server():
    paged = SampleRegistry(tag_page=2, absolute_locations=True)
    with paged as registry, Wire(registry.url) as wire:
        for tag in ("a", "b", "c"):
            wire.image("x/y", tag)
        page = wire.request("GET", "/v2/x/y/tags/list?n=1000")
        assert page.json()["tags"] == ["a", "b"]
        assert page["Link"] == '</v2/x/y/tags/list?last=b&n=1000>; rel="next"'
        assert wire.start("x/y").startswith(registry.url)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_basic_authentication():
    with SampleRegistry(auth=BasicAuth({"u": "p"})) as registry, Wire(registry.url) as wire:
        answer = wire.request("GET", "/v2/")
        assert (answer.status, answer["WWW-Authenticate"]) == (401, 'Basic realm="sample"')
        for password, status in (("p", 200), ("wrong", 401)):
            headers = {"Authorization": basic("u", password)}
            assert wire.request("GET", "/v2/", None, headers).status == status


def token(wire: Wire, *scopes: str, authorization: str = "") -> str:
    query = urlencode([("service", "sample-registry"), *(("scope", s) for s in scopes)])
    headers = {"Authorization": authorization} if authorization else {}
    answer = wire.request("GET", f"/token?{query}", None, headers)
    assert answer.status == 200
    return "Bearer " + answer.json()["token"]


def test_bearer_tokens_bound_to_scopes_and_uses():
    service = TokenService({"u": "p"}, {"refresh": "u"}, anonymous_pull=True, uses=3)
    with SampleRegistry(auth=BearerAuth(service)) as registry, Wire(registry.url) as wire:
        answer = wire.request("POST", "/v2/a/b/blobs/uploads/")
        assert answer["WWW-Authenticate"] == (
            f'Bearer realm="{registry.url}/token",service="sample-registry",'
            'scope="repository:a/b:pull,push"'
        )
        push = token(wire, "repository:a/b:pull,push", authorization=basic("u", "p"))
        location = wire.request("POST", "/v2/a/b/blobs/uploads/", None, {"Authorization": push})
        path = f"{with_query(location['Location'])}digest={sha256(DATA)}"
        assert wire.request("PUT", path, DATA, {"Authorization": push}).status == 201
        assert wire.request("GET", BLOB, None, {"Authorization": push}).status == 200
        spent = wire.request("GET", BLOB, None, {"Authorization": push})
        assert spent.status == 401
        assert spent["WWW-Authenticate"].endswith('error="invalid_token"')
        pull = token(wire, "repository:a/b:pull,push")
        assert wire.request("GET", BLOB, None, {"Authorization": pull}).status == 200
        refused = wire.request("POST", "/v2/a/b/blobs/uploads/", None, {"Authorization": pull})
        assert refused["WWW-Authenticate"].endswith('error="insufficient_scope"')
        assert [r.account for r in service.requests] == ["u", ""]


def test_a_mount_needs_to_pull_from_its_source():
    with SampleRegistry(auth=BearerAuth(TokenService({"u": "p"}))) as registry:
        registry.storage.put_blob("a/b", sha256(DATA), DATA)
        with Wire(registry.url) as wire:
            mount = f"/v2/a/c/blobs/uploads/?mount={sha256(DATA)}&from=a/b"
            scopes = ["repository:a/c:pull,push", "repository:a/b:pull"]
            for wanted, status in ((scopes[:1], 202), (scopes, 201)):
                headers = {"Authorization": token(wire, *wanted, authorization=basic("u", "p"))}
                assert wire.request("POST", mount, None, headers).status == status


def test_identity_tokens():
    service = TokenService(identity_tokens={"refresh": "u"}, fields=("access_token",))
    with SampleRegistry(auth=BearerAuth(service)) as registry, Wire(registry.url) as wire:
        form = {"grant_type": "refresh_token", "service": "sample-registry"}
        form["scope"] = "registry:catalog:*"
        for refresh, status in (("refresh", 200), ("other", 401)):
            body = urlencode({**form, "refresh_token": refresh}).encode()
            answer = wire.request("POST", "/token", body)
            assert answer.status == status
            if status == 200:
                headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
                assert wire.request("GET", "/v2/_catalog", None, headers).status == 200


def test_tls(tmp_path: Path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with SampleRegistry(tls=context) as registry:
        assert registry.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        connection = http.client.HTTPSConnection(registry.host, context=trusting)
        connection.request("GET", "/v2/")
        assert connection.getresponse().read() == b"{}"
        connection.close()
        connection = http.client.HTTPSConnection(
            registry.host, context=ssl.create_default_context()
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/v2/")
        connection.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/3\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_get_400(registry: SampleRegistry, head: bytes):
    host, port = registry.host.split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(head)
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")


def test_connections_are_kept_and_counted(registry: SampleRegistry):
    before = registry.connections
    with Wire(registry.url) as wire:
        for _ in range(5):
            wire.request("HEAD", BLOB)
            wire.request("GET", "/v2/a/b/manifests/none")
    assert registry.connections == before + 1


def test_it_runs_as_a_process_and_writes_its_log(tmp_path: Path):
    ready, log = tmp_path / "ready", tmp_path / "log"
    command = [sys.executable, "-m", "api.samples.registry", "--ready-file", str(ready)]
    process = ManagedProcess("sample", [*command, "--access-log", str(log)], log_directory=tmp_path)
    with process:
        process.wait_ready(ready.exists)
        with Wire(ready.read_text().strip()) as wire:
            assert json.loads(wire.request("GET", "/v2/_catalog?n=3").body) == {"repositories": []}
        assert process.stop() == 0
    assert [(a.method, a.path, a.status) for a in read_access_log(log)] == [
        ("GET", "/v2/_catalog?n=3", 200)
    ]
    wrong = [*command, "--profile", "none"]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode == 2
