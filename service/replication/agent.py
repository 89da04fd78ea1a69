"""The agent of a far region: fetches pages of copies from home, and gives account of them (docs/adr/0017).

Nothing else of the region speaks with home: no work item makes the way there and back.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from service.errors import InvalidInput, TransshipError
from service.store.borrowing import Batch, BorrowingStore
from service.telemetry import get_logger

RENEWALS = 7
"""How often a lease is renewed in the time that it lasts."""

SAY_HELD_SECONDS = 0.5
"""An account says at most so often what else is in hand: it is told many times a second where much ends."""

IDLE_SECONDS = 0.5
"""How often home is asked for copies while there is room for them."""

ACCOUNT_SECONDS = 0.2
PAGES_A_SLOT = 3
MOST_AT_ONCE = 500
MOST_HELD = 2000
BATCHES_A_STEP = 3
"""The lease is renewed in between, however much there is to tell."""

FORGET_SECONDS = 60.0
MAX_PAUSE_SECONDS = 5.0

log = get_logger("agent")


class Home(Protocol):
    """The API at home. Both raise TransshipError when it does not answer, or refuses."""

    def lease(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Renew the lease, and return the next page of copies."""

    def record(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Give account; the same batch may be told twice. Returns the last number that home has, and the news.

        Raises InvalidInput for a batch that home will never take.
        """


class Agent:
    """Runs in a worker process of the region; a lease in the region's database lets one of them act."""

    def __init__(
        self,
        store: BorrowingStore,
        home: Home,
        slots: Callable[[], int],
        lead: Callable[[], bool],
        *,
        examine: Callable[[str], None],
        tags_per_task: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slots`: live slots of the region; `lead`: whether this process is the one to act.

        `examine` has an examination carried out by a worker of the region.
        """
        self._store = store
        self._home = home
        self._slots = slots
        self._lead = lead
        self._examine = examine
        self._tags_per_task = tags_per_task
        self._clock = clock
        self._identity = store.identity()
        self._next_lease = 0.0
        self._next_account = 0.0
        self._next_look = 0.0
        self._next_watch = 0.0
        self._watch_seconds: float | None = None  # home says; an earlier release does not
        self._takes_attempts = False  # home says; an earlier release refuses what it does not know
        self._next_saying = 0.0
        self._pause = IDLE_SECONDS

    def run(self, stop: threading.Event) -> None:
        """Go on until `stop` is set; home being away pauses it, nothing ends it."""
        while not stop.is_set():
            try:
                if self._lead():
                    self.step()
            except (TransshipError, OSError) as error:
                log.warning("home_away", error=f"{type(error).__name__}: {error}")
                stop.wait(self._pause)
                self._pause = min(MAX_PAUSE_SECONDS, 2 * self._pause)
            except Exception:
                log.exception("agent_failed")
                stop.wait(MAX_PAUSE_SECONDS)
            else:
                self._pause = IDLE_SECONDS
            stop.wait(ACCOUNT_SECONDS)

    def step(self) -> None:
        """Tell what is to be told, and fetch what there is room for."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + FORGET_SECONDS
            self._store.forget()
        if now >= self._next_lease or (now >= self._next_watch and self._store.waiting()):
            self._fetch(self._room())
        for _ in range(BATCHES_A_STEP):
            if not self._give_account():
                break
        room = self._room()
        if room > 0 and now >= self._next_account:
            self._fetch(room)

    def _give_account(self) -> bool:
        """Tell one batch; whether there was one, and it was taken."""
        batch = self._store.account()
        if batch.is_empty:
            return False
        told = {
            "agent": self._identity,
            "number": batch.number,
            "outcomes": batch.outcomes if self._takes_attempts else _without_attempts(batch),
            "executions": batch.executions,
            "crossings": batch.crossings,
            "examinations": batch.examinations,
        }
        asked = self._clock()
        watches = self._watch_seconds is not None and asked >= self._next_saying
        if watches:
            ended = {one["copy"] for one in batch.outcomes}
            told["held"] = [list(one) for one in self._store.held() if one[0] not in ended]
            told["registries"] = self._store.known_registries()
        try:
            answer = self._home.record(told)
        except InvalidInput:
            self._store.smaller(batch)
            return True
        if not self._lead():
            return False  # whoever leads now has told it as well
        if watches:
            self._store.let_go(answer["stop"])
            self._store.learn(answer["registries"])
            self._heard(asked)
        if answer["number"] == batch.number:
            self._store.told(batch)
        else:
            log.warning("numbers_went_back", ours=batch.number, theirs=answer["number"])
            self._store.renumber(answer["number"])
        return True

    def _heard(self, asked: float) -> None:
        """Note that home has said all that it takes back, to a question of `asked`."""
        self._next_saying = asked + SAY_HELD_SECONDS
        self._next_watch = asked + (self._watch_seconds or 0.0)

    def _room(self) -> int:
        wanted = PAGES_A_SLOT * self._slots() * self._tags_per_task
        open_copies = self._store.waiting()
        return max(0, min(MOST_AT_ONCE, wanted - open_copies, MOST_HELD - open_copies))

    def _fetch(self, room: int) -> None:
        asked = self._clock()
        held = self._store.held()
        wish = {
            "agent": self._identity,
            "host": socket.gethostname(),
            "slots": self._slots(),
            "room": room,
            "held": [list(one) for one in held],
        }
        if self._watch_seconds is not None:
            wish["registries"] = self._store.known_registries()
        page = self._home.lease(wish)
        if not self._lead():
            return  # the next leader says that it does not have these copies
        self._store.let_go([*page["stop"], *self._store.misplaced()])
        # From the moment of the question on: home counts from a later one.
        self._store.renew(page["lease_seconds"] - (self._clock() - asked))
        self._store.take(page)
        for question in page["examinations"]:
            self._examine(question["id"])
        self._next_lease = asked + page["lease_seconds"] / RENEWALS
        self._takes_attempts = bool(page.get("takes_attempts"))
        self._watch_seconds = page.get("watch_seconds")
        if self._watch_seconds is None:
            self._next_watch = self._next_lease
        else:
            self._heard(asked)
        full = len(page["copies"]) >= room > 0
        self._next_account = asked + (0.0 if full else IDLE_SECONDS)
        if page["copies"]:
            log.info("copies_fetched", copies=len(page["copies"]))


def _without_attempts(batch: Batch) -> list[dict[str, Any]]:
    return [{name: one[name] for name in one if name != "attempts"} for one in batch.outcomes]
