"""Backups: one file for either database, whole or not at all, and what a restored database believes."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from service.errors import Conflict, InvalidConfiguration, InvalidInput
from service.model.rule import DeletePolicy, Trigger
from service.model.states import CopyState, ExecutionState
from service.model.work import Proof
from service.store import schema
from service.store.audit import AuditStore
from service.store.backup import back_up
from service.store.backup_file import open_file, read_page, verify
from service.store.database import Database
from service.store.deletions import DeletionStore
from service.store.portable import TableSum, our_tables, sum_up
from service.store.restore import Restored, restore
from service.store.rules import RuleStore
from service.store.schema import HEAD, REVISIONS, create_or_upgrade
from service.store.tables import copies, executions, processes, rules, written_tags
from service.store.tables_deletions import deletion_scans, deletion_tags, deletions
from tests.integration.store.builders import Plot, a_digest, a_rule, selected
from tests.support.rows import fill
from tests.support.servers import PostgresServer

CHANGED = frozenset(
    {
        "audit",
        "audit_head",
        "copies",
        "copy_blobs",
        "deletions",
        "deletion_scans",
        "deletion_tags",
        "executions",
        "execution_left_out",
        "execution_unchanged",
        "digest_tags",
        "leases",
        "ledgers",
        "processes",
        "selections",
    }
)
"""Tables that restoring works on, and that are looked at by tests of their own."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a backup.db"


