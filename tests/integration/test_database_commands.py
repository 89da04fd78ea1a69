"""transship db: what each command answers, in words and as JSON, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from api.cli.main import main
from service.store.database import Database
from service.store.keyring import KeyRing
from service.store.registries import RegistryStore
from service.store.schema import HEAD, REVISIONS, create_or_upgrade, upgrade
from tests.integration.store.builders import Plot, a_rule, an_endpoint
from tests.support.rows import fill


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Say = Callable[..., Said]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "transship.db"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path) -> Say:
    """Run `transship db WORDS` in this process against the database of `file`."""
    monkeypatch.setenv("TRANSSHIP_DATABASE_URL", f"sqlite:///{file}")

    def said(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["db", *words])
        told = capsys.readouterr()
        return Said(int(caught.value.code or 0), told.out, told.err)

    return said


def opened(file: Path) -> Database:
    database = Database(f"sqlite:///{file}")
    create_or_upgrade(database)
    return database


def test_upgrade_creates_upgrades_and_then_has_nothing_to_do(say: Say, file: Path) -> None:
    first, second = say("upgrade", "--json"), say("upgrade", "--json")
    assert (first.code, second.code) == (0, 0)
    assert first.document == {
        "schema": 1,
        "database": f"sqlite:///{file}",
        "before": None,
        "revision": HEAD,
    }
    assert second.document["before"] == HEAD
    file.unlink()
    database = Database(f"sqlite:///{file}")
    database.exclusive(lambda connection: upgrade(connection, to=REVISIONS[0]))
    database.close()

    third = say("upgrade")

    assert (third.code, third.out) == (0, f"the database is at revision {HEAD}\n")
    assert third.err.split() == [word for name in REVISIONS[1:] for word in ("revision", name)]


def test_check_says_what_is_well_and_what_is_not(
    say: Say, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(file)
    ring = KeyRing([Fernet.generate_key()])
    RegistryStore(database, ring).put(an_endpoint("east"), document={}, secret="hunter2")
    database.close()

    bad = say("check", "--json")
    (tmp_path / "keys").write_bytes(ring._keys[0])
    monkeypatch.setenv("TRANSSHIP_SECRET_KEY_FILE", str(tmp_path / "keys"))
    good = say("check", "--json")

    assert (bad.code, good.code) == (1, 0)
    assert (bad.document["ok"], good.document["ok"]) == (False, True)
    (wrong,) = [one for one in bad.document["checks"] if not one["ok"]]
    assert wrong["name"] == "secrets"
    assert wrong["hint"]
    assert good.document["revision"] == HEAD
    words = say("check")
    assert words.code == 0
    assert "ok  secrets: all 1 open" in words.out
    assert "looking at integrity" in words.err


def test_another_revision_is_refused_with_the_command_to_run(say: Say, file: Path) -> None:
    for stamp, hint in ((REVISIONS[0], "transship db upgrade"), ("9999", "a newer version")):
        database = opened(file)
        database.exclusive(
            lambda connection, stamp=stamp: connection.exec_driver_sql(
                f"UPDATE alembic_version SET version_num = '{stamp}'"
            )
        )
        database.close()

        found = say("check")

        assert found.code == 2
        assert f"at revision {stamp}" in found.err
        assert hint in found.err
        file.unlink()


def test_a_database_that_is_not_there_is_not_created_by_a_look(say: Say, file: Path) -> None:
    for words in (("check",), ("backup", str(file) + ".b"), ("move", "--to", "sqlite://")):
        found = say(*words)
        assert found.code == 2
        assert f"there is no database {file}" in found.err
    assert not file.exists()


def test_a_database_that_does_not_answer_is_code_3(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    for words in (("check",), ("upgrade",), ("backup", "never"), ("restore", "never")):
        found = say(*words)
        assert found.code == (2 if words[0] == "restore" else 3), found
    assert not Path("never").exists()


def test_what_is_no_database_is_told_so(say: Say, file: Path) -> None:
    file.write_text("this is no database, whatever its name says" * 100)

    found = say("check")

    assert found.code == 2
    assert "cannot be read" in found.err
    assert "restore the last good backup" in found.err


def test_backup_and_restore(say: Say, file: Path, tmp_path: Path) -> None:
    database = opened(file)
    database.exclusive(fill)
    database.close()
    kept = tmp_path / "kept.db"

    made = say("backup", str(kept), "--json")
    again = say("backup", str(kept))
    seen = say("check", "--backup", str(kept), "--json")
    refused = say("restore", str(kept))
    done = say("restore", str(kept), "--force", "--json")

    assert (made.code, again.code, seen.code, refused.code, done.code) == (0, 2, 0, 2, 0)
    assert made.document["tables"]["tokens"]["rows"] == 3
    assert made.document["bytes"] == kept.stat().st_size
    assert made.document["made_at"].endswith("Z")
    assert "key file is not in it" in made.document["warnings"][0]
    assert seen.document["tables"] == made.document["tables"]
    assert "--force" in again.err
    assert "--force" in refused.err
    assert done.document["revision"] == HEAD
    assert done.document["rules_to_run"] == 1
    assert "revoke again" in done.document["warnings"][0]
    assert "rows" in done.err
    words = say("restore", str(kept), "--force")
    assert "then start the processes" in words.out


def test_a_restore_under_a_process_that_is_alive_is_refused(
    say: Say, file: Path, tmp_path: Path
) -> None:
    database = opened(file)
    kept = tmp_path / "kept.db"
    assert say("backup", str(kept)).code == 0
    Plot(database).heartbeat("a", kind="api")
    database.close()

    for words in (
        ("restore", str(kept), "--force"),
        ("move", "--to", f"sqlite:///{tmp_path}/n.db"),
    ):
        found = say(*words)
        assert found.code == 2
        assert "api on host (process 1)" in found.err
        assert "stop them first" in found.err


def test_move(say: Say, file: Path, tmp_path: Path) -> None:
    database = opened(file)
    Plot(database).planned("v1")
    database.close()
    target = f"sqlite:///{tmp_path}/new.db"

    moved = say("move", "--to", target, "--json")
    again = say("move", "--to", target)
    wrong = say("move", "--to", "no address")

    assert (moved.code, again.code, wrong.code) == (0, 2, 2)
    assert moved.document["from"] == f"sqlite:///{file}"
    assert moved.document["set"] == {"TRANSSHIP_DATABASE_URL": target}
    assert moved.document["tables"]["copies"]["rows"] == 1
    assert "not empty" in again.err
    assert "no URL" in wrong.err


def test_a_password_in_an_address_is_not_shown(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "postgresql+psycopg://nobody:hunter2@127.0.0.1:1/none"
    monkeypatch.setenv("TRANSSHIP_DATABASE_URL", secret)
    found = [say("check", "--json"), say("move", "--to", secret), say("upgrade")]

    assert {one.code for one in found} == {2, 3}
    assert "hunter2" not in "".join(one.out + one.err for one in found)


def test_a_data_folder_is_named_instead(say: Say, tmp_path: Path) -> None:
    from service.store.rules import RuleStore

    data = tmp_path / "data"
    assert say("upgrade", "--data", str(data)).code == 0
    database = Database(f"sqlite:///{data}/transship.db")
    RuleStore(database).put(a_rule(every=60.0), document={})
    database.close()
    kept, other = str(tmp_path / "kept.db"), str(tmp_path / "other")

    assert say("check", "--data", str(data)).code == 0
    assert say("backup", kept, "--data", str(data)).code == 0
    done = say("restore", kept, "--data", other, "--json")

    assert done.code == 0
    assert done.document["rules_to_run"] == 1
    assert (data.stat().st_mode & 0o777) == 0o700
