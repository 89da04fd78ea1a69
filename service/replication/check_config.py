"""Whether this process's settings, its Redis and its database are fit for a fleet (reliability.md 2.6, S2, S3, S12)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import ConnectionPool, Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from service.errors import InvalidConfiguration, TransshipError
from service.model.receipt_signature import ReceiptKey
from service.replication.metrics_server import is_loopback, read_token
from service.settings import Settings
from service.store.database import Database
from service.store.durability import server_facts
from service.store.keyring import KeyRing
from service.store.schema import check_schema

OK, WARNING, REFUSED = "ok", "warning", "refused"
MIN_REDIS = (6, 2)
SHORTEST_PASSWORD = 12


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its name, what came of it, why, and what to do."""

    name: str
    result: str  # ok | warning | refused
    detail: str
    hint: str = ""


def check_config(settings: Settings) -> list[Check]:
    """Look at all of it; what cannot be asked is refused with the reason. Writes nothing."""
    groups: tuple[Callable[[Settings], Iterator[Check]], ...] = (
        _tests,
        _secret_key,
        _receipt_key,
        _folders,
        _passwords,
        _listeners,
        _redis,
        _database,
        _account,
    )
    return [one for group in groups for one in _whole(group, settings)]


def _whole(group: Callable[[Settings], Iterator[Check]], settings: Settings) -> Iterator[Check]:
    """Yield a group's checks; what it breaks at, such as an address that is none, is refused like the rest."""
    try:
        yield from group(settings)
    except Exception as error:  # noqa: BLE001 - the other groups are looked at whatever it is
        what = f"cannot be looked at: {type(error).__name__}: {error}"
        yield Check(group.__name__.strip("_"), REFUSED, what, "check how it is written")


def _tests(settings: Settings) -> Iterator[Check]:
    on = [name for name in ("testing", "crash", "without") if getattr(settings, name)]
    if on:
        names = ", ".join(f"TRANSSHIP_{name.upper()}" for name in on)
        yield Check("test switches", REFUSED, f"{names} set", "unset them: they are for our tests")
    else:
        yield Check("test switches", OK, "none is set")


def _secret_key(settings: Settings) -> Iterator[Check]:
    name = "secret key"
    if not settings.secret_key_file:
        hint = "make one: python -m api.fleet_setup files FOLDER"
        yield Check(name, REFUSED, "TRANSSHIP_SECRET_KEY_FILE is not set", hint)
        return
    try:
        KeyRing.from_file(settings.secret_key_file)
    except InvalidConfiguration as error:
        hint = error.hint or _readable(settings.secret_key_file)
        yield Check(name, REFUSED, error.message, hint)
        return
    yield _kept_from_others(name, settings.secret_key_file)


def _receipt_key(settings: Settings) -> Iterator[Check]:
    name = "receipt key"
    if not settings.receipt_key_file:
        return
    try:
        ReceiptKey.from_file(settings.receipt_key_file)
    except InvalidConfiguration as error:
        hint = error.hint or _readable(settings.receipt_key_file)
        yield Check(name, REFUSED, error.message, hint)
        return
    yield _kept_from_others(name, settings.receipt_key_file)


def _folders(settings: Settings) -> Iterator[Check]:
    if settings.secrets_dir:
        yield _kept_from_others("secrets folder", settings.secrets_dir)


def _passwords(settings: Settings) -> Iterator[Check]:
    if settings.flower_password_file:
        yield _strong("Flower's password", settings.flower_password_file)
    if settings.metrics_token_file:
        try:
            read_token(settings.metrics_token_file)
        except InvalidConfiguration as error:
            hint = error.hint or _readable(settings.metrics_token_file)
            yield Check("metrics token", REFUSED, error.message, hint)
        else:
            yield _kept_from_others("metrics token", settings.metrics_token_file)


def _listeners(settings: Settings) -> Iterator[Check]:
    for what, listen in (("API", settings.listen), ("Flower", settings.flower_listen)):
        host = listen.rpartition(":")[0]
        if is_loopback(host):
            yield Check(f"{what} listens", OK, f"on loopback: {listen}")
        else:
            hint = "put TLS in front of it, and let nobody reach it past that"
            yield Check(f"{what} listens", WARNING, f"in the clear on {listen}", hint)
    if settings.metrics_listen and not settings.metrics_token_file:
        if is_loopback(settings.metrics_listen.rpartition(":")[0]):
            yield Check("metrics listen", OK, f"on loopback: {settings.metrics_listen}")
        else:
            hint = "set TRANSSHIP_METRICS_TOKEN_FILE"
            yield Check("metrics listen", REFUSED, "to everybody, without a token", hint)