@pytest.fixture
def target(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database to restore into: of the same kind, or of the one that the test names."""
    kind = getattr(request, "param", url.partition(":")[0].partition("+")[0])
    address = f"sqlite:///{tmp_path}/target.db"
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        address = server.fresh_database()
    database = Database(address)
    yield database
    database.close()


into_either = pytest.mark.parametrize(
    ("url", "target"),
    [
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        pytest.param("sqlite", "sqlite", marks=pytest.mark.nightly),
        pytest.param("postgresql", "postgresql", marks=pytest.mark.nightly),
    ],
    indirect=True,
)
"""Each way to write a file and each to read one; which of them meet makes no difference."""

of_the_file = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
)
"""Of what is about the file, or is the same statement on both: it is SQLite's from either database."""

EARLIER = [REVISIONS[0], pytest.param(REVISIONS[-2], marks=pytest.mark.nightly)]


def sums(database: Database) -> dict[str, TableSum]:
    with database.snapshot() as connection:
        return {table.name: sum_up(connection, table) for table in our_tables(connection)}


def restored(database: Database, path: Path, **options: Any) -> Restored:
    return restore(database, path, dead_after_seconds=20.0, **options)


# ---- backing up ----------------------------------------------------------------------------------


@into_either
def test_every_table_goes_into_the_file_and_out_of_it(
    database: Database, target: Database, file: Path
) -> None:
    database.exclusive(fill)
    before = sums(database)
    told: list[str] = []

    manifest = back_up(database, file, tell=told.append)
    found = restored(target, file)

    assert manifest.tables == before
    assert all(table.rows == 3 for table in before.values())
    assert manifest.revision == HEAD
    assert manifest == read_page(file) == verify(file) == found.manifest
    after = sums(target)
    assert {name: after[name] for name in before if name not in CHANGED} == {
        name: before[name] for name in before if name not in CHANGED
    }
    assert told
    assert sums(database) == before


def test_a_backup_is_one_file_for_its_owner_alone(database: Database, file: Path) -> None:
    back_up(database, file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    assert sorted(one.name for one in file.parent.iterdir() if "backup" in one.name) == [file.name]


@of_the_file
def test_a_file_that_is_there_is_not_overwritten_unless_that_is_said(
    database: Database, file: Path
) -> None:
    file.write_text("mine")
    with pytest.raises(InvalidInput, match="is there already") as caught:
        back_up(database, file)
    assert "--force" in caught.value.hint
    assert file.read_text() == "mine"

    back_up(database, file, overwrite=True)

    verify(file)
    with pytest.raises(InvalidInput, match="is there already"):
        back_up(database, file.parent, overwrite=True)


@of_the_file
def test_a_draft_of_a_process_that_died_is_removed(database: Database, file: Path) -> None:
    dead = file.parent / f".{file.name}.999999999.draft"
    dead.touch()

    back_up(database, file)

    assert not dead.exists()


def test_a_database_without_tables_is_not_backed_up(empty: Database, file: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="no tables yet"):
        back_up(empty, file)
    assert not file.exists()


def test_a_backup_is_one_moment_while_others_write(
    database: Database, plot: Plot, file: Path
) -> None:
    plot.planned("v1", "v2")
    before = sums(database)

    def write(text: str) -> None:
        if "table" in text or "pages" in text or "rows" in text:
            database.write(
                lambda connection: connection.execute(update(copies).values(reason=text))
            )

    manifest = back_up(database, file, tell=write, pages=2)

    assert manifest.tables == before
    assert sums(database) != before


# ---- what is no backup ---------------------------------------------------------------------------


@of_the_file
def test_what_is_no_backup_is_refused(target: Database, file: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        restored(target, file)
    for content in (b"", b"text", b"SQLite format 3\0" + bytes(4000)):
        file.write_bytes(content)
        with pytest.raises(InvalidInput, match="is no backup of Transship, or it is damaged"):
            restored(target, file)
    other = file.with_name("other.db")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE rules (name TEXT)")
    connection.close()
    with pytest.raises(InvalidInput, match="is no backup of Transship"):
        restored(target, other)
    assert schema.database_version(target) is None


@of_the_file
@pytest.mark.parametrize("damage", ["row", "lost", "more", "table", "stamp"])
def test_a_backup_that_somebody_changed_is_refused(
    database: Database, target: Database, file: Path, damage: str
) -> None:
    database.exclusive(fill)
    back_up(database, file)
    statement = {
        "row": "UPDATE tokens SET role = 'admin' WHERE name = 'name1'",
        "lost": "DELETE FROM written_tags WHERE tag = 'tag1'",
        "more": "INSERT INTO leases VALUES ('more', 'me', 0)",
        "table": "DROP TABLE event_keys",
        "stamp": "UPDATE alembic_version SET version_num = '0001'",
    }[damage]
    with sqlite3.connect(file) as connection:
        assert connection.execute(statement).rowcount != 0
    connection.close()

    with pytest.raises(InvalidInput, match="is damaged"):
        restored(target, file)
    assert schema.database_version(target) is None


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_every_flipped_byte_that_is_a_row_is_found(database: Database, file: Path) -> None:
    database.exclusive(fill)
    back_up(database, file)
    whole = file.read_bytes()
    used = [place for place, byte in enumerate(whole) if byte and place > 4096]
    struck = 0
    for place in used[:: len(used) // 40]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        try:
            verify(file)
        except InvalidInput:
            struck += 1
            continue
        assert sums_of_file(file) == read_page(file).tables  # it fell into an unused place
    assert struck > 10
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput):
        verify(file)


def sums_of_file(file: Path) -> dict[str, TableSum]:
    with open_file(file) as connection:
        return {table.name: sum_up(connection, table) for table in our_tables(connection)}


@of_the_file
def test_a_backup_of_a_later_format_or_revision_is_refused_by_its_name(
    database: Database, target: Database, file: Path
) -> None:
    back_up(database, file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute(
            "UPDATE transship_backup SET manifest = replace(manifest, ?, ?)",
            (f'"revision": "{HEAD}"', '"revision": "9999"'),
        )
    with pytest.raises(Conflict, match=f"is of revision 9999.* knows {HEAD} at most"):
        restored(target, file)
    with connection:
        connection.execute(
            "UPDATE transship_backup SET manifest = replace(manifest, '\"format\": 1', '\"format\": 2')"
        )
    connection.close()
    with pytest.raises(InvalidInput, match="of format 2, this version reads 1"):
        restored(target, file)


# ---- where it may go -----------------------------------------------------------------------------


def test_a_database_that_holds_something_is_replaced_only_on_demand(
    database: Database, plot: Plot, target: Database, file: Path
) -> None:
    plot.planned("v1")
    back_up(database, file)
    create_or_upgrade(target)
    Plot(target).planned("v7", rule="other")

    with pytest.raises(Conflict, match="not empty, it has rows in copies") as caught:
        restored(target, file)
    assert "--force" in caught.value.hint
    assert [one.rule for one in Plot(target).executions.list()] == ["other"]

    restored(target, file, replace=True)

    assert [one.rule for one in Plot(target).executions.list()] == ["fleet"]


@of_the_file
def test_tables_without_rows_are_empty_enough(
    database: Database, target: Database, file: Path
) -> None:
    back_up(database, file)
    create_or_upgrade(target)
    Plot(target).heartbeat("long gone")
    Plot(target).ago(processes, "seen_at", 100)

    restored(target, file)

    with target.read() as connection:
        assert connection.execute(select(processes)).all() == []


def test_processes_that_are_at_work_are_named_and_refused(
    database: Database, target: Database, file: Path
) -> None:
    back_up(database, file)
    create_or_upgrade(target)
    plot = Plot(target)
    plot.heartbeat("a")
    plot.heartbeat("b", kind="scheduler")

    with pytest.raises(
        Conflict, match=r"scheduler on host \(process 1\), worker on host"
    ) as caught:
        restored(target, file, replace=True)
    assert "stop them first" in caught.value.hint

    plot.ago(processes, "seen_at", 21)
    restored(target, file)


@pytest.mark.parametrize("revision", EARLIER)
def test_an_earlier_database_is_replaced_and_a_later_one_is_not(
    database: Database, target: Database, file: Path, revision: str
) -> None:
    back_up(database, file)
    target.exclusive(lambda connection: schema.upgrade(connection, to=revision))

    restored(target, file, replace=True)

    schema.check_schema(target)
    target.exclusive(lambda connection: _stamp(connection, "9999"))
    with pytest.raises(Conflict, match="at revision 9999, of a newer version"):
        restored(target, file, replace=True)


def _stamp(connection: Connection, revision: str) -> None:
    connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


@into_either
@pytest.mark.parametrize("revision", EARLIER)
def test_a_backup_of_an_earlier_revision_comes_out_as_this_ones(
    empty: Database, target: Database, file: Path, revision: str
) -> None:
    empty.exclusive(lambda connection: schema.upgrade(connection, to=revision))
    empty.exclusive(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO leases (name, holder, until) VALUES ('scheduler', 'me', 1.5)"
        )
    )
    empty.exclusive(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO written_tags (registry, repository, tag, digest, rule, written_at) "
            "VALUES ('west', 'a', 'v1', 'sha256:aa', 'fleet', 1.5)"
        )
    )

    manifest = back_up(empty, file)
    found = restored(target, file)

    assert manifest.revision == revision
    assert found.manifest == manifest
    schema.check_schema(target)
    with target.read() as connection:
        (tag,) = connection.execute(select(written_tags)).all()
    assert (tag.tag, tag.seen_in, tag.written_at) == ("v1", "", 1.5)


def test_a_restore_that_fails_leaves_the_database_as_it_was(
    database: Database, target: Database, file: Path
) -> None:
    database.exclusive(fill)
    back_up(database, file)
    create_or_upgrade(target)
    Plot(target).planned("v7", rule="other")
    before = sums(target)

    def stop(text: str) -> None:
        if text.startswith("copies"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restored(target, file, replace=True, tell=stop)

    assert sums(target) == before


# ---- what a restored database believes -----------------------------------------------------------


@contextmanager
def gone_by(database: Database, file: Path) -> Iterator[Plot]:
    """Back up, and restore over the same database in the end."""
    back_up(database, file)
    yield Plot(database)
    restored(database, file, replace=True)


def test_what_was_under_way_is_made_eligible_and_nobody_is_to_blame(
    database: Database, plot: Plot, file: Path
) -> None:
    plot.running("v1", "v2", rule="other")
    fanned = plot.fanned_out(["one"], ["two"], tag="v3")
    with database.read() as connection:
        before = {row.id: row for row in connection.execute(select(copies))}

    with gone_by(database, file):
        pass

    with database.read() as connection:
        after = {row.id: row for row in connection.execute(select(copies))}
        open_ones = connection.execute(select(executions)).all()
    assert after.keys() == before.keys()
    assert {row.state for row in after.values()} == {CopyState.PENDING}
    assert all(row.fence == before[row.id].fence + 1 for row in after.values())
    assert {(row.owner, row.crashes, row.suspect) for row in after.values()} == {("", 0, False)}
    assert {row.planner for row in open_ones} == {""}
    assert plot.blob(fanned.ref, "one").owner == ""
    assert len(plot.dispatching.eligible("local", 10)) == 3


@of_the_file
def test_no_proof_of_before_is_believed(database: Database, plot: Plot, file: Path) -> None:
    proof = Proof("west", "", "mirror/app", a_digest("layer"), 10)
    execution = plot.execution()
    plot.state.prove(execution, [proof])
    assert plot.state.presence("west", "", [a_digest("layer")], execution)

    with gone_by(database, file):
        pass

    assert plot.state.presence("west", "", [a_digest("layer")], execution) == []
    assert plot.state.epoch("west", "") == 1
    plot.state.prove(execution, [proof])
    assert plot.state.presence("west", "", [a_digest("layer")], execution)


@of_the_file
def test_absences_are_looked_for_anew(database: Database, plot: Plot, file: Path) -> None:
    rule = a_rule(delete=DeletePolicy(enabled=True, grace_seconds=0.0))
    RuleStore(database).put(rule, document={})
    run = plot.planned("v1")
    plot.set(executions, state="succeeded")
    store = DeletionStore(database)
    database.write(_one_deletion(run))
    (due,) = store.due()

    with gone_by(database, file):
        pass

    assert store.due() == []
    assert store.due_scans() == []  # not before another full run
    assert store.get(due.id).state == "cancelled"
    assert "restored from a backup" in store.get(due.id).reason
    assert [tag.state for tag in store.tags(due.id)] == ["kept"]
    with database.read() as connection:
        assert connection.execute(select(written_tags.c.tag)).scalars().all() == ["v1"]


def _one_deletion(run: str) -> Any:
    def work(connection: Connection) -> None:
        connection.execute(
            written_tags.insert().values(
                registry="west",
                repository="mirror/team/app",
                tag="v1",
                digest=a_digest("v1"),
                rule="fleet",
                source_registry="east",
                source_repository="team/app",
                source_reference="v1",
                seen_in="0",
                written_at=1.0,
            )
        )
        connection.execute(
            deletions.insert().values(
                id="d1",
                rule="fleet",
                execution_id=run,
                registry="west",
                state="pending",
                grace_seconds=0.0,
                cap_percent=10.0,
                due_at=1.0,
                created_at=1.0,
            )
        )
        connection.execute(
            deletion_tags.insert().values(
                deletion_id="d1",
                repository="mirror/team/app",
                tag="v1",
                digest=a_digest("v1"),
                source_registry="east",
                source_repository="team/app",
                source_reference="v1",
                state="pending",
                updated_at=1.0,
            )
        )
        connection.execute(deletion_scans.insert().values(rule="fleet", execution_id="0"))

    return work


@of_the_file
def test_each_rule_that_runs_by_itself_runs_once(
    database: Database, plot: Plot, file: Path
) -> None:
    store = RuleStore(database)
    store.put(a_rule("told", trigger=Trigger(event=True)), document={})
    store.put(a_rule("timed", trigger=Trigger(schedule="0 3 * * *", missed="skip")), document={})
    store.put(a_rule("asked"), document={})
    store.put(a_rule("off", trigger=Trigger(event=True), enabled=False), document={})

    with gone_by(database, file):
        pass

    runs = plot.executions.list()
    assert {(run.rule, run.trigger, run.state) for run in runs} == {
        ("told", "restore", ExecutionState.PENDING),
        ("timed", "restore", ExecutionState.PENDING),
    }


def test_an_open_run_of_such_a_rule_looks_again_from_the_start(
    database: Database, plot: Plot, file: Path
) -> None:
    RuleStore(database).put(a_rule("told", trigger=Trigger(event=True)), document={})
    run = plot.planned("v1", "v2", rule="told", trigger=Trigger(event=True))
    by_hand = plot.planned("v3", rule="asked")
    plot.set(executions, deadline_at=1.0)
    with database.read() as connection:
        count = len(connection.execute(select(copies)).all())
    assert count == 3

    with gone_by(database, file):
        pass

    with database.read() as connection:
        left = connection.execute(select(copies.c.execution_id)).scalars().all()
    assert left == [by_hand]
    assert {one.id for one in plot.executions.list()} == {run, by_hand}
    assert plot.executions.get(run).state is ExecutionState.RUNNING
    assert plot.dispatching.unplanned(30.0) == [run]
    assert plot.executions.overdue() == [by_hand]
    assert plot.plans.begin(run, "me")
    plot.plans.add_repositories(run, ["team/app"], cursor="", done=True)
    plot.page(run, [selected("v1"), selected("v9")])
    plot.plans.finish(run)


@of_the_file
def test_restoring_is_in_the_audit_log_and_the_chain_holds(database: Database, file: Path) -> None:
    with gone_by(database, file):
        pass

    (entry,) = AuditStore(database).list()
    assert (entry.change.action, entry.change.kind) == ("restore", "database")
    assert entry.change.name == file.name
    assert AuditStore(database).verify().broken is None


@into_either
def test_new_rows_get_new_numbers_after_a_restore(
    database: Database, plot: Plot, target: Database, file: Path
) -> None:
    plot.planned("v1", "v2")
    back_up(database, file)

    restored(target, file)

    Plot(target).planned("v3", rule="other")
    with target.read() as connection:
        numbers = connection.execute(select(copies.c.id).order_by(copies.c.id)).scalars().all()
        assert len(numbers) == len(set(numbers)) == 3
        assert connection.execute(select(rules)).all() == []
