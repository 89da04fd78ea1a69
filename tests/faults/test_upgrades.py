"""Upgrades, backups and moves of a database in the middle of work, and processes killed in them (F098, F107, F108, F180).

What is stored by earlier releases, and their messages: tests/integration/engine/test_golden.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import Connection, insert, select, text

from api.samples.registry import OCI_1_1, SampleRegistry
from service.bootstrap import open_services
from service.store import schema
from service.store.backup import back_up
from service.store.backup_file import open_file, read_page, verify
from service.store.check import check
from service.store.database import Database
from service.store.portable import TableSum, carry, our_tables, renumber, sum_up
from service.store.restore import restore
from service.store.schema import HEAD, REVISIONS, create_or_upgrade
from service.store.tables import executions, processes, tokens
from tests.faults.lab import MODULES, ROOT, Lab, open_lab
from tests.faults.test_processes import held_at, whole
from tests.oracle.closure import check as judge
from tests.support import golden, tally
from tests.support.processes import ManagedProcess, wait_until
from tests.support.rows import fill
from tests.support.servers import PostgresServer
from tests.support.transship import clean_environment, command_line, transship

pytestmark = pytest.mark.timeout(180)

LATER = ROOT / "tests/fixtures/later"
PREDECESSOR = "3fd1eef2acd26ff95081c497a1c83afb455de547"
"""The last commit whose schema is the one before this."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that is not there yet, or empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/transship.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_database()


