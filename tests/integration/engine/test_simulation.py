"""The state machine under everything that a queue and processes may do: lose, repeat, reorder, die.

A hypothesis machine over real SQL and a real Redis, without processes: tasks are messages in a list, and
what happens to them is drawn. Whatever was drawn, once peace returns all copies end, each tag is the
source's current one, and all of it is whole.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
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
from sqlalchemy import Connection, delete, update

from service.bootstrap import Services
from service.model.states import OPEN_COPIES, CopyState
from service.model.work import CopyRef
from service.replication.reconcile import Reconciler
from service.store.clock import now_epoch
from service.store.schema import WHOLE
from service.store.tables import copies, processes, registries
from tests.oracle.closure import check
from tests.support.processes import scratch_directory
from tests.support.world import Image, Party, RecordingPublisher, World, open_world, some_bytes

EXAMPLES = int(os.environ.get("SIMULATIONS", "200"))
STEPS = 30

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


class Machine(RuleBasedStateMachine):
    """One execution of a few images that share layers."""

    world: World
    images = Bundle("images")

    @initialize(
        target=images,
        shapes=st.lists(
            st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True),
            min_size=2,
            max_size=4,
        ),
    )
    def begin(self, shapes: list[list[int]]) -> Any:
        """Push images, plan an execution, start two processes."""
        self.name = f"sim{next(_numbers)}"
        self.current: dict[tuple[str, str], Image] = {}
        self.queue = Queue()
        self.parties: list[Party] = []
        for number, shape in enumerate(shapes):
            self._push(f"{self.name}/app{number % 2}", f"v{number}", shape)
        self.execution = self.world.plan(f"{self.name}/*", rule=self.name)
        for _ in range(2):
            self._join()
        self.reconciler = Reconciler(
            self.world.settings,
            self.world.services.dispatching,
            self.queue,
            self.world.services.claims.epoch,
            self.world.services.claims.new_epoch,
            partial(self._blob_state),
            clock=lambda: 0.0,  # a busy machine is not to look like one that stood still
        )
        return multiple(*self.current)

    # ---- what may happen -------------------------------------------------------------------------

    @rule()
    def dispatch(self) -> None:
        """Send what is eligible, in pages of two."""
        self._later()  # pauses are jittered, and what is drawn may not depend on that
        refs = self.world.dispatch()
        pages = [refs[start : start + 2] for start in range(0, len(refs), 2)]
        self.queue.replicate("local", pages, urgent=False)

    @rule(which=st.integers(0, 1000), who=st.integers(0, 1), again=st.booleans())
    def deliver(self, which: int, who: int, again: bool) -> None:
        """Have a process carry out any message, in any order; `again`: it stays, and comes twice.

        No precondition, here and below: what is drawn may not depend on what the product did.
        """
        if not self.queue.messages:
            return
        position = which % len(self.queue.messages)
        message = self.queue.messages[position]
        if not again:
            del self.queue.messages[position]
        self._carry_out(self.parties[who], message)

    @rule(which=st.integers(0, 1000))
    def lose(self, which: int) -> None:
        """Lose a message."""
        if not self.queue.messages:
            return
        del self.queue.messages[which % len(self.queue.messages)]

    @rule()
    def lose_everything(self) -> None:
        """Have Redis forget all, and the queue with it."""
        self.world.redis.flushall()
        self.queue.messages.clear()
        for party in self.parties:
            party.services.claims.keep_alive(party.services.boot, 120)

    @rule(who=st.integers(0, 1))
    def die(self, who: int) -> None:
        """Have a process die and be missed; another takes its place."""
        party = self.parties.pop(who)
        party.die()
        boot = party.services.boot
        self._write(update(processes).where(processes.c.boot == boot).values(seen_at=1.0))
        _let_go(party)
        self._join()

    @rule(image=images, shape=st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True))
    def move(self, image: tuple[str, str], shape: list[int]) -> None:
        """Move a tag at the source."""
        self._push(*image, shape)

    @rule()
    def reconcile(self) -> None:
        """Look for what nobody holds, as a second later."""
        self._later()
        self.reconciler.reconcile()

    # ---- what has to hold ------------------------------------------------------------------------

    @invariant()
    def tags_are_whole(self) -> None:
        """No tag of the mirror ever names what is not there."""
        for repository, tag in getattr(self, "current", {}):
            name = f"mirror/{repository}"
            found = self.world.west.storage.manifest(name, tag)
            if found is None:
                continue
            for digest in _blobs(found.raw):
                assert self.world.west.storage.blob(name, digest) is not None, (name, tag, digest)

    def teardown(self) -> None:
        """Let peace return: all ends, and is what the source has."""
        if not hasattr(self, "execution"):
            return
        try:
            self._end_in_peace()
        finally:
            for party in self.parties:
                _let_go(party)
            self.world.services.database.write(_forget)

    def _end_in_peace(self) -> None:
        self.world.east.faults.clear()
        self.world.west.faults.clear()
        self._run_in_peace(self.execution)
        states = {c.source_reference: c.state for c in self.world.copies(self.execution)}
        assert not any(state in OPEN_COPIES for state in states.values()), states
        moved = {CopyState.COPIED, CopyState.SUPERSEDED, CopyState.FAILED}
        assert set(states.values()) <= moved, states
        self._bring_up_to_date()
        expected = {(r, t): (f"mirror/{r}", t) for r, t in self.current}
        report = check(self.world.east.url, self.world.west.url, expected, extra=False)
        assert report.faults == [], str(report)
        assert report.tags == len(self.current)

    # ---- inside ----------------------------------------------------------------------------------

    def _bring_up_to_date(self) -> None:
        """Run once more in peace: tags may have moved after their commit, and tries were used up."""
        assert self.world.services.dispatching.end_executions()
        execution = self.world.plan(f"{self.name}/*", rule=self.name)
        self._run_in_peace(execution)
        assert set(self.world.states(execution)) <= {CopyState.COPIED}

    def _run_in_peace(self, execution: str) -> None:
        """Deliver every message once, in order, and reconcile, until no copy is open."""
        for _ in range(60):
            self._later()
            self.reconciler.reconcile()
            self.dispatch()
            messages, self.queue.messages = self.queue.messages, []
            for number, message in enumerate(messages):
                self._carry_out(self.parties[number % 2], message)
            if not any(state in OPEN_COPIES for state in self.world.states(execution)):
                return
        told = [(c.source_reference, c.state, c.reason) for c in self.world.copies(execution)]
        raise AssertionError(f"sixty rounds in peace were not enough: {told}")

    def _join(self) -> None:
        services = Services(
            replace(self.world.settings, small_image_bytes=9_000, small_blob_bytes=3_000)
        )
        # They take turns, so one pool is as good as two, and compiles each statement once for all runs.
        services.database = self.world.services.database
        party = Party(services, self.queue)
        party.engine = replace(
            party.engine, patience_seconds=0.0
        )  # the others do nothing meanwhile
        self.parties.append(party)

    def _push(self, repository: str, tag: str, shape: list[int]) -> None:
        layers = [some_bytes(f"{self.name}-{n}", 2_000 + 1_500 * n) for n in shape]
        mark = f"{self.name}-{next(_numbers)}"
        self.current[repository, tag] = self.world.push(repository, tag, layers, mark)

    def _carry_out(self, party: Party, message: Message) -> None:
        if message.kind == "page":
            party.replicate(*message.refs)
        elif message.kind == "part":
            party.copy_part(message.refs[0], message.part)
        else:
            party.commit(message.refs[0])

    def _later(self) -> None:
        """Let pauses, graces and time-outs run out; who has not died lives."""
        hour = 3600.0
        boots = [party.services.boot for party in self.parties]
        alive = update(processes).where(processes.c.boot.in_(boots)).values(seen_at=now_epoch())
        self._write(alive)
        self._write(update(copies).values(updated_at=copies.c.updated_at - hour))
        self._write(update(copies).where(copies.c.not_before < 1e14).values(not_before=0))

    def _write(self, statement: Any) -> None:
        self.world.services.database.write(lambda connection: connection.execute(statement))

    def _blob_state(self, registry: str, digest: str) -> Any:
        scope = self.parties[0].engine.clients.scope(registry)
        return self.world.services.claims.state(registry, scope, digest)


def _let_go(party: Party) -> None:
    """Close a process's services, but for the database that all share."""
    del party.services.database
    party.services.close()


def _forget(connection: Connection) -> None:
    """Take away what a run has left in SQL, so that none is slower than the first, or another one."""
    for table in reversed(WHOLE.sorted_tables):
        if table is not registries:
            connection.execute(delete(table))


def _blobs(raw: bytes) -> Iterator[str]:
    import json

    body = json.loads(raw)
    yield body["config"]["digest"]
    yield from (layer["digest"] for layer in body["layers"])


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory: a run commits a hundred times, and no test here loses the machine's power."""
    folder = scratch_directory("simulation")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # the product's jitter
@pytest.mark.timeout(max(180, 3 * EXAMPLES))
def test_whatever_happens_to_messages_and_processes_all_ends_whole(in_memory: Path) -> None:
    with open_world(in_memory) as world:
        machine = type("Simulated", (Machine,), {"world": world})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
