"""One gateway: `python -m api.gateway.main` (the transship command runs it). Settings come from the environment."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from api.gateway.login import Login
from api.gateway.routes import Routes
from api.gateway.server import Server
from api.schemas.gateway import read_gateway
from service.bootstrap import Services
from service.errors import InvalidConfiguration, StoreUnavailable, TransshipError
from service.model.gateway import GatewayConfig
from service.model.pull_token import PullKeys
from service.registry.pulls import PULL_TIMEOUTS
from service.replication.borders import BorderGuard
from service.replication.clients import Clients
from service.replication.gateway.blobs import Blobs
from service.replication.gateway.cache import BlobCache
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.images import Images
from service.replication.gateway.memory import Memory
from service.replication.gateway.names import Names
from service.replication.gateway.nudges import Nudges
from service.replication.gateway.places import Places
from service.replication.gateway.reading import Reading
from service.replication.gateway.steady import (
    RecentRegistries,
    RecentRules,
    SteadyRegistries,
    StoreGate,
)
from service.replication.locate import Locator
from service.settings import Settings
from service.store.pulled import PulledStore
from service.store.schema import check_schema
from service.telemetry import configure_logging, get_logger

log = get_logger("gateway")

REVOKED = "revoked"


class Gateway:
    """All that one process serves with; nothing of it is shared with another."""

    def __init__(self, settings: Settings, config: GatewayConfig) -> None:
        """Open the process's own files, and listen. Raises InvalidConfiguration."""
        self.services = Services(settings)
        self.figures = GatewayFigures()
        self._gate = StoreGate()
        self.figures.store_away.set_function(lambda: float(self._gate.is_away))
        self._scratch = None if settings.gateway_dir else tempfile.mkdtemp(prefix="transship-gw-")
        folder = Path(self._scratch or settings.gateway_dir)
        self.memory = Memory(folder)
        database, keyring = self.services.database, self.services.keyring
        registries = SteadyRegistries(database, keyring, self.memory, self._gate)
        self.names = Names(config, registries, self.figures)
        self.clients = Clients(
            registries,
            settings,
            self.services.meter,
            self.services.limiters,
            timeouts=PULL_TIMEOUTS,
        )
        locator = Locator(RecentRegistries(database, keyring), RecentRules(database), self.clients)
        guard = BorderGuard(settings, self.services.regions, self.clients)
        places = Places(
            config, locator, self.services.links, self.clients, self._gate, guard, settings.region
        )
        self.nudges = Nudges(
            self.services.rules, self.services.executions, self._gate, self.figures
        )
        reading = Reading(
            self.clients, self.memory, places, PulledStore(database), self._gate, self.figures
        )
        images = Images(reading, self.nudges)
        most = settings.gateway_cache_bytes if settings.gateway_dir else 0
        cache = BlobCache(folder, most)
        keys = None if keyring is None else PullKeys(keyring.every)
        self._tokens = self.services.pull_tokens
        self.login = Login(config, keys, self._revoked, self._remembered())
        self.routes = Routes(
            config,
            self.login,
            images,
            Blobs(config, images, cache, self.figures),
            self.figures,
            self.names,
        )
        host, _, port = settings.gateway_listen.rpartition(":")
        try:
            self.server = Server(
                (host, int(port)), self.routes, self.figures, settings.gateway_connections
            )
        except (OSError, ValueError) as error:
            raise InvalidConfiguration(
                f"TRANSSHIP_GATEWAY_LISTEN={settings.gateway_listen!r} cannot be listened on: {error}",
                field="TRANSSHIP_GATEWAY_LISTEN",
                hint="name HOST:PORT of this machine that nothing listens on",
            ) from None

    def start(self) -> None:
        """Begin to serve.

        Raises InvalidConfiguration for a database of another version, and where none of its names has a registry or
        had one before; while the database does not answer neither can be told.
        """
        with suppress(StoreUnavailable):
            self._gate.ask(lambda: check_schema(self.services.database))
        self.names.start()
        self.login.start()
        self.server.start()

    def close(self, seconds: float) -> None:
        """Let pulls that run end, for so long, and close."""
        self.routes.ready = False
        if not self.server.drain(seconds):
            log.warning("pulls_cut", reason="they did not end within TRANSSHIP_DRAIN_SECONDS")
        self.nudges.close()
        self.names.close()
        self.login.close()
        self.memory.close()
        self.clients.close()
        self.services.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _remembered(self) -> Iterable[str]:
        value = self.memory.fact(REVOKED)
        return [] if value is None else json.loads(value)

    def _revoked(self) -> Iterable[str]:
        """Return the revoked tokens as SQL says, or said last."""
        try:
            found = self._gate.ask(self._tokens.revoked)
        except (StoreUnavailable, InvalidConfiguration):
            return self._remembered()
        self.memory.remember_fact(REVOKED, json.dumps(sorted(found)).encode())
        return found


def run(settings: Settings) -> int:
    """Serve until SIGTERM; returns the exit code. Raises InvalidConfiguration."""
    if not settings.gateway_file:
        raise InvalidConfiguration(
            "there is no file that says what the gateway serves",
            field="TRANSSHIP_GATEWAY_FILE",
            hint="name one: transship gateway --file transship.yaml",
        )
    gateway = Gateway(settings, read_gateway(settings.gateway_file))
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    end_metrics = None
    if settings.metrics_listen:
        from service.replication.metrics_server import read_token, serve

        end_metrics = serve(
            gateway.figures.registry,
            settings.metrics_listen,
            read_token(settings.metrics_token_file),
        )
    gateway.start()
    log.info("gateway_serves", port=gateway.server.port, region=settings.region)
    stop.wait()
    gateway.close(settings.drain_seconds)
    if end_metrics is not None:
        end_metrics()
    return 0


def main() -> int:
    """Run one process; settings come from the environment."""
    gc.set_threshold(20_000)
    try:
        settings = Settings.from_env()
        configure_logging(settings.log_level)
        return run(settings)
    except TransshipError as error:
        sys.stderr.write(f"transship: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  {error.hint}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
