"""One execution under everything that a queue and processes may do: lose, repeat, reorder, die.

A hypothesis machine over real SQL, a real Redis and HTTP, without processes: tasks are messages in a list,
what happens to them is drawn, and processes die or stand still in the middle of any. Whatever was drawn,
once peace returns all copies end. One acts at a time, so that what a tag was is known exactly: it is whole
after every task, it never goes back, and who says "copied" has copied. After every fifth run the rule runs
once more in peace: each tag is the source's current one then, and the oracle reads all of it.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, case, delete, update

from service import crashpoints
from service.bootstrap import Services
from service.model.states import OPEN_COPIES, CopyState
from service.model.work import CopyRef
from service.replication.reconcile import Reconciler
from service.replication.side_by_side import SideBySide
from service.store.database import Database
from service.store.schema import WHOLE
from service.store.tables import copies, processes, registries
from tests.oracle.closure import check
from tests.oracle.counts import COUNTS
from tests.support.world import Image, Party, RecordingPublisher, World, open_world, some_bytes

T = TypeVar("T")
Name = tuple[str, str]

STEPS = 16
RUNS_BETWEEN_CLEANINGS = 20
RUNS_BETWEEN_READINGS = 5
HOUR = 3600.0
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True)
"""Which of five layers an image has."""

POINTS = tuple(
    sorted(
        point
        for point in crashpoints.POINTS
        if point.startswith(("copy.", "part.", "blob.", "commit."))
    )
)
"""Where a worker may die or stand still in the middle of a task."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Message:
    """A task on the queue: `kind` is page, part or commit."""

    kind: str
    refs: tuple[CopyRef, ...]
    part: int = 0


@dataclass
class Queue(RecordingPublisher):
    """A publisher whose messages stand in one list, from which a test takes them as it likes."""

    messages: list[Message] = field(default_factory=list)

    def replicate(self, region: str, pages: Any, *, urgent: bool) -> None:
        self.messages += [Message("page", tuple(page)) for page in pages]

    def fan_out(
        self, region: str, ref: CopyRef, task_ids: Any, labels: Any, *, urgent: bool = False
    ) -> None:
        self.messages += [Message("part", (ref,), n) for n in range(len(task_ids))]
        self.messages.append(Message("commit", (ref,)))  # it may even come before its parts

    def part(self, region: str, ref: CopyRef, part: int, task_id: str) -> None:
        self.messages.append(Message("part", (ref,), part))

    def commit(self, region: str, ref: CopyRef) -> None:
        self.messages.append(Message("commit", (ref,)))


class Died(BaseException):
    """A process that was killed in the middle of a task; nobody is to catch it."""


class Interruption:
    """Stands in the way of whoever reaches a named place of the code (service/crashpoints.py)."""

    def __init__(self) -> None:
        self.armed: dict[str, Callable[[], None]] = {}

    def reach(self, name: str) -> None:
        """Do once what was arranged for this place."""
        self.armed.pop(name)()


