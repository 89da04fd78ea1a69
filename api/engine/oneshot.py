"""One job on this machine: the same engine for as long as the job lasts, planned while workers start."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.engine.machine import Machine
from api.engine.purposes import Purpose
from service.bootstrap import Services
from service.errors import Conflict, EngineError, StoreUnavailable
from service.model.endpoint import RegistryEndpoint
from service.model.project import Project
from service.model.region import Link, Region
from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, ExecutionState
from service.replication.heartbeat import Heartbeat
from service.replication.plan import Planner
from service.replication.side_by_side import FAR_SECONDS
from service.store.executions import ExecutionRecord, ExecutionStore, Totals
from service.store.planning import PlanStore
from service.store.standing import Retry
from service.telemetry import get_logger
from workers.signatures import QueuePublisher

LOOK_SECONDS = 0.1
"""How often the end of executions is looked for: here somebody waits for the prompt."""

WATCH_SECONDS = 0.25
PLAN_SECONDS = 0.05

RETRIES_SECONDS = 1.0
"""How often copies that are tried again are looked for."""

FILE_SET = "transship-file"
"""The set of regions and links that a file of such a command has made."""

EVERY = 1_000_000

DELETES_NOTHING = "a command without a server deletes nothing; `transship up` and a fleet do"
log = get_logger("oneshot")


@dataclass(frozen=True, slots=True)
class Job:
    """What to carry out once, and between which registries."""

    registries: Sequence[RegistryEndpoint]
    rules: Sequence[SyncRule]
    documents: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    projects: Sequence[Project] = ()
    regions: Sequence[Region] = ()
    links: Sequence[Link] = ()
    of_a_file: bool = False
    """Regions and links that an earlier file had, and this one lacks, are forgotten."""


Watch = Callable[[list[ExecutionRecord], Totals, Sequence[Retry]], None]
"""Is told how far executions are, and of copies that are tried again."""


def run(
    job: Job,
    purpose: Purpose,
    *,
    data: Path | None,
    workers: int = 1,
    watch: Watch | None = None,
    interrupted: threading.Event | None = None,
) -> dict[str, Any]:
    """Carry the job out and return its report.

    When `interrupted` is set, the executions are stopped and the report says so. Raises EngineError
    when the engine cannot start.
    """
    began = time.monotonic()
    machine = Machine(data, command=purpose.command, alone=True)
    stop = threading.Event()
    finished = False
    try:
        machine.start()
        services = machine.services
        needs = _Needs(workers, early=purpose.copies)
        heartbeat = Heartbeat(
            machine.settings,
            services.state,
            services.boot,
            kind="command",
            region=machine.settings.region,
        )
        heartbeat.start()
        _save(job, machine)
        _stop_earlier(machine)
        begun = [purpose.begin(services, rule) for rule in job.rules]
        for rule, identity in zip(job.rules, begun, strict=True):
            if rule.delete.enabled:
                services.plans.warn(identity, f"rule {rule.name}: {DELETES_NOTHING}")
        publisher = QueuePublisher(services.redis)
        drive = services.drive(
            publisher,
            starved=needs.starved,
            plans=False,
            look_seconds=LOOK_SECONDS,
            on_end=needs.ended,
        )
        driving = threading.Thread(
            target=drive.run, args=(stop,), kwargs={"hurried": True}, name="drive"
        )
        driving.start()
        needs.planned = drive.hurry
        try:
            _to_the_end(machine, begun, stop, needs, watch, interrupted)
            followed = purpose.follow(services, begun)
            if followed and not (interrupted is not None and interrupted.is_set()):
                _to_the_end(machine, followed, stop, needs, watch, interrupted)
        finally:
            stop.set()
            drive.hurry()
            driving.join()
            heartbeat.stop()
        finished = not _stopped(services.executions, [*begun, *followed])
        return purpose.sum_up(services, begun, followed, time.monotonic() - began)
    finally:
        machine.stop(finished=finished)


class _Needs:
    """What the drive's thread has for the main one, which starts the workers.

    They are started when planning has found the first copies: most runs find nothing changed. Where
    registries are far, they are started at once (`early`): planning does nothing but wait for answers.
    (A process dies with the thread that started it, and the drive's ends first.)
    """

    def __init__(self, workers: int, *, early: bool) -> None:
        self._to_start = workers
        self._early = early
        self._wanted = False
        self._news = threading.Event()
        self.planned: Callable[[], None] = lambda: None
        """Is called when something has been planned: the drive need not wait for its next look."""

    def starved(self, _region: str) -> None:
        """Have the workers started: copies wait, and nobody is there to carry them out."""
        if not self._wanted:
            self._wanted = True
            self._news.set()

    def ended(self, _ended: object) -> None:
        """Have the main thread look: an execution has ended."""
        self._news.set()

    def wait(self, machine: Machine) -> None:
        """Wait a moment, or for news; start the workers once they are wanted."""
        self._news.wait(WATCH_SECONDS)
        self._news.clear()
        if self._early and machine.services.clients.answers_within() >= FAR_SECONDS:
            self._wanted = True
        self.start_wanted(machine)

    def start_wanted(self, machine: Machine) -> None:
        """Start the workers, once, as soon as they are wanted."""
        if self._wanted and self._to_start:
            count, self._to_start = self._to_start, 0
            machine.start_workers(count)


def _stopped(executions: ExecutionStore, identities: Sequence[str]) -> bool:
    """Whether one was stopped: its workers may still be in an upload that is to be given up."""
    return any(executions.get(one).state is ExecutionState.STOPPED for one in identities)


def _to_the_end(
    machine: Machine,
    identities: Sequence[str],
    stop: threading.Event,
    needs: _Needs,
    watch: Watch | None,
    interrupted: threading.Event | None,
) -> None:
    """Plan executions here and wait for their end."""
    services = machine.services
    planning = threading.Thread(
        target=plan_here,
        args=(
            services.executions,
            services.plans,
            services.planner,
            services.boot,
            identities,
            stop,
            needs.planned,
        ),
        name="plan",
    )
    planning.start()
    try:
        _watch(machine, identities, needs, watch, interrupted, planning)
    except BaseException:
        stop.set()
        raise
    finally:
        planning.join()


def _save(job: Job, machine: Machine) -> None:
    services = machine.services
    save_regions(job, services)
    for endpoint in job.registries:
        stored = services.registries.put(
            endpoint,
            document=job.documents.get(("registries", endpoint.name), {}),
            secret=job.secrets.get(endpoint.name),
        )
        if stored.health is not None and stored.health.holds:  # nobody checks here, and lets it go
            services.pauses.resume_registry(endpoint.name)
    for project in job.projects:
        document = job.documents.get(("projects", project.name), {})
        services.projects.put(project, document=document)
    for rule in job.rules:
        services.rules.put(rule, document=job.documents.get(("rules", rule.name), {}))


def save_regions(job: Job, services: Services) -> None:
    """Have the regions and links of the job there, and none that an earlier file has left.

    What a service on the same data owns is left alone: whatever is made here belongs to FILE_SET.
    """
    if not job.of_a_file:
        return
    regions = {stored.region.name: stored.set for stored in services.regions.list(limit=EVERY)}
    links = {stored.link.name: stored.set for stored in services.links.list(limit=EVERY)}
    for region in job.regions:
        owner = None if regions.get(region.name, FILE_SET) != FILE_SET else FILE_SET
        document = job.documents.get(("regions", region.name), {})
        services.regions.put(region, document=document, set_name=owner)
    for link in job.links:
        owner = None if links.get(link.name, FILE_SET) != FILE_SET else FILE_SET
        document = job.documents.get(("links", link.name), {})
        services.links.put(link, document=document, set_name=owner)
    for name in links.keys() - {link.name for link in job.links}:
        if links[name] == FILE_SET:
            services.links.delete(name)
    for name in regions.keys() - {region.name for region in job.regions}:
        if regions[name] == FILE_SET:
            with contextlib.suppress(Conflict):  # a service's link leads there
                services.regions.delete(name, in_use=True)


def _stop_earlier(machine: Machine) -> None:
    """End what a killed run on this data left open; what it proved and committed stays known."""
    executions = machine.services.executions
    for record in executions.list(limit=1000):
        if record.state not in ENDED_EXECUTIONS:
            executions.request_stop(record.id)
    machine.services.dispatching.end_executions()


def plan_here(
    executions: ExecutionStore,
    plans: PlanStore,
    planner: Planner,
    boot: str,
    identities: Sequence[str],
    stop: threading.Event,
    planned: Callable[[], None] = lambda: None,
) -> None:
    """Plan each execution here, while the workers start; a postponed one is planned again.

    `planned` is called after each.

    Returns when all are planned or `stop` is set. Whatever goes wrong is written on the execution,
    as soon as SQL takes it.
    """
    waiting = list(identities)
    broken: dict[str, str] = {}
    while waiting and not stop.is_set():
        moved = False
        for identity in list(waiting):
            try:
                record = executions.get(identity)
                if record.planned or record.state in ENDED_EXECUTIONS:
                    waiting.remove(identity)
                elif identity in broken:
                    plans.fail(identity, reason=broken[identity], failure_class="bug")
                elif plans.due(identity):
                    moved = planner.plan(identity, boot, stop=stop) or moved
                    planned()
            except StoreUnavailable as error:
                log.warning("planning_waits_for_sql", execution=identity, error=str(error))
            except Exception as error:
                log.exception("planning_broke", execution=identity)
                broken[identity] = f"{type(error).__name__}: {error}"
        if waiting and not moved:
            stop.wait(PLAN_SECONDS)


def unplanned(records: Iterable[ExecutionRecord]) -> bool:
    """Whether one of them still waits for its planning."""
    return any(not r.planned and r.state not in ENDED_EXECUTIONS for r in records)


def _watch(
    machine: Machine,
    identities: Sequence[str],
    needs: _Needs,
    watch: Watch | None,
    interrupted: threading.Event | None,
    planning: threading.Thread,
) -> None:
    executions = machine.services.executions
    stopped = False
    retries: list[Retry] = []
    look_at = time.monotonic() + RETRIES_SECONDS
    while True:
        records = [executions.get(identity) for identity in identities]
        if watch is not None:
            open_ones = [one.id for one in records if one.state not in ENDED_EXECUTIONS]
            if not open_ones:
                retries = []
            elif time.monotonic() >= look_at:
                retries = [r for one in open_ones for r in machine.services.standing.retries(one)]
                look_at = time.monotonic() + RETRIES_SECONDS
            watch(records, executions.totals_by_destination(identities).get("", Totals()), retries)
        if all(record.state in ENDED_EXECUTIONS for record in records):
            return
        if (
            unplanned(records)
            and not planning.is_alive()
            and unplanned(executions.get(one) for one in identities)
        ):
            raise EngineError("planning ended before everything was planned")
        failing = machine.children.failing()
        if failing is not None:
            raise EngineError(
                f"{failing.name} dies again and again: {failing.last_words()}",
                hint="run again with --data DIR and look at its log in DIR/logs",
            )
        if interrupted is not None and interrupted.is_set() and not stopped:
            stopped = True
            for identity in identities:
                executions.request_stop(identity)
        needs.wait(machine)
