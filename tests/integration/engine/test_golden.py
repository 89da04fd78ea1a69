"""What earlier releases left in the middle of their work, this one takes up: databases and messages (F098, F107)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from service.bootstrap import open_services
from service.model.states import CopyState, ExecutionState
from service.settings import Settings
from service.store import schema
from service.store.backup_file import open_file
from service.store.check import check
from service.store.database import Database
from service.store.portable import carry, our_tables, renumber, sum_up
from service.store.schema import HEAD, REVISIONS, create_or_upgrade
from tests.support import golden
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer
from tests.support.world import World, open_world
from workers import signatures
from workers.envelope import PREFIX
from workers.signatures import QueuePublisher

LEFT = golden.revisions()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address for a golden database: a file that is not there yet, or an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/transship.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_database()


def laid_out(revision: str, url: str, folder: Path, *, up_to: str = "") -> dict[str, int]:
    """Make the database at `url` the golden one of a revision, or that brought to `up_to`; its rows by table."""
    file = folder / f"golden-{revision}"
    golden.load_database(revision, file)
    with open_file(file, write=True) as connection, connection.begin():
        if up_to:
            schema.upgrade(connection, to=up_to)
        rows = {table.name: sum_up(connection, table).rows for table in our_tables(connection)}
    if url.startswith("sqlite"):
        file.rename(url.removeprefix("sqlite:///"))
        return rows
    database = Database(url)
    with open_file(file) as source:

        def work(connection: Any) -> None:
            schema.upgrade(connection, to=up_to or revision)
            carry(source, connection, our_tables(source))
            renumber(connection)

        database.exclusive(work)
    database.close()
    return rows


def test_this_release_has_left_something() -> None:
    assert HEAD in LEFT, "run python -m tests.support.golden, once, and commit what it writes"
    assert set(LEFT) <= set(REVISIONS)


@pytest.mark.parametrize("revision", LEFT)
def test_a_golden_database_is_upgraded_and_read(revision: str, place: str, tmp_path: Path) -> None:
    before = laid_out(revision, place, tmp_path)
    assert before["copies"] == len(golden.IMAGES) - 1
    (tmp_path / "keys").write_text(golden.KEY)
    settings = Settings(database_url=place, secret_key_file=str(tmp_path / "keys"))

    with _services(settings) as services:
        assert create_or_upgrade(services.database) == revision
        schema.check_schema(services.database)

        (rule,) = services.rules.list()
        assert rule.rule.name == "fleet"
        assert rule.rule.destinations[0].registry == "west"
        vault = services.registries.get("vault")
        assert vault.secret_set
        assert services.registries.secret("vault") == golden.PASSWORD
        executions = services.executions.list()
        assert {(one.rule, one.state) for one in executions} == {
            ("fleet", ExecutionState.RUNNING),
            ("other", ExecutionState.PENDING),
        }
        with services.database.snapshot() as connection:
            now = {table.name: sum_up(connection, table).rows for table in our_tables(connection)}
        assert {name: now[name] for name in before} == before
        findings = check(services.database, services.keyring)
    bad = {one.name for one in findings if not one.ok}
    assert bad <= {"settings"}, findings  # the tests' PostgreSQL does not wait for its disk


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_every_revision_are_kept(revision: str, place: str, tmp_path: Path) -> None:
    """The first golden database, brought to each revision in between, and on from there."""
    before = laid_out(LEFT[0], place, tmp_path, up_to=revision)
    database = Database(place)
    with database.snapshot() as connection:
        columns = {
            table.name: {column.name: str(column.type) for column in table.columns}
            for table in our_tables(connection)
        }

    create_or_upgrade(database)

    with database.snapshot() as connection:
        tables = {table.name: table for table in our_tables(connection)}
        assert {name: sum_up(connection, tables[name]).rows for name in before} == before
        for name, was in columns.items():
            assert was.items() <= {c.name: str(c.type) for c in tables[name].columns}.items()
        assert inspect(connection).has_table("deletions")
    schema.check_schema(database)
    database.close()


@pytest.mark.parametrize("revision", LEFT)
def test_what_a_release_left_is_carried_on(revision: str, place: str, tmp_path: Path) -> None:
    """Its messages by a worker of today, with nobody to send them again; then all that it left."""
    laid_out(revision, place, tmp_path)
    with open_world(tmp_path, place) as world:
        golden.push_images(world)
        golden.put_what_was_placed(world)
        redis = world.services.redis
        count = golden.load_messages(revision, redis)
        assert count >= 6
        with world.worker():
            named = ("team/page", "team/fanned", "team/placed")
            try:
                wait_until(
                    lambda: all(_states(world)[name] == {CopyState.COPIED} for name in named),
                    30,
                    "what its messages are about",
                )
            except AssertionError as error:
                raise AssertionError(f"{error}: {_told(world)}") from error
            wait_until(lambda: _idle(redis), 30, "the queues to be empty")
            states = _states(world)
            assert states["team/fresh"] != set(), "the message to plan was not taken"
            with _driven(world):
                wait_until(
                    lambda: all(one.state.ended for one in world.services.executions.list()),
                    40,
                    "the end of all executions",
                )

        found = {one.rule: one.state for one in world.services.executions.list()}
        assert found == dict.fromkeys(("fleet", "other"), ExecutionState.SUCCEEDED)
        for repository, tag in golden.IMAGES:
            image = world.east.storage.manifest(repository, tag)
            assert image is not None
            assert world.tag_at_west(repository, tag) == image.digest


@pytest.mark.parametrize("revision", LEFT)
def test_golden_messages_name_todays_tasks(revision: str) -> None:
    """Every kind of message is there, and none that this release does not know."""
    names = {
        json.loads(text)["headers"]["task"]
        for texts in golden.messages(revision).values()
        for text in texts
    }

    assert names == {
        signatures.PLAN,
        signatures.REPLICATE,
        signatures.COPY_BLOB,
        signatures.COMMIT,
    }


def test_messages_of_a_later_release_are_left_and_their_work_is_sent_again(
    world: World,
) -> None:
    """Unknown tasks, arguments and envelopes: thrown away by the worker, which lives on; SQL knows the work."""
    image = world.push("team/app", "v1", [b"one", b"two"])
    execution = world.plan("team/app")
    (ref,) = world.dispatch()
    redis = world.services.redis
    publisher = QueuePublisher(redis)
    publisher.replicate("local", [[ref]], urgent=False)
    key = f"{PREFIX}copy.local"
    (known,) = redis.lrange(key, 0, -1)
    redis.delete(key)
    for strange in _strange(json.loads(known)):
        redis.lpush(key, json.dumps(strange))
    assert redis.llen(key) == 6

    with world.worker() as worker:
        wait_until(lambda: _idle(redis), 30, "the queue to be empty")
        assert worker.alive
        assert world.states(execution) == [CopyState.DISPATCHED]
        with _driven(world):
            wait_until(
                lambda: world.services.executions.get(execution).state.ended, 40, "the execution"
            )
        assert worker.alive

    assert world.services.executions.get(execution).state is ExecutionState.SUCCEEDED
    assert world.tag_at_west("team/app", "v1") == image.digest


def _strange(known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as a later release might write it."""
    args, kwargs, embed = json.loads(base64.b64decode(known["body"]))
    yield _with(known, task="transship.replicate_2")
    yield _with(known, body=[[*args, "more"], kwargs, embed])
    yield _with(known, body=[args, {"shape": 2}, embed])
    yield _with(known, body=[[{"refs": args[0]}], kwargs, embed])
    yield _with(known, body=[[], kwargs, embed])
    yield {**known, "content-type": "application/x-later"}