class TurnByTurn(Database):
    """Writes on the thread that asks: one acts at a time, and handing over costs more than writing."""

    _turn: ClassVar[threading.RLock] = threading.RLock()

    def submit(self, statement: Callable[[Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._turn:
            self._commit([(statement, future)])
        return future


class Machine(RuleBasedStateMachine):
    """One execution of a few images that share layers."""

    world: ClassVar[World]
    interruption: ClassVar[Interruption]
    planted: ClassVar[bool]
    """Whether the product was broken before: then a run that fails has to fail again by itself."""
    counts: ClassVar[Counter[str]]
    """Over all runs: runs, messages carried out, deaths and freezes in mid task, how copies ended."""
    found: ClassVar[list[str]]
    """What did not hold, as it was found: hypothesis forgets it where a repetition goes another way."""

    images = Bundle("images")

    @initialize(
        target=images,
        shapes=st.lists(
            SHAPES,
            min_size=2,
            max_size=3,
        ),
    )
    def begin(self, shapes: list[list[int]]) -> Any:
        """Push images, plan an execution, start two processes."""
        self.name = f"sim{next(_numbers)}"
        self.current: dict[Name, Image] = {}
        self.was: dict[Name, list[str]] = {}  # digests of a tag at the source, the oldest first
        self.mirrored: dict[Name, int] = {}  # which of them the mirror has
        self.fallen = 0  # processes that others took for dead
        self.queue = Queue()
        self.parties: list[Party] = []
        for number, shape in enumerate(shapes):
            self._push(f"{self.name}/app{number % 2}", f"v{number}", shape)
        self.execution = self._plan()
        for _ in range(2):
            self._join()
        self.reconciler = Reconciler(
            self.world.settings,
            self.world.services.dispatching,
            self.queue,
            self.world.services.claims.epoch,
            self.world.services.claims.new_epoch,
            self._blob_state,
            clock=lambda: 0.0,  # a busy machine is not to look like one that stood still
        )
        return multiple(*self.current)

    # ---- what may happen -------------------------------------------------------------------------

    @rule()
    def dispatch(self) -> None:
        """Send what is eligible, in pages of two."""
        self._later()  # pauses are jittered, and what is drawn may not depend on that
        self._dispatch()

    @rule(who=st.integers(0, 1))
    def deliver_next(self, who: int) -> None:
        """Have a process carry out the oldest message, as a queue does it."""
        self._deliver(0, who)

    @rule(which=st.integers(0, 30), who=st.integers(0, 1), again=st.booleans())
    def deliver_any(self, which: int, who: int, again: bool) -> None:
        """Have a process carry out any message; `again`: it stays, and comes twice.

        No precondition, here and below: what is drawn may not depend on what the product did.
        """
        self._deliver(which, who, again=again)

    @rule(which=st.integers(0, 30))
    def lose(self, which: int) -> None:
        """Lose a message."""
        if self.queue.messages:
            del self.queue.messages[which % len(self.queue.messages)]

    @rule(all_of_it=st.integers(0, 3))
    def lose_everything(self, all_of_it: int) -> None:
        """Have Redis forget all, and the queue with it; seldom, as it hides what single losses do."""
        if all_of_it:
            return
        self.world.redis.flushall()
        self.queue.messages.clear()
        for party in self.parties:
            party.services.claims.keep_alive(party.services.boot, 120)

    @rule(which=st.integers(0, 30), who=st.integers(0, 1), point=st.sampled_from(POINTS))
    def deliver_and_die(self, which: int, who: int, point: str) -> None:
        """Have a process die in the middle of a message, and be missed; another takes its place."""

        def die() -> None:
            self.counts["deaths"] += 1
            raise Died

        self.interruption.armed[point] = die
        try:
            self._deliver(which, who)
        except Died:
            party = self.parties.pop(who)
            self._seem_dead(party)
            self._join()
        self.interruption.armed.clear()

    @rule(
        which=st.integers(0, 30),
        who=st.integers(0, 1),
        point=st.sampled_from(POINTS),
        image=images,
        shape=SHAPES,
        moves=st.booleans(),
    )
    def deliver_and_freeze(
        self, which: int, who: int, point: str, image: Name, shape: list[int], moves: bool
    ) -> None:
        """Have a process stand still in the middle of a message for longer than its lease, and go on.

        Meanwhile it counts as dead, and the other does what there is; perhaps a tag moves as well.
        """
        frozen = self.parties[who]

        def freeze() -> None:
            self.counts["freezes"] += 1
            self._look()
            self._seem_dead(frozen)
            if moves:
                self._push(*image, shape)
            self._round(lambda _number: 1 - who)
            frozen.live()

        self.interruption.armed[point] = freeze
        self._deliver(which, who, late=True)
        self.interruption.armed.clear()

    @rule(image=images, shape=SHAPES)
    def move(self, image: Name, shape: list[int]) -> None:
        """Move a tag at the source."""
        self._push(*image, shape)

    @rule()
    def reconcile(self) -> None:
        """Look for what nobody holds, an hour later."""
        self._later()
        self.reconciler.reconcile()

    # ---- what has to hold ------------------------------------------------------------------------

    @invariant()
    def tags_are_whole(self) -> None:
        """No tag of the mirror ever names what is not there, or goes back to what it was."""
        self._look()

    def _look(self, *, late: bool = False) -> None:
        """`late`: by a process that had stood still; it may write what was the newest before."""
        for repository, tag in getattr(self, "current", {}):
            name = f"mirror/{repository}"
            found = self.world.west.storage.manifest(name, tag)
            if found is None:
                assert (repository, tag) not in self.mirrored, f"{name}:{tag} is gone"
                continue
            for digest in _blobs(found.raw):
                assert self.world.west.storage.blob(name, digest) is not None, (name, tag, digest)
            which = self.was[repository, tag].index(found.digest)
            before = self.mirrored.get((repository, tag), 0)
            assert which >= before, f"{name}:{tag} went back from its digest {before} to {which}"
            moved = (repository, tag) not in self.mirrored or which > before
            newest = len(self.was[repository, tag]) - 1
            assert late or not moved or which == newest, self._note(
                f"{name}:{tag} was given {which}, and {newest} is newer"
            )
            self.mirrored[repository, tag] = which

    def teardown(self) -> None:
        """Let peace return: all ends, and is what the source has."""
        if not hasattr(self, "execution"):
            return
        clean = True
        try:
            self._end_in_peace()
            clean = self.planted or self.counts["runs"] % RUNS_BETWEEN_CLEANINGS == 0
        finally:
            self.counts["runs"] += 1
            COUNTS["simulated runs"] += not self.planted
            if clean:
                _forget_runs(self.world)

    def _end_in_peace(self) -> None:
        self._run_in_peace(self.execution)
        states = self._states(self.execution)
        moved = {CopyState.COPIED, CopyState.SUPERSEDED, CopyState.FAILED}
        assert set(states.values()) <= moved, states
        self.counts.update(state.value for state in states.values())
        for name, state in states.items():
            if state is CopyState.COPIED:
                assert name in self.mirrored, f"{name} is said to be copied, and is not there"
                if len(self.was[name]) == 1:
                    assert self._is_current(name), f"{name} is said to be copied"
        if self.counts["runs"] % RUNS_BETWEEN_READINGS == 0:
            self._bring_up_to_date()
            self._read_all()

    def _read_all(self) -> None:
        """Have the oracle read every byte: what the registry has in memory was looked at after each task."""
        expected = {(r, t): (f"mirror/{r}", t) for r, t in self.current}
        report = check(self.world.east.url, self.world.west.url, expected, extra=False)
        assert report.faults == [], str(report)
        assert report.tags == len(self.current)

    # ---- inside ----------------------------------------------------------------------------------

    def _bring_up_to_date(self) -> None:
        """Run once more in peace: tags may have moved after their commit, and tries were used up."""
        assert self.world.services.dispatching.end_executions()
        execution = self._plan()
        self._run_in_peace(execution)
        assert set(self._states(execution).values()) <= {CopyState.COPIED}
        assert all(self._is_current(name) for name in self.current)

    def _plan(self) -> str:
        names = {repository for repository, _ in self.current}
        return self.world.plan(*sorted(names), rule=self.name)

    def _run_in_peace(self, execution: str) -> None:
        """Deliver every message once, in order, and reconcile, until no copy is open."""
        for _ in range(60):
            self._round(lambda number: number % 2)
            if not any(state in OPEN_COPIES for state in self._states(execution).values()):
                return
        told = [(c.source_reference, c.state, c.reason) for c in self.world.copies(execution)]
        raise AssertionError(self._note(f"sixty rounds in peace were not enough: {told}"))

    def _note(self, what: str) -> str:
        self.found.append(what)
        return what

    def _round(self, who: Callable[[int], int]) -> None:
        """Look for what nobody holds, send what is eligible, and deliver all of it in order."""
        self._later()
        self.reconciler.reconcile()
        self._dispatch()
        number = 0
        while self.queue.messages:
            assert number < 200, "messages beget messages"
            self._deliver(0, who(number))
            number += 1

    def _states(self, execution: str) -> dict[Name, CopyState]:
        found = self.world.copies(execution)
        return {(copy.source_repository, copy.source_reference): copy.state for copy in found}

    def _is_current(self, name: Name) -> bool:
        return self.mirrored.get(name) == len(self.was[name]) - 1

    def _dispatch(self) -> None:
        refs = self.world.dispatch()
        pages = [refs[start : start + 2] for start in range(0, len(refs), 2)]
        store = self.world.services.dispatching
        if self.fallen and not store.suspects_out():  # they run alone, and only the dead have any
            alone = store.dispatch(store.eligible("local", 1, suspect=True))
            pages += [[ref] for ref in alone]
        self.queue.replicate("local", pages, urgent=False)

    def _seem_dead(self, party: Party) -> None:
        self.fallen += 1
        party.die()
        boot = party.services.boot
        self._write(update(processes).where(processes.c.boot == boot).values(seen_at=1.0))

    def _deliver(self, which: int, who: int, *, again: bool = False, late: bool = False) -> None:
        if not self.queue.messages:
            self._dispatch()
        if not self.queue.messages:
            return
        position = which % len(self.queue.messages)
        message = self.queue.messages[position]
        if not again:
            del self.queue.messages[position]
        party = self.parties[who]
        if message.kind == "page":
            party.replicate(*message.refs)
        elif message.kind == "part":
            party.copy_part(message.refs[0], message.part)
        else:
            party.commit(message.refs[0])
        self.counts["messages"] += 1
        self._look(late=late)

    def _join(self) -> None:
        services = Services(
            replace(self.world.services.settings, small_image_bytes=9_000, small_blob_bytes=3_000)
        )
        for part in SHARED:
            setattr(services, part, getattr(self.world.services, part))
        party = Party(services, self.queue)
        party.engine = replace(
            party.engine, patience_seconds=0.0
        )  # the others do nothing meanwhile
        self.parties.append(party)

    def _push(self, repository: str, tag: str, shape: list[int]) -> None:
        layers = [some_bytes(f"{self.name}-{n}", 2_000 + 1_500 * n) for n in shape]
        mark = f"{self.name}-{next(_numbers)}"
        image = self.world.push(repository, tag, layers, mark)
        self.current[repository, tag] = image
        self.was.setdefault((repository, tag), []).append(image.digest)

    def _later(self) -> None:
        """Let pauses, graces and time-outs run out: an hour passes for all copies."""
        self._write(_AN_HOUR_PASSES)

    def _write(self, statement: Any) -> None:
        self.world.services.database.write(lambda connection: connection.execute(statement))

    def _blob_state(self, registry: str, digest: str) -> Any:
        scope = self.parties[0].engine.clients.scope(registry)
        return self.world.services.claims.state(registry, scope, digest)


_AN_HOUR_PASSES = update(copies).values(
    updated_at=copies.c.updated_at - HOUR,
    not_before=case((copies.c.not_before < 1e14, 0), else_=copies.c.not_before),
)


def _take_turns(services: Services) -> None:
    """Have services do everything on the thread that asks."""
    services.database = TurnByTurn(services.settings.database_url, durable=False)
    services.beside = SideBySide(0, services.meter)


SHARED = ("database", "redis", "registries", "meter", "limiters", "clients", "beside", "guard")
"""What the processes of a simulation have in common, as nothing of it depends on who uses it: one
connection is as good as two where one acts at a time, and each statement is compiled once for all runs."""


def _forget_runs(world: World) -> None:
    """Take away what runs have left, so that none is slower than the first."""
    world.services.database.write(_forget)
    for registry in (world.east, world.west):
        registry.storage.clear()
        registry.log.clear()


def _forget(connection: Connection) -> None:
    for table in reversed(WHOLE.sorted_tables):
        if table is not registries:
            connection.execute(delete(table))


def _blobs(raw: bytes) -> Iterator[str]:
    body = json.loads(raw)
    yield body["config"]["digest"]
    yield from (layer["digest"] for layer in body["layers"])


@contextmanager
def _cheaply() -> Iterator[None]:
    """Tell nothing of what goes wrong on purpose, and look for garbage seldom: a tenth of a run's price."""
    told, threshold = logging.getLogger("transship").level, gc.get_threshold()
    logging.getLogger("transship").setLevel(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        logging.getLogger("transship").setLevel(told)
        gc.set_threshold(*threshold)
        gc.unfreeze()


@contextmanager
def _interruptions() -> Iterator[Interruption]:
    """Have the named places of this process be reached by a simulation."""
    plan, interruption = crashpoints._plan, Interruption()
    crashpoints._plan = interruption
    try:
        yield interruption
    finally:
        crashpoints._plan = plan


def simulate(
    folder: Path,
    runs: int,
    *,
    plant: Callable[[World], None] | None = None,
    found: list[str] | None = None,
) -> Counter[str]:
    """Simulate so many runs and return what they came to; `plant` breaks the product before.

    To `found` is added what did not hold, which hypothesis does not tell where its repetition goes another way.
    `folder` is best in memory: a run commits a hundred times. Raises AssertionError, with what was drawn,
    for a run that did not end well.
    """
    with open_world(folder) as world, _cheaply(), _interruptions() as interruption:
        world.services.close()
        settings_of_all = replace(world.settings, compare_threads=1, dead_after_seconds=HOUR)
        world.services = world.open(settings_of_all)
        _take_turns(world.services)
        if plant is not None:
            plant(world)
        counts: Counter[str] = Counter()
        had = {
            "world": world,
            "interruption": interruption,
            "counts": counts,
            "planted": plant is not None,
            "found": [] if found is None else found,
        }
        run_state_machine_as_test(
            type("Simulated", (Machine,), had),
            settings=settings(
                max_examples=runs,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=plant is not None,
                phases=[Phase.generate] if plant else list(Phase),
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
                print_blob=True,
            ),
        )
        return counts
