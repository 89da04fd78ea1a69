"""Which of a gateway's names have a registry: asked at its start, and every few seconds from then on (issue 10)."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from service.errors import InvalidConfiguration, NotFoundInStore, StoreUnavailable
from service.model.gateway import GatewayConfig
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.steady import SteadyRegistries
from service.telemetry import get_logger

log = get_logger("gateway")

POLL_SECONDS = 5.0
HINT = "apply that registry (again), or name another one for it in the gateway's file and start the gateway anew"


class Names:
    """The entries of `gateway.names` whose registry the database does not know, as far as it answers.

    The other names are served meanwhile, and of these what the gateway knew before.
    """

    def __init__(
        self,
        config: GatewayConfig,
        registries: SteadyRegistries,
        figures: GatewayFigures,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Ask nothing yet."""
        self._config = config
        self._registries = registries
        self._poll_seconds = poll_seconds
        self._missing: Mapping[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="names", daemon=True)
        figures.names_without_registry.set_function(lambda: float(len(self._missing)))

    @property
    def missing(self) -> Mapping[str, str]:
        """Which entries have no registry: their place in the file (`gateway.names[1]`) to the registry's name."""
        return self._missing

    def start(self) -> None:
        """Ask now, and from then on.

        Raises InvalidConfiguration where nothing could be served: no entry has a registry, and none had one when this
        gateway ran before. Such is a file for another database, or one whose registries are still to be applied.
        """
        self.check()
        missing = self._missing
        none = missing and len(missing) == len(self._config.names)
        if none and not any(map(self._registries.was_known, missing.values())):
            place, registry = next(iter(missing.items()))
            raise InvalidConfiguration(
                f"{place}.registry: there is no registry named {registry}, nor any other of the gateway's names",
                field="TRANSSHIP_GATEWAY_FILE",
                hint="apply them first (transship apply -f FILE); transship registries ls says which there are",
            )
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    def check(self) -> None:
        """Ask for each registry; where the database does not answer, what it said last counts."""
        try:
            gone = {
                name
                for name in dict.fromkeys(one.registry for one in self._config.names)
                if not self._is_there(name)
            }
        except StoreUnavailable:
            return
        found = {
            f"gateway.names[{index}]": one.registry
            for index, one in enumerate(self._config.names)
            if one.registry in gone
        }
        before, self._missing = self._missing, found
        for place, registry in found.items():
            if place not in before:
                log.error("name_without_registry", entry=place, registry=registry, hint=HINT)
        for place, registry in before.items():
            if place not in found:
                log.info("name_has_registry", entry=place, registry=registry)

    def _is_there(self, registry: str) -> bool:
        try:
            self._registries.get(registry)
        except NotFoundInStore:
            return False
        return True

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.check()
            except Exception:  # a thread that ended would tell of a registry that is back for ever
                log.exception("names_not_checked")
