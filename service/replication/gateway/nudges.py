"""Ask for copies of what was pulled and is missing where a rule wants it: by degrees, and each once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from service.errors import StoreUnavailable, TransshipError
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.steady import StoreGate
from service.store import audit
from service.store.audit import Change
from service.store.database import write_beside
from service.store.executions import ExecutionStore
from service.store.rules import RuleStore
from service.telemetry import get_logger

log = get_logger("gateway")

AGAIN_SECONDS = 600.0
"""So long the same rule is not asked again for the same tag at the same digest."""

PER_SECOND = 5.0
MOST_WAITING = 1000
TOGETHER = 50
"""Tags of one rule that one execution takes."""

Wanted = tuple[str, str, str]
"""A rule, a repository and a tag."""


class Nudges:
    """One thread; whoever pulls does not wait for it."""

    def __init__(
        self, rules: RuleStore, executions: ExecutionStore, gate: StoreGate, figures: GatewayFigures
    ) -> None:
        self._rules = rules
        self._executions = executions
        self._gate = gate
        self._figures = figures
        self._asked: dict[tuple[str, str, str, str], float] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Wanted | None] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nudges", daemon=True)
        self._thread.start()

    def wanted(self, rules: Sequence[str], repository: str, tag: str, digest: str) -> None:
        """Ask rules for a tag, soon; what was asked for lately, or is too much, is left out."""
        now = time.monotonic()
        for rule in rules:
            key = (rule, repository, tag, digest)
            with self._lock:
                if now - self._asked.get(key, -AGAIN_SECONDS) < AGAIN_SECONDS:
                    continue
                if len(self._asked) > 100_000:
                    self._asked.clear()
                self._asked[key] = now
            try:
                self._queue.put_nowait((rule, repository, tag))
            except queue.Full:
                with self._lock:
                    self._asked.pop(key, None)
                self._figures.asked_for.labels("left out").inc()

    def close(self) -> None:
        """End."""
        self._stop.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            first = self._queue.get()
            if first is None:
                return
            self._stop.wait(1.0 / PER_SECOND)
            together: dict[str, list[tuple[str, str]]] = {first[0]: [first[1:]]}
            for _ in range(TOGETHER):
                try:
                    one = self._queue.get_nowait()
                except queue.Empty:
                    break
                if one is None:
                    return
                together.setdefault(one[0], []).append(one[1:])
            for rule, references in together.items():
                self._ask(rule, references)

    def _ask(self, name: str, references: list[tuple[str, str]]) -> None:
        try:
            rule = self._gate.ask(lambda: self._rules.get(name))
            if rule.paused_at is not None or not rule.rule.enabled:
                self._count("refused", references)
                return
            shown = [f"{repository}:{tag}" for repository, tag in references]
            change = Change(
                "gateway", "run", "rules", name, rule.rule.project, None, {"references": shown}
            )
            write_beside(lambda connection, _result: audit.append(connection, change))
            try:
                self._executions.create_tags(rule.rule, references, trigger="event")
            finally:
                write_beside(None)
            self._count("asked", references)
        except StoreUnavailable:
            self._count("store away", references)
        except TransshipError as error:
            log.warning("copy_not_asked_for", rule=name, reason=error.message)
            self._count("refused", references)

    def _count(self, outcome: str, references: list[tuple[str, str]]) -> None:
        self._figures.asked_for.labels(outcome).inc(len(references))
