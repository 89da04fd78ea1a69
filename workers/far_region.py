"""A region that is far from the database at home: it brings one of its own, and an agent (docs/adr/0017)."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.bootstrap import Services
from service.errors import InvalidConfiguration
from service.home import HttpHome, check_address
from service.replication.agent import Agent
from service.settings import Settings
from service.telemetry import get_logger
from workers.signatures import QueuePublisher

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LEASE = "agent"
LEASE_SECONDS = 20.0
"""Longer than an answer is waited for: whoever leads is asked again when it is there."""

if TYPE_CHECKING:
    from service.store.database import Database

log = get_logger("far_region")


def outlying(settings: Settings, region: str) -> Settings:
    """Return the settings of a far region's processes: its own database and key, made when they are missing.

    Raises InvalidConfiguration for what does not go together.
    """
    if not settings.agent_dir:
        return settings
    if settings.database_url:
        raise InvalidConfiguration(
            "TRANSSHIP_AGENT_DIR and TRANSSHIP_DATABASE_URL are both set",
            field="TRANSSHIP_AGENT_DIR",
            hint="a far region has a database of its own in TRANSSHIP_AGENT_DIR: unset the other",
        )
    for name, value in (("TRANSSHIP_URL", settings.url), ("TRANSSHIP_TOKEN", settings.token)):
        if not value:
            raise InvalidConfiguration(
                f"TRANSSHIP_AGENT_DIR is set and {name} is not",
                field=name,
                hint=f"transship tokens create {region} --role agent --region {region}, at home",
            )
    check_address(settings.url)
    folder = Path(settings.agent_dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = folder / "secret.key"
    if not settings.secret_key_file:
        _make_key(key)
    own = replace(
        settings,
        region=region,
        database_url=f"sqlite:///{folder.resolve()}/region-{region}.db",
        secret_key_file=settings.secret_key_file or str(key),
    )
    from service.store.database import Database
    from service.store.schema import create_or_upgrade

    database = Database(own.database_url)
    create_or_upgrade(database)
    _forget_lease_of_another_boot(folder, database)
    database.close()
    return own


def _forget_lease_of_another_boot(folder: Path, database: Database) -> None:
    """End a lease that was measured before the machine was booted, or on another one: its clock began anew."""
    from service.store.borrowing import end_lease

    boot = BOOT_ID.read_text().strip()
    note = folder / "boot"
    if not note.is_file() or note.read_text() != boot:
        end_lease(database)
        note.write_text(boot)


def _make_key(path: Path) -> None:
    """Make a key that only its owner can read; whoever comes second finds the first one's."""
    from cryptography.fernet import Fernet

    beside = path.with_suffix(f".{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
    try:
        os.link(beside, path)
    except FileExistsError:
        log.debug("key_is_there", path=str(path))
    finally:
        beside.unlink()


class FarRegion:
    """The threads that stand in for the home's scheduler here, and its agent."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stop = threading.Event()
        self._home = HttpHome(services.settings)
        dispatching = services.dispatching
        region = services.settings.region
        publisher = QueuePublisher(services.redis)
        agent = Agent(
            services.borrowing,
            self._home,
            lambda: dispatching.slots().get(region, 0),
            lambda: dispatching.lead(LEASE, services.boot, LEASE_SECONDS),
            examine=lambda identity: publisher.examine(region, identity),
            tags_per_task=services.settings.tags_per_task,
        )
        drive = services.drive(publisher, plans=False, ends=False)
        self._threads = [
            threading.Thread(target=agent.run, args=(self._stop,), name="agent", daemon=True),
            threading.Thread(target=drive.run, args=(self._stop,), name="drive", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End; what home has not heard is told by whoever comes next."""
        self._stop.set()
        for thread in self._threads:
            thread.join(LEASE_SECONDS)
        self._services.dispatching.resign(LEASE, self._services.boot)
        self._home.close()
