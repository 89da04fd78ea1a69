"""The server of /healthz and /metrics: on loopback to everybody, elsewhere to who bears the token."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from service.errors import InvalidConfiguration
from service.replication.metrics_server import bears, read_token, serve
from tests.support.processes import free_port

TOKEN = "sixteen-letters-or-more"


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("transship_seen", "Seen", registry=made).inc(3)
    return made


@pytest.fixture
def guarded(registry: CollectorRegistry) -> Iterator[str]:
    listen = f"127.0.0.1:{free_port()}"
    end = serve(registry, listen, TOKEN)
    yield f"http://{listen}"
    end()


def test_without_a_token_loopback_is_served(registry: CollectorRegistry) -> None:
    listen = f"127.0.0.1:{free_port()}"
    end = serve(registry, listen, "")

    text = httpx.get(f"http://{listen}/metrics", trust_env=False).text
    assert "transship_seen_total 3.0" in text
    assert httpx.get(f"http://{listen}/healthz", trust_env=False).status_code == 200
    assert httpx.get(f"http://{listen}/", trust_env=False).status_code == 404
    end()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]", "metrics.example", "192.0.2.1"])
def test_without_a_token_nothing_else_is_listened_on(
    host: str, registry: CollectorRegistry
) -> None:
    with pytest.raises(InvalidConfiguration, match="reached from elsewhere") as caught:
        serve(registry, f"{host}:{free_port()}", "")

    assert "TRANSSHIP_METRICS_TOKEN_FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
    ],
)
def test_with_a_token_it_has_to_be_shown(guarded: str, shown: str | None, status: int) -> None:
    headers = {} if shown is None else {"Authorization": shown}

    answer = httpx.get(f"{guarded}/metrics", headers=headers, trust_env=False)

    assert answer.status_code == status
    assert ("transship_seen" in answer.text) == (status == 200)


def test_health_asks_for_no_token(guarded: str) -> None:
    assert httpx.get(f"{guarded}/healthz", trust_env=False).json() == {"status": "alive"}


def test_who_connects_and_says_nothing_keeps_nobody_waiting(registry: CollectorRegistry) -> None:
    """A check of health that is not answered has an orchestrator kill a process that is well."""
    port = free_port()
    end = serve(registry, f"127.0.0.1:{port}", "")
    with (
        socket.create_connection(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)) as half,
    ):
        half.sendall(b"GET /metrics HTTP/1.1\r\n")

        answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5, trust_env=False)

        assert answer.status_code == 200
    end()


def test_no_token_is_borne_by_nobody() -> None:
    assert not bears("Bearer ", "")
    assert not bears("", "")


def test_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    assert read_token(str(file)) == TOKEN
    assert read_token("") == ""


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe\x00", None])
def test_what_is_no_token_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(InvalidConfiguration, match="TRANSSHIP_METRICS_TOKEN_FILE"):
        read_token(str(file))


def test_an_address_that_is_none_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(InvalidConfiguration, match="TRANSSHIP_METRICS_LISTEN"):
        serve(registry, "127.0.0.1:none", "")
