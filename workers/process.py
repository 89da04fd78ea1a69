"""One worker process's services, shared by its task threads: opened at start, closed at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from redis.exceptions import RedisError

from service import tracing
from service.bootstrap import Services, open_services
from service.errors import StoreUnavailable
from service.replication.engine import Engine
from service.replication.heartbeat import Heartbeat
from service.replication.side_by_side import FAR_SECONDS
from service.settings import Settings
from service.telemetry import get_logger
from workers.signatures import QueuePublisher

log = get_logger("worker")


class WorkerProcess:
    """Services, engine and heartbeat of a worker process."""

    def __init__(self, settings: Settings, region: str, *, urgent_only: bool) -> None:
        self.settings = settings
        # Registries are reached as from the region that is served, whatever the home region is.
        self.services: Services = open_services(replace(settings, region=region))
        self.engine: Engine = self.services.engine(QueuePublisher(self.services.redis))
        slots = settings.urgent_slots if urgent_only else settings.worker_slots
        self._heartbeat = Heartbeat(
            settings,
            self.services.state,
            self.services.boot,
            kind="urgent" if urgent_only else "worker",
            region=region,
            slots=slots,
            keep_alive=self.services.claims.keep_alive,
            held=self.engine.holding.ids,
        )
        self._slots = slots
        self.plannings = threading.BoundedSemaphore(max(1, slots // 2))
        self._ended = threading.Event()
        self._end_metrics: Callable[[], None] | None = None
        self._end_traces: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to report."""
        if self.engine.metrics is not None:
            from service.replication.metrics_server import read_token, serve
            from service.replication.process_metrics import ProcessFigures

            registry, settings = self.engine.metrics.registry, self.settings
            registry.register(
                ProcessFigures(self.services.limiters, self.engine.holding.ids, self._slots)
            )
            token = read_token(settings.metrics_token_file)
            self._end_metrics = serve(registry, settings.metrics_listen, token)
        self._end_traces = tracing.start(self.settings, "worker")
        self._heartbeat.start()

    def is_blind(self) -> bool:
        """Whether SQL is away for this process."""
        return self._heartbeat.is_blind()

    def is_far(self) -> bool:
        """Whether a registry that is asked now lets this process wait for its answers."""
        return self.services.clients.answers_within() >= FAR_SECONDS

    def doubt_the_queue(self) -> None:
        """Have the reconciler send again what nobody holds: messages may be lost."""
        try:
            self.services.claims.forget_epoch()
        except RedisError as error:  # the consumer loses this connection, too, and comes back here
            log.info("queue_still_away", error=f"{type(error).__name__}: {error}")

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take a message: when SQL is away before its work is begun, nobody has it (F100)."""
        try:
            yield
        except StoreUnavailable:
            self.doubt_the_queue()
            raise

    def drain(self) -> None:
        """Give running tasks a grace, then have them let go of their copies."""

        def later() -> None:
            self._ended.wait(self.settings.drain_seconds)
            self.engine.draining.set()

        threading.Thread(target=later, name="drain", daemon=True).start()

    def close(self) -> None:
        """Stop to report, and give claims up at once."""
        self._ended.set()
        self.engine.draining.set()
        self._heartbeat.stop()
        if self._end_metrics is not None:
            self._end_metrics()
        if self._end_traces is not None:
            self._end_traces()
        try:
            self.services.claims.bury(self.services.boot)
        except RedisError:
            log.info("claims_left_to_lapse")
        self.services.close()


_process: WorkerProcess | None = None


def open_process(settings: Settings, region: str, *, urgent_only: bool) -> WorkerProcess:
    """Open this process's services; called once, before the first task."""
    global _process  # noqa: PLW0603 - Celery's tasks are functions: this is their one shared place
    _process = WorkerProcess(settings, region, urgent_only=urgent_only)
    return _process


def current() -> WorkerProcess:
    """Return this process's services."""
    if _process is None:
        raise RuntimeError("the worker process is not open")
    return _process
