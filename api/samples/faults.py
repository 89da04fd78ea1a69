"""Faults that tests ask the sample registry for: which request, and what goes wrong with it.

A rule that never struck proves nothing: tests assert `rule.fired` after the scenario.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from api.samples.http_messages import Bytes, Request, Response, WireFault

FOREVER = 1 << 62


@dataclass(slots=True)
class FaultRule:
    """One fault. It strikes requests of `method` whose path and query match `path` (re.search).

    Of the matching requests the `nth` (from 1) and the following ones are struck, `times` in all.
    What happens is what is set, in this order: `before`, `hold`, `reset_request_at`, an answer of
    our own when `status` is set (the registry does not see the request) or the registry's, then
    the changes to that answer and to its way over the wire.
    """

    path: str = ""
    method: str = ""  # empty: any
    nth: int = 1
    times: int = 1
    # to the request
    before: Callable[[Request], None] | None = None  # side effect: move a tag, drop a blob ...
    hold: threading.Event | None = None  # wait for it (2 min at most) before anything else
    reset_request_at: int | None = None  # RST after so many bytes of the request's body
    refuse_mount: bool = False  # answer a mount as if the blob were not there
    # to the answer
    status: int | None = None
    body: Bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)  # None removes one
    after: Callable[[Request, Response], None] | None = None  # once the registry has done it
    forget_upload: bool = False  # 202, and the session is gone
    wire: WireFault | None = None
    close: bool = False
    # what came of it
    hits: int = 0
    fired: int = 0
    fired_at: float = 0.0  # time.monotonic of the first strike

    def matches(self, request: Request) -> bool:
        """Whether the rule looks at this request."""
        if self.method and self.method != request.method:
            return False
        return re.search(self.path, request.target) is not None

    def apply(self, response: Response) -> None:
        """Change the registry's answer as the rule says."""
        if self.body is not None:
            response.body = self.body
        for name, value in self.headers.items():
            for present in [key for key in response.headers if key.lower() == name.lower()]:
                del response.headers[present]
            if value is not None:
                response.headers[name] = value
        response.fault = self.wire or response.fault
        response.close = response.close or self.close


class FaultPlan:
    """The rules in force; the first one that strikes a request wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> FaultRule:
        """Put a rule behind those that are there; returns it, for its counters."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Heal: no fault from now on; held requests go on."""
        with self._lock:
            for rule in self._rules:
                if rule.hold is not None:
                    rule.hold.set()
            self._rules.clear()

    def strike(self, request: Request) -> FaultRule | None:
        """Return the rule that strikes this request, with its counters raised."""
        if not self._rules:
            return None
        with self._lock:
            for rule in self._rules:
                if not rule.matches(request):
                    continue
                rule.hits += 1
                if rule.hits >= rule.nth and rule.fired < rule.times:
                    rule.fired_at = rule.fired_at or time.monotonic()
                    rule.fired += 1
                    return rule
        return None