def _with(known: dict[str, Any], *, task: str = "", body: Any = None) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(known))
    if task:
        changed["headers"]["task"] = task
    if body is not None:
        changed["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    return changed


def _idle(redis: Any) -> bool:
    waiting = sum(
        redis.llen(f"{PREFIX}{queue}")
        for queue in ("copy.local", "commit.local", "urgent.local", "control", "control.urgent")
    )
    return waiting == 0 and redis.hlen(f"{PREFIX}unacked") == 0


def _states(world: World) -> dict[str, set[CopyState]]:
    found: dict[str, set[CopyState]] = {repository: set() for repository, _ in golden.IMAGES}
    for execution in world.services.executions.list():
        for copy in world.copies(execution.id):
            found[copy.source_repository].add(copy.state)
    return found


def _told(world: World) -> list[tuple[str, str, str]]:
    return [
        (copy.source_repository, copy.state.value, copy.reason)
        for execution in world.services.executions.list()
        for copy in world.copies(execution.id)
    ]


@contextmanager
def _services(settings: Settings) -> Iterator[Any]:
    services = open_services(settings, check=False)
    yield services
    services.close()


@contextmanager
def _driven(world: World) -> Iterator[None]:
    """The scheduler's loop, on a thread."""
    stop = threading.Event()
    drive = world.services.drive(QueuePublisher(world.services.redis))
    thread = threading.Thread(target=drive.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
