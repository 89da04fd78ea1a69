"""Flower as `transship flower` runs it: behind a password, read-only, from events alone, bounded (issue 9 point 2)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flower import urls

from service.settings import Settings
from tests.support.processes import ManagedProcess, free_port, wait_until
from tests.support.servers import RedisServer
from tests.support.transship import clean_environment
from workers import flower
from workers.app import make_app

PASSWORD = "a password of some length"
TASKS = 40
OPEN = ("/healthcheck", "/login", "/logout", "/static", ".*")
"""What anybody may ask for: that it lives, the form to sign in at, the way out, its style, what is not there."""

NAME = "transship.replicate"
LABEL = "west <- east team/app:v{}"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as running:
        yield running


@pytest.fixture(scope="module")
def settings(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("flower") / "password"
    file.write_text(f"{PASSWORD}\n")
    return Settings(
        redis_url=f"redis://127.0.0.1:{server.port}/0",
        flower_listen=f"127.0.0.1:{free_port()}",
        flower_password_file=str(file),
        flower_tasks=TASKS,
    )


@pytest.fixture(scope="module")
def anybody(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a running Flower, without the password."""
    process = ManagedProcess(
        "flower",
        [sys.executable, "-m", "workers.flower"],
        log_directory=tmp_path_factory.mktemp("logs"),
        environment={**clean_environment(), **settings.to_env()},
        cwd=Path(__file__).parents[3],
    )
    url = f"http://{settings.flower_listen}"
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        process.start()
        process.wait_ready(lambda: answers(client))
        yield client
    process.kill()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.HTTPError:
        return False


def addresses() -> list[str]:
    """Every page that Flower has, by its own table, with something where it wants a name."""
    patterns = [one[0] if isinstance(one, tuple) else one.regex.pattern for one in urls.handlers]
    return [
        re.sub(r"\(.[+*]\)", "some", pattern.rstrip("$").replace("/?", ""))
        for pattern in patterns
        if not pattern.startswith(OPEN)
    ]


def test_nothing_is_told_without_the_password(anybody: httpx.Client) -> None:
    found = {}
    for address in addresses():
        for method in ("GET", "POST"):
            for auth in (None, ("admin", "wrong"), ("wrong", PASSWORD)):
                status = anybody.request(method, address, auth=auth).status_code
                if status not in (401, 404, 405):
                    found[method, address, auth] = status
    assert found == {}
    assert len(addresses()) > 20
    assert anybody.get("/tasks").status_code == anybody.get("/api/tasks").status_code == 401
    assert anybody.get("/metrics").status_code == 404


def test_nothing_can_be_changed_with_it(anybody: httpx.Client, settings: Settings) -> None:
    changes = [
        one
        for one in addresses()
        if one.startswith(("/api/worker/", "/api/task/"))
        and not one.startswith(("/api/task/info", "/api/task/result", "/api/task/types"))
    ]
    told = {
        one: anybody.post(one, auth=("admin", PASSWORD), json={}).status_code for one in changes
    }

    assert set(told.values()) == {403}, told
    assert len(told) == 14
    assert not make_app(settings).conf.worker_enable_remote_control
    assert "--enable-events=False" in flower.arguments(settings)


def test_only_the_last_tasks_are_kept_with_names_that_can_be_read(
    anybody: httpx.Client, settings: Settings, server: RedisServer
) -> None:
    app: Any = make_app(settings)
    with app.connection_for_write() as connection:
        sender = app.events.Dispatcher(
            connection, hostname="worker@host", buffer_while_offline=False
        )
        number = 0
        known: dict[str, Any] = {}

        def full() -> bool:
            """Send events until it has more than it keeps: what was sent before it listened is lost."""
            nonlocal number, known
            for _ in range(TASKS):
                number += 1
                facts = {
                    "uuid": f"task-{number:06}",
                }
                sender.send(
                    "task-received",
                    name=NAME,
                    args=f"('{LABEL.format(number)}',)",
                    kwargs="{}",
                    **facts,
                )
                sender.send("task-succeeded", result="{}", runtime=0.1, **facts)
            known = anybody.get("/api/tasks?limit=10000", auth=("admin", PASSWORD)).json()
            return f"task-{number:06}" in known and number > 3 * TASKS

        wait_until(full, 30, "the tasks in Flower")

    assert len(known) == TASKS
    assert "task-000001" not in known
    last = known[f"task-{number:06}"]
    assert (last["name"], last["state"], last["worker"]) == (NAME, "SUCCESS", "worker@host")
    assert LABEL.format(number) in last["args"]
    page = anybody.get(f"/task/task-{number:06}", auth=("admin", PASSWORD))
    assert page.status_code == 200
    assert "team/app" in page.text
    with server.client() as client:
        assert_nothing_is_left(client)


def assert_nothing_is_left(client: redis.Redis) -> None:
    """Events are told to who listens, and kept by nobody."""
    assert [
        key for key in client.scan_iter() if b"event" in key and client.type(key) == b"list"
    ] == []


def test_it_does_not_start_without_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    monkeypatch.delenv("TRANSSHIP_FLOWER_PASSWORD_FILE", raising=False)

    assert flower.main() == 2
    assert "TRANSSHIP_FLOWER_PASSWORD_FILE" in capsys.readouterr().err