def _redis(settings: Settings) -> Iterator[Check]:
    if not settings.redis_url:
        yield Check("Redis", REFUSED, "TRANSSHIP_REDIS_URL is not set", "name the fleet's Redis")
        return
    url = urlsplit(settings.redis_url)
    client = _client(settings.redis_url)
    try:
        info: dict[str, Any] = client.info()
        asks = _asks_for_a_password(client)
        policy = _config_of(client, "maxmemory-policy")
        appends = _config_of(client, "appendonly")
    except Exception as error:  # noqa: BLE001 - whatever it is, Redis cannot be worked with
        what = f"it does not answer: {type(error).__name__}: {error}"
        hint = "look whether it runs, and whether TRANSSHIP_REDIS_URL names it, with its password"
        yield Check("Redis", REFUSED, what, hint)
        return
    finally:
        client.close()
    version = str(info.get("redis_version", "0"))
    old = tuple(map(int, version.split(".")[:2])) < MIN_REDIS
    yield Check(
        "Redis", REFUSED if old else OK, f"version {version}", "6.2 or newer" if old else ""
    )
    local = url.scheme == "unix" or is_loopback(url.hostname or "")
    if asks:
        yield Check("Redis password", OK, "it asks for one")
    else:
        hint = "set requirepass or an ACL: whoever writes to it can start work"
        yield Check(
            "Redis password", WARNING if local else REFUSED, "anybody may write to it", hint
        )
    if url.scheme == "redis" and not local:
        yield Check(
            "Redis transport", WARNING, "in the clear", "rediss://, or a network of its own"
        )
    if policy is None:
        yield Check(
            "Redis eviction", WARNING, "it does not say (CONFIG is not allowed)", "noeviction"
        )
    elif policy == "noeviction":
        yield Check("Redis eviction", OK, policy)
    else:
        hint = "maxmemory-policy noeviction: a message or claim that is thrown away costs half a minute"
        yield Check("Redis eviction", REFUSED, policy, hint)
    if appends == "no":
        hint = "appendonly yes: nothing is lost without it, but all is sent again after a restart"
        yield Check("Redis persistence", WARNING, "appendonly no", hint)
    elif appends is not None:
        yield Check("Redis persistence", OK, f"appendonly {appends}")


def _client(address: str) -> Any:
    return Redis.from_url(
        address, socket_timeout=5, socket_connect_timeout=5, decode_responses=True
    )


def _asks_for_a_password(client: Any) -> bool:
    """Whether somebody who shows neither name nor password is turned away."""
    pool = client.connection_pool
    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in ("username", "password")
    }
    bare: Any = Redis(
        connection_pool=ConnectionPool(connection_class=pool.connection_class, **options)
    )
    try:
        bare.ping()
    except (AuthenticationError, NoPermissionError):
        return True
    finally:
        bare.connection_pool.disconnect()
    return False


def _config_of(client: Any, name: str) -> str | None:
    try:
        found: dict[str, str] = client.config_get(name)
    except Exception:  # noqa: BLE001 - an ACL, or a service that has no CONFIG
        return None
    return found.get(name)


def _database(settings: Settings) -> Iterator[Check]:
    if not settings.database_url:
        hint = "name the fleet's PostgreSQL: postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        yield Check("database", REFUSED, "TRANSSHIP_DATABASE_URL is not set", hint)
        return
    database = Database(settings.database_url)
    try:
        check_schema(database)
        yield Check("database schema", OK, "as this version needs it")
        if database.is_sqlite:
            hint = "PostgreSQL, for a fleet: transship db move"
            yield Check("database", WARNING, "SQLite serves one machine", hint)
        else:
            yield from _postgresql(database, settings.database_url)
    except TransshipError as error:
        yield Check("database", REFUSED, error.message, error.hint)
    finally:
        database.close()


def _postgresql(database: Database, address: str) -> Iterator[Check]:
    asked = server_facts(database)
    yield Check("database", OK, f"PostgreSQL {asked['server_version']}")
    off = [f"{name} off" for name in ("fsync", "full_page_writes") if asked[name] == "off"]
    if asked["synchronous_commit"] in ("off", "local"):
        off.append(f"synchronous_commit {asked['synchronous_commit']}")
    if off:
        yield Check(
            "database durability", REFUSED, ", ".join(off), "what was answered could be lost"
        )
    else:
        yield Check("database durability", OK, "commits are on the disk")
    url = urlsplit(address)
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[0]
    if url.hostname and not is_loopback(url.hostname) and mode not in ("verify-full", "verify-ca"):
        hint = "sslmode=verify-full in TRANSSHIP_DATABASE_URL, or a network of its own"
        yield Check("database transport", WARNING, f"sslmode={mode}", hint)


def _account(_settings: Settings) -> Iterator[Check]:
    if os.geteuid() == 0:
        yield Check("account", WARNING, "runs as root", "run it as a user of its own")
    else:
        yield Check("account", OK, "not root")


def _kept_from_others(name: str, path: str) -> Check:
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        return Check(name, REFUSED, f"{path} cannot be read: {error.strerror}", _readable(path))
    if mode & 0o007:
        return Check(name, REFUSED, f"{path} is open to all ({mode:o})", f"chmod o-rwx {path}")
    return Check(name, OK, "kept from others")


def _readable(path: str) -> str:
    return f"put it there for the account that this runs as: ls -l {path}"


def _strong(name: str, path: str) -> Check:
    try:
        password = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return Check(name, REFUSED, f"{path} cannot be read as text", _readable(path))
    if len(password) < SHORTEST_PASSWORD or len(set(password)) < SHORTEST_PASSWORD // 2:
        hint = f"{SHORTEST_PASSWORD} random characters, as from `openssl rand -base64 18`"
        return Check(name, REFUSED, "it can be guessed", hint)
    return _kept_from_others(name, path)
