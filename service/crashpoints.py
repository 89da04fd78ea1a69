"""Named places where a test can have a process die, stand still or fail: POINTS is the whole list.

    TRANSSHIP_TESTING=true TRANSSHIP_CRASH=commit.before_put:2:kill9

kills a process with SIGKILL when it reaches `commit.before_put` for the second time. Ways: `kill9`, `stop`
(SIGSTOP: everybody waits, as in a frozen machine), `raise` (CrashRaised, an error that nobody expects).
Without TRANSSHIP_TESTING the setting is refused, and a point is one look at an empty table. Each point has
a test that kills there; one that has none is red (reference/reliability.md 2.1).
"""

from __future__ import annotations

import os
import signal
import threading

from service.errors import InvalidConfiguration

POINTS = frozenset(
    {
        "api.before_tx",
        "api.after_tx_before_reply",
        "blob.leased",
        "blob.session_open",
        "blob.before_final_put",
        "blob.after_put_before_sql",
        "blob.after_sql_before_done",
        "commit.claimed",
        "commit.children_done",
        "commit.before_reread",
        "commit.before_put",
        "commit.before_readback",
        "commit.before_sql",
        "copy.begun",
        "copy.after_sql",
        "db.migrated",
        "db.table_carried",
        "delete.confirmed",
        "delete.before_sql",
        "hook.before_mark",
        "layout.before_rename",
        "part.placed",
        "plan.begun",
        "plan.listed",
        "plan.page_written",
        "promotion.before_answer",
        "promotion.before_place",
        "recon.found",
        "recon.requeued",
        "release.prepared",
        "release.after_put",
        "release.set_back",
        "sched.claimed",
        "sched.marked",
        "sched.published",
    }
)

WAYS = ("kill9", "stop", "raise")


class CrashRaised(Exception):
    """What the way `raise` raises."""


class _Plan:
    """What is to happen in this process, and how often each point was reached."""

    def __init__(self) -> None:
        self.armed: dict[str, tuple[int, str]] = {}
        self._reached: dict[str, int] = {}
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        nth, way = self.armed[name]
        with self._lock:
            self._reached[name] = self._reached.get(name, 0) + 1
            if self._reached[name] != nth:
                return
        os.write(2, f'{{"event": "crashpoint", "point": "{name}", "way": "{way}"}}\n'.encode())
        if way == "kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        elif way == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            raise CrashRaised(name)


_plan = _Plan()


def arm(text: str) -> None:
    """Arm points as TRANSSHIP_CRASH names them: `point:nth:way`, several by commas; "" disarms all.

    Raises InvalidConfiguration for a point or a way that is none.
    """
    armed = {}
    for item in filter(None, text.split(",")):
        name, _, rest = item.partition(":")
        nth, _, way = rest.partition(":")
        if name not in POINTS or way not in WAYS or not nth.isdigit() or nth == "0":
            raise InvalidConfiguration(
                f"TRANSSHIP_CRASH={item!r} is no POINT:NTH:WAY",
                field="TRANSSHIP_CRASH",
                hint=f"points: {', '.join(sorted(POINTS))}; ways: {', '.join(WAYS)}",
            )
        armed[name] = (int(nth), way)
    _plan.armed = armed


def crashpoint(name: str) -> None:
    """Be at a named place; nothing happens unless a test has armed it."""
    if _plan.armed and name in _plan.armed:
        _plan.reach(name)
