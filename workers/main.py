"""Processes of the queue: `python -m workers.main worker|scheduler` (the transship command runs them)."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from types import FrameType

from service.errors import TransshipError
from service.settings import Settings
from service.telemetry import configure_logging, get_logger

log = get_logger("main")

GARBAGE = 20_000
"""Objects between two looks for garbage. What a start loads is none: looking at it 200 times takes 50 ms."""


def run_worker(settings: Settings, region: str, *, urgent_only: bool = False) -> int:
    """Serve a region's queues until SIGTERM; returns the exit code.

    `urgent_only`: keep the slots free for what somebody waits for, and for commits.
    """
    from celery.signals import worker_shutting_down

    from workers import process, queues
    from workers.app import make_app
    from workers.breadth import breadth_step
    from workers.far_region import FarRegion, outlying
    from workers.lease import Lease
    from workers.reconnect import reconnect_step
    from workers.tasks import copies, deletions, examinations, executions, health, releases

    settings = outlying(settings, region)
    app = make_app(settings, [region])
    for module in (copies, deletions, examinations, executions, health, releases):
        module.register(app)
    app.finalize()
    app.steps["consumer"].add(Lease)
    opened = process.open_process(settings, region, urgent_only=urgent_only)
    slots = settings.urgent_slots if urgent_only else settings.worker_slots
    far_slots = slots if urgent_only else max(slots, settings.far_slots)
    app.steps["consumer"].add(breadth_step(slots, far_slots, opened.is_far, opened.is_blind))
    app.steps["consumer"].add(reconnect_step(opened.doubt_the_queue))

    @worker_shutting_down.connect(weak=False)
    def _drain(**_kwargs: object) -> None:
        opened.drain()

    opened.start()
    far = FarRegion(opened.services) if settings.agent_dir and not urgent_only else None
    if far is not None:
        far.start()
    try:
        worker = app.Worker(
            pool_cls="threads",
            concurrency=far_slots,
            queues=queues.served_by(region, urgent_only=urgent_only),
            hostname=f"{'urgent' if urgent_only else 'copy'}.{region}@{os.uname().nodename}-{os.getpid()}",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not settings.task_events,
            loglevel=settings.log_level,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        if far is not None:
            far.close()
        opened.close()


def run_scheduler(settings: Settings) -> int:
    """Drive due rules, windows and reconciliation until SIGTERM; returns the exit code."""
    from service import tracing
    from service.bootstrap import open_services
    from service.replication.heartbeat import Heartbeat
    from workers.signatures import QueuePublisher

    services = open_services(settings)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    heartbeat = Heartbeat(
        settings, services.state, services.boot, kind="scheduler", region=settings.region
    )
    heartbeat.start()
    publisher = QueuePublisher(services.redis)
    end_traces = tracing.start(settings, "scheduler")
    watched = None
    if settings.metrics_listen:
        from workers.scheduler_metrics import SchedulerMetrics

        watched = SchedulerMetrics(services, publisher.depths)
    keepers = services.keepers(publisher)
    for keeper in keepers:
        keeper.start()
    notifier = threading.Thread(target=services.notifier().run, args=(stop,), name="notify")
    notifier.start()
    if watched is None:
        services.drive(publisher, events=services.events).run(stop)
    else:
        driver = services.drive(publisher, events=services.events, tally=watched.tally)
        with watched.serving(driver):
            driver.run(stop)
    notifier.join()
    for keeper in keepers:
        keeper.stop()
    heartbeat.stop()
    end_traces()
    services.close()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one process; settings come from the environment."""
    words = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(GARBAGE)
    try:
        settings = Settings.from_env()
        configure_logging(settings.log_level)
        match words:
            case ["worker"]:
                return run_worker(settings, settings.region)
            case ["worker", "--region", region]:
                return run_worker(settings, region)
            case ["worker", "--region", region, "--urgent"]:
                return run_worker(settings, region, urgent_only=True)
            case ["scheduler"]:
                return run_scheduler(settings)
            case _:
                sys.stderr.write(
                    "usage: python -m workers.main worker [--region R [--urgent]] | scheduler\n"
                )
                return 2
    except TransshipError as error:
        sys.stderr.write(f"transship: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  {error.hint}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
