"""`transship check-config` against a real Redis and real databases: what is fit for a fleet, and what is not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.cli.check_config import check_config as command
from service.replication.check_config import check_config
from service.settings import Settings
from service.store.database import Database
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from tests.support.servers import PostgresServer, RedisServer

PASSWORD = "a-long-random-word"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    write_new_key(tmp_path / "keys")
    return str(tmp_path / "keys")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer(
        settings={"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    ) as server:
        yield server


def made(address: str) -> str:
    database = Database(address)
    create_or_upgrade(database)
    database.close()
    return address


def told(settings: Settings) -> dict[str, str]:
    """Results by name."""
    return {one.name: one.result for one in check_config(settings)}


def test_what_is_fit_for_a_fleet(
    keys: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = made(postgres.fresh_database())
    with RedisServer(tcp=True, arguments=["--appendonly", "yes"]) as redis:
        with redis.client() as client:
            client.config_set("requirepass", PASSWORD)
        url = f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0"
        settings = Settings(database_url=database, redis_url=url, secret_key_file=keys)

        found = {one.name: one for one in check_config(settings)}

        assert {
            name: one.result for name, one in found.items() if name != "account"
        } == dict.fromkeys(set(found) - {"account"}, "ok")
        assert {"Redis password", "Redis eviction", "database durability", "secret key"} <= set(
            found
        )
        for name, value in settings.to_env().items():
            monkeypatch.setenv(name, value)
        answer = CliRunner().invoke(command, ["--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["fit"] is True
    assert PASSWORD not in answer.output


def test_open_redis_that_evicts(keys: str, tmp_path: Path) -> None:
    database = made(f"sqlite:///{tmp_path}/transship.db")
    words = ["--maxmemory-policy", "allkeys-lru", "--appendonly", "no"]
    with RedisServer(tcp=True, arguments=words) as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"

        found = told(Settings(database_url=database, redis_url=url, secret_key_file=keys))

    assert found["Redis eviction"] == "refused"
    assert found["Redis password"] == "warning", "it is on loopback"
    assert found["Redis persistence"] == "warning"
    assert found["database"] == "warning", "SQLite is for one machine"


def test_redis_whose_nameless_user_may_do_everything(keys: str) -> None:
    """A name and a password in the address say nothing of who else is let in."""
    with RedisServer(tcp=True) as redis:
        with redis.client() as client:
            client.acl_setuser(
                "app", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"]
            )
        url = f"redis://app:{PASSWORD}@127.0.0.1:{redis.port}/0"

        assert told(Settings(redis_url=url, secret_key_file=keys))["Redis password"] == "warning"

        with redis.client() as client:
            client.acl_setuser("default", enabled=False)
        assert told(Settings(redis_url=url, secret_key_file=keys))["Redis password"] == "ok"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"redis_url": f"http://:{PASSWORD}@redis.example/0"}, "redis"),
        ({"redis_url": f"redis://:{PASSWORD}@redis.example:port/0"}, "redis"),
        ({"database_url": f"nonsense:{PASSWORD}@"}, "database"),
        ({"database_url": f"postgresql+psycopg://u:{PASSWORD}@db.example:port/x"}, "database"),
        ({"database_url": f"postgres://u:{PASSWORD}@db.example/x"}, "database"),
    ],
)
def test_address_that_is_none_is_refused_with_the_rest_looked_at(
    more: dict[str, str], name: str, keys: str
) -> None:
    found = check_config(Settings(**{"secret_key_file": keys, **more}))  # type: ignore[arg-type]

    assert {"account", "secret key"} <= {one.name for one in found}
    (refused,) = [one for one in found if one.name == name]
    assert refused.result == "refused"
    assert refused.hint
    assert PASSWORD not in str(found)


def test_nothing_is_there(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        database_url="postgresql+psycopg://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
        secret_key_file=keys,
    )
    assert {"Redis": "refused", "database": "refused"}.items() <= told(settings).items()

    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    answer = CliRunner().invoke(command, [])
    assert answer.exit_code == 1
    assert "REFUSED  Redis: it does not answer" in answer.output


def test_whatever_is_refused_says_what_to_do(keys: str, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff" * 30)
    for settings in (
        Settings(),
        Settings(redis_url="redis://127.0.0.1:1/0", secrets_dir=nowhere, secret_key_file=nowhere),
        Settings(flower_password_file=nowhere, metrics_token_file=nowhere, secret_key_file=keys),
        Settings(flower_password_file=str(tmp_path / "binary"), receipt_key_file=nowhere),
    ):
        refused = [one for one in check_config(settings) if one.result == "refused"]
        assert refused
        assert [one for one in refused if not one.hint] == []


def test_database_that_answers_before_it_has_written(keys: str) -> None:
    with PostgresServer(settings={"synchronous_commit": "off"}) as server:
        database = made(server.fresh_database())

        found = told(Settings(database_url=database, redis_url="", secret_key_file=keys))

    assert found["database durability"] == "refused"
    assert found["Redis"] == "refused", "none is named"


def test_database_without_tables(keys: str, postgres: PostgresServer) -> None:
    settings = Settings(database_url=postgres.fresh_database(), secret_key_file=keys)

    (found,) = [one for one in check_config(settings) if one.name == "database"]

    assert (found.result, found.hint) == ("refused", "run `transship db upgrade`")


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"testing": True, "without": "readback"}, "test switches"),
        ({"secret_key_file": ""}, "secret key"),
        ({"metrics_listen": "0.0.0.0:9400"}, "metrics listen"),
    ],
)
def test_settings_that_are_refused(more: dict[str, object], name: str, keys: str) -> None:
    settings = Settings(**{"secret_key_file": keys, **more})  # type: ignore[arg-type]

    assert told(settings)[name] == "refused"


@pytest.mark.parametrize(
    ("content", "mode", "result"),
    [
        ("hunter2", 0o600, "refused"),
        ("aaaaaaaaaaaaaaaa", 0o600, "refused"),
        ("q8Zr0x-TuP41mm", 0o644, "refused"),
        ("q8Zr0x-TuP41mm", 0o600, "ok"),
    ],
)
def test_flowers_password(content: str, mode: int, result: str, keys: str, tmp_path: Path) -> None:
    file = tmp_path / "flower"
    file.write_text(content)
    file.chmod(mode)

    found = told(Settings(secret_key_file=keys, flower_password_file=str(file)))

    assert found["Flower's password"] == result


@pytest.mark.parametrize(
    ("mode", "whole", "result"),
    [(0o600, True, "ok"), (0o604, True, "refused"), (0o600, False, "refused")],
)
def test_key_that_signs_receipts(
    mode: int, whole: bool, result: str, keys: str, tmp_path: Path
) -> None:
    """Who reads it signs receipts in this instance's name."""
    file = tmp_path / "receipt.pem"
    words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(file)]
    subprocess.run(words, check=True, capture_output=True)
    if not whole:
        file.write_bytes(file.read_bytes()[:40])
    file.chmod(mode)

    found = told(Settings(secret_key_file=keys, receipt_key_file=str(file)))

    assert found["receipt key"] == result


def test_key_that_all_may_read(keys: str) -> None:
    Path(keys).chmod(0o604)

    assert told(Settings(secret_key_file=keys))["secret key"] == "refused"