def db(*words: str, url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return transship("db", *words, TRANSSHIP_DATABASE_URL=url, **variables)


def crash(point: str, way: str, nth: int = 1) -> dict[str, str]:
    return {"TRANSSHIP_TESTING": "true", "TRANSSHIP_CRASH": f"{point}:{nth}:{way}"}


def sums(url: str) -> dict[str, TableSum]:
    database = Database(url)
    try:
        with database.snapshot() as connection:
            return {table.name: sum_up(connection, table) for table in our_tables(connection)}
    finally:
        database.close()


def revision_of(url: str) -> str | None:
    database = Database(url)
    try:
        return schema.database_version(database)
    finally:
        database.close()


def lay_out(url: str, folder: Path) -> dict[str, TableSum]:
    """Make it the database that the first release left, and return what is in it."""
    file = folder / "first"
    first = golden.revisions()[0]
    golden.load_database(first, file)
    if url.startswith("sqlite"):
        file.rename(url.removeprefix("sqlite:///"))
        return sums(url)
    database = Database(url)
    with open_file(file) as source:

        def work(connection: Connection) -> None:
            schema.upgrade(connection, to=first)
            carry(source, connection, our_tables(source))
            renumber(connection)

        database.exclusive(work)
    database.close()
    return sums(url)


# ---- upgrades ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        step if step in (1, len(REVISIONS) - 1) else pytest.param(step, marks=pytest.mark.nightly)
        for step in range(1, len(REVISIONS))
    ],
)
def test_f107_an_upgrade_that_was_killed_is_carried_out_by_the_next(
    place: str, tmp_path: Path, step: int
) -> None:
    before = lay_out(place, tmp_path)
    first = revision_of(place)

    killed = db("upgrade", url=place, **crash("db.migrated", "kill9", step))

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tally.killed("db.migrated")
    assert killed.stderr.count("revision ") == step
    assert revision_of(place) == first
    assert sums(place) == before

    done = db("upgrade", "--json", url=place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["before"] == first
    assert json.loads(done.stdout)["revision"] == HEAD
    assert {name: table.rows for name, table in sums(place).items() if name in before} == {
        name: table.rows for name, table in before.items()
    }
    assert db("upgrade", "--json", url=place).returncode == 0


def test_f107_two_upgrades_at_once_one_waits(place: str, tmp_path: Path) -> None:
    lay_out(place, tmp_path)
    first = _upgrading("first", place, tmp_path, **crash("db.migrated", "stop", 2)).start()
    wait_until(lambda: '"way": "stop"' in first.output(), 20, "the first one to stand still")
    second = _upgrading("second", place, tmp_path).start()
    wait_until(lambda: _waits(second, place), 20, "the second one to wait")

    assert second.alive
    first.send_signal(signal.SIGCONT)

    assert first.wait(60) == 0
    assert second.wait(60) == 0
    told = [json.loads(one.stdout_path.read_text()) for one in (first, second)]
    assert [one["before"] for one in told] == ["0001", HEAD]
    assert revision_of(place) == HEAD


def _upgrading(name: str, url: str, folder: Path, **variables: str) -> ManagedProcess:
    environment = {**clean_environment(), "TRANSSHIP_DATABASE_URL": url, **variables}
    words = [*command_line(), "db", "upgrade", "--json"]
    return ManagedProcess(name, words, log_directory=folder, environment=environment, cwd=ROOT)


def _waits(process: ManagedProcess, url: str) -> bool:
    """Whether a process stands before the lock that another one holds."""
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///")
        opened = 0
        for one in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                opened += str(one.readlink()) == file
        return opened >= 2  # a reader's, and the writer's that waits
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        query = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return connection.execute(query).fetchone() == (1,)


@pytest.mark.parametrize("stamp", [REVISIONS[-2], "9999"], ids=["older", "newer"])
def test_f107_processes_of_another_schema_refuse_to_start(tmp_path: Path, stamp: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    url = f"sqlite:///{folder}/transship.db"
    database = Database(url)
    database.exclusive(lambda connection: schema.upgrade(connection, to=REVISIONS[-2]))
    database.exclusive(
        lambda connection: connection.execute(
            text("UPDATE alembic_version SET version_num = :stamp"), {"stamp": stamp}
        )
    )
    database.close()
    environment = {
        **clean_environment(),
        "TRANSSHIP_DATABASE_URL": url,
        "TRANSSHIP_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    hint = "transship db upgrade" if stamp in REVISIONS else "belongs to a newer version"

    commands = {role: [sys.executable, *words] for role, words in MODULES.items()}
    commands["check"] = [*command_line(), "db", "check"]
    if stamp not in REVISIONS:  # it would upgrade the other
        commands["up"] = [*command_line(), "up", "--data", str(folder), "--listen", "127.0.0.1:0"]
        commands["upgrade"] = [*command_line(), "db", "upgrade"]
    for name, words in commands.items():
        done = subprocess.run(
            words,
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, f"{name}: {done.returncode} {done.stderr}"
        assert f"at revision {stamp}" in done.stderr, f"{name}: {done.stderr}"
        assert hint in done.stderr, f"{name}: {done.stderr}"
    assert revision_of(url) == stamp


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_f107_a_later_schema_comes_while_everything_works(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A later release's upgrade under this release's processes: they go on, and are not started again."""
    server = request.getfixturevalue("postgres") if kind == "postgresql" else None
    with open_lab(tmp_path, server) as lab:
        scene = lab.scene("later")
        for number in range(8):
            scene.push(f"app{number}:v1")
        scene.push("app:v1", (50_000, 900_000))
        held = held_at(scene, "reading-a-blob")
        identity = scene.start()
        held.reached()

        _upgrade_to_later(lab._services.database)
        held.let_go()

        assert lab.wait(identity)["state"] == "succeeded"
        scene.push("next:v1")
        assert scene.run()["state"] == "succeeded"
        whole(scene, tags=10, blobs=30)
        worker = lab.processes["worker"]
        worker.stop(30)
        worker.start()
        assert worker.wait(60) == 2
        assert "belongs to a newer version" in worker.output()


def _upgrade_to_later(database: Database) -> None:
    def work(connection: Connection) -> None:
        config = schema.alembic_config()
        versions = [str(schema.MIGRATIONS / "versions"), str(LATER)]
        config.set_main_option("version_locations", os.pathsep.join(versions))
        config.attributes["connection"] = connection
        command.upgrade(config, "9001")

    database.exclusive(work)
    assert schema.database_version(database) == "9001"


# ---- a release with its predecessor's processes --------------------------------------------------


@pytest.fixture(scope="module")
def predecessor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the release before, out of the repository's history."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{PREDECESSOR}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if known.returncode != 0:
        pytest.skip(f"the commit {PREDECESSOR[:12]} is not in this clone's history")
    folder = tmp_path_factory.mktemp("predecessor")
    with (folder / "tree.tar").open("wb") as file:
        words = ["git", "archive", PREDECESSOR, "service", "workers", "api"]
        subprocess.run(words, cwd=ROOT, stdout=file, check=True)
    with tarfile.open(folder / "tree.tar") as tree:
        tree.extractall(folder, filter="data")
    return folder


def test_f180_a_release_takes_over_from_its_predecessor_process_by_process(
    predecessor: Path, tmp_path: Path
) -> None:
    """Upgrade under the old processes, then API and scheduler of this release with the old worker."""
    with Lab(tmp_path) as lab:
        _go_back(lab, REVISIONS[-2])
        old = {role: _process(lab, role, predecessor) for role in MODULES}
        lab.processes.update(old)
        lab.start("api", "scheduler", "worker")
        scene = lab.scene("takeover")
        for number in range(6):
            scene.push(f"app{number}:v1")
        scene.push("app:v1", (50_000, 900_000))
        held = held_at(scene, "reading-a-blob")
        identity = scene.start()
        held.reached()

        done = db("upgrade", "--json", url=lab._database)
        assert done.returncode == 0, done.stderr
        for role in ("api", "scheduler"):
            old[role].stop(30)
            lab.processes[role] = _process(lab, role, ROOT, "-new")
            lab.start(role)
        held.let_go()

        assert lab.wait(identity)["state"] == "succeeded"
        scene.push("next:v1")
        assert scene.run()["state"] == "succeeded"
        assert old["worker"].alive
        old["worker"].stop(30)
        lab.processes["worker"] = _process(lab, "worker", ROOT, "-new")
        lab.start("worker")
        scene.push("last:v1")
        assert scene.run()["state"] == "succeeded"
        whole(scene, tags=9, blobs=27)
        old["worker"].start()
        assert old["worker"].wait(60) == 2
        assert f"at revision {HEAD}" in old["worker"].output()


def _go_back(lab: Lab, revision: str) -> None:
    """Give a lab whose processes are not started yet a database of an earlier revision."""
    lab._services.close()
    file = Path(lab._database.removeprefix("sqlite:///"))
    for one in file.parent.glob(f"{file.name}*"):
        one.unlink()
    lab._services = open_services(lab._settings("", 0), check=False)
    lab._stack.callback(lab._services.close)
    lab._services.database.exclusive(lambda connection: schema.upgrade(connection, to=revision))
    lab.token = "tsp_of_an_earlier_release"
    values = {
        "name": "admin",
        "hash": hashlib.sha256(lab.token.encode()).hexdigest(),
        "prefix": "",
        "role": "admin",
        "created_at": time.time(),
    }
    lab._services.database.write(lambda connection: connection.execute(insert(tokens), values))
    lab.client.headers["Authorization"] = f"Bearer {lab.token}"


def _process(lab: Lab, role: str, source: Path, more: str = "") -> ManagedProcess:
    """A process of the lab that runs the source in a folder."""
    return ManagedProcess(
        role + more,
        [sys.executable, *MODULES[role]],
        log_directory=lab.folder,
        environment={**clean_environment(), **lab._settings(role, 1).to_env()},
        cwd=source,
    )


# ---- backups -------------------------------------------------------------------------------------


def test_a_backup_of_a_fleet_at_work_is_one_moment(lab: Lab, tmp_path: Path) -> None:
    scene = lab.scene("backed-up")
    for number in range(12):
        scene.push(f"app{number}:v1")
    scene.push("app:v1", (50_000, 900_000))
    held = held_at(scene, "reading-a-blob")
    identity = scene.start()
    held.reached()

    done = db("backup", str(tmp_path / "command.db"), "--json", url=lab._database)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["tables"]["copies"]["rows"] > 0
    assert "key file" in told["warnings"][0]
    files = [tmp_path / "command.db"]
    held.let_go()
    while lab.execution(identity)["state"] == "running":
        files.append(tmp_path / f"backup-{len(files)}.db")
        back_up(lab._services.database, files[-1])

    assert lab.wait(identity)["state"] == "succeeded"
    assert len(files) >= 2, "no backup was made between the copies"
    whole(scene, tags=13, blobs=39)
    for number, file in enumerate({files[0], files[len(files) // 2], files[-1]}):
        assert verify(file).tables["executions"].rows > 0
        database = Database(f"sqlite:///{tmp_path}/restored-{number}.db")
        restore(database, file, dead_after_seconds=2.0)
        assert {one.name for one in check(database, None) if not one.ok} == set()
        with database.read() as connection:
            states = connection.execute(
                select(executions.c.state).where(executions.c.id == identity)
            ).scalars()
            assert set(states) <= {"running", "pending", "succeeded"}
        database.close()


def test_f108_a_database_of_an_earlier_hour_catches_up_and_deletes_nothing(
    lab: Lab, tmp_path: Path
) -> None:
    """In the gap tags came, moved, and one that was to be deleted came back."""
    file = tmp_path / "hour.db"
    with SampleRegistry(profile=OCI_1_1) as destination:
        lab.ask("PUT", "/registries/f108", {"url": destination.url})
        lab.rearm("scheduler", {"TRANSSHIP_ABSENCE_SECONDS": "0.2"})
        scene = lab.scene(
            "f108",
            destinations=[{"registry": "f108"}],
            delete={"enabled": True, "grace": "1h", "cap": "100%"},
            trigger={"event": True},
        )
        for tag in ("v1", "v2", "v3"):
            scene.push(f"app:{tag}")
        assert scene.run()["state"] == "succeeded"
        scene.remove("app:v2")
        assert scene.run()["state"] == "succeeded"
        wait_until(lambda: _deletion(lab)["state"] == "pending", 20, "the deletion's grace")
        assert db("backup", str(file), url=lab._database).returncode == 0

        for tag in ("v1", "v2", "v4"):
            scene.push(f"app:{tag}")
        assert scene.run()["state"] == "succeeded"
        for process in lab.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in lab.processes.values():
            assert process.wait(60) == 0
        done = db("restore", str(file), "--force", "--json", url=lab._database)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["deletions_cancelled"] == 1
        assert told["rules_to_run"] == 1
        assert told["ledgers_raised"] >= 1
        lab.start("api", "scheduler", "worker")

        def started() -> list[dict[str, Any]]:
            """What the scheduler has started for the restore, in its own time."""
            return [
                one
                for one in lab.ask("GET", "/executions?limit=200")["items"]
                if (one["rule"], one["trigger"]) == ("f108", "restore")
            ]

        runs = wait_until(started, 20, "the run that a restore is followed by")
        assert len(runs) == 1
        assert lab.wait(runs[0]["id"])["state"] == "succeeded"
        scene.push("app:v5")
        assert lab.wait(lab.run("f108"))["state"] == "succeeded"
        assert _deletion(lab)["state"] == "cancelled"
        expected = {place: place for place in scene.expected}
        report = judge(lab.source.url, destination.url, expected)
        assert report.faults == [], str(report)
        assert report.tags >= 5
        assert [line.path for line in destination.log if line.method == "DELETE"] == []
        lab.rearm("scheduler", {})


def _deletion(lab: Lab) -> Mapping[str, Any]:
    items = [one for one in lab.ask("GET", "/deletions")["items"] if one["rule"] == "f108"]
    return items[0] if items else {"state": ""}


def test_a_restore_that_was_killed_has_done_nothing(place: str, tmp_path: Path) -> None:
    source = Database(f"sqlite:///{tmp_path}/source.db")
    create_or_upgrade(source)
    source.exclusive(fill)
    file = tmp_path / "backup.db"
    back_up(source, file)
    source.close()
    database = Database(place)
    create_or_upgrade(database)
    database.exclusive(lambda connection: fill(connection, 2))
    database.close()
    before = sums(place)
    late = {"TRANSSHIP_DEAD_AFTER_SECONDS": "2"}

    killed = db(
        "restore", str(file), "--force", url=place, **late, **crash("db.table_carried", "kill9", 7)
    )

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tally.killed("db.table_carried")
    assert sums(place) == before
    done = db("restore", str(file), "--force", "--json", url=place, **late)
    assert done.returncode == 0, done.stderr
    assert sums(place)["tokens"] == read_page(file).tables["tokens"]


# ---- moves ---------------------------------------------------------------------------------------


def test_a_fleet_moves_to_postgresql_in_the_middle_of_its_work(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with open_lab(tmp_path) as lab:
        scene = lab.scene("moved")
        for number in range(6):
            scene.push(f"app{number}:v1")
        scene.push("app:v1", (50_000, 900_000))
        held = held_at(scene, "reading-a-blob")
        identity = scene.start()
        held.reached()
        old, new = lab._database, postgres.fresh_database()

        refused = db("move", "--to", new, url=old)
        assert refused.returncode == 2, refused.stderr
        for role in ("api", "scheduler", "worker"):
            assert f"{role} on " in refused.stderr
        assert revision_of(new) is None
        for process in lab.processes.values():
            process.kill()
        held.let_go()
        lab.lapse()

        killed = db("move", "--to", new, url=old, **crash("db.table_carried", "kill9", 9))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert revision_of(new) is None
        before = sums(old)
        done = db("move", "--to", new, "--json", url=old)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["set"] == {"TRANSSHIP_DATABASE_URL": new}
        assert told["rows"] == sum(table.rows for table in before.values())
        assert sums(new) == sums(old) == before

        _use(lab, new)
        lab.start("api", "scheduler", "worker")
        assert lab.wait(identity)["state"] == "succeeded"
        scene.push("next:v1")
        assert scene.run()["state"] == "succeeded"
        whole(scene, tags=8, blobs=24)
        with lab._services.database.read() as connection:
            kinds = set(connection.execute(select(processes.c.kind)).scalars())
        assert kinds == {"api", "scheduler", "worker"}


def _use(lab: Lab, url: str) -> None:
    """Have a lab whose processes are ended go on with another database."""
    lab._services.close()
    lab._database = url
    lab._services = open_services(lab._settings("", 0))
    lab._stack.callback(lab._services.close)
    lab.processes.clear()


def test_a_data_folder_is_backed_up_and_restored_elsewhere(tmp_path: Path) -> None:
    """What `transship up` keeps in its folder."""
    data, other = tmp_path / "data", tmp_path / "other"
    done = transship("db", "upgrade", "--data", str(data))
    assert done.returncode == 0, done.stderr
    database = Database(f"sqlite:///{data}/transship.db")
    database.exclusive(fill)
    database.close()
    file = tmp_path / "backup.db"

    assert transship("db", "backup", str(file), "--data", str(data)).returncode == 0
    done = transship("db", "restore", str(file), "--data", str(other), "--json")

    assert done.returncode == 0, done.stderr
    assert sums(f"sqlite:///{other}/transship.db")["tokens"].rows == 3
    shutil.copyfile(file, tmp_path / "other.db")
    assert transship("db", "check", "--backup", str(tmp_path / "other.db")).returncode == 0
    (tmp_path / "other.db").write_bytes(file.read_bytes()[:5000])
    assert transship("db", "check", "--backup", str(tmp_path / "other.db")).returncode == 1
