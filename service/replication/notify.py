"""Notify: post what the outbox holds to the webhooks, until each has taken it or had its chances.

A receiver gets every event at least once, with the same id at each attempt; the order is not kept.
Nothing else waits for it: copies and executions end in SQL, and this only reads from there.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from service.crashpoints import crashpoint
from service.errors import InvalidConfiguration, RegistryError, StoreUnavailable
from service.registry.post import SECONDS, post
from service.settings import Settings
from service.store.webhooks import Letter, WebhookStore
from service.telemetry import get_logger

THREADS = 16
AT_ONCE = 2
"""Events under way to one webhook: a receiver that hangs holds so many threads, and no more."""

IDLE_SECONDS = 0.25
LEASE_SECONDS = 6 * SECONDS
MAX_PAUSE_SECONDS = 600.0
KEPT_SECONDS = 7 * 86400.0
FORGET_EVERY_SECONDS = 60.0
EXPAND_EVERY_SECONDS = 0.25

log = get_logger("notify")


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return the header's value: the time, and the HMAC-SHA256 of time, a dot and the body."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Notifier:
    """Sends the outbox's events; any number of processes may do so."""

    def __init__(
        self, settings: Settings, store: WebhookStore, send: Callable[..., int] = post
    ) -> None:
        self._settings = settings
        self._store = store
        self._send = send
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._next_forget = 0.0
        self._next_expand = 0.0

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; losing SQL pauses it, nothing ends it."""
        with ThreadPoolExecutor(THREADS, "notify") as pool:
            while not stop.is_set():
                try:
                    taken = self._step(pool)
                except StoreUnavailable as error:
                    log.warning("notify_paused", error=error.message)
                    taken = 0
                except Exception:
                    log.exception("notify_failed")
                    taken = 0
                if not taken:
                    stop.wait(IDLE_SECONDS)

    def _step(self, pool: ThreadPoolExecutor) -> int:
        now = time.monotonic()
        if now >= self._next_forget:
            self._next_forget = now + FORGET_EVERY_SECONDS
            self._store.forget_ended(KEPT_SECONDS)
        if now >= self._next_expand:
            self._next_expand = now + EXPAND_EVERY_SECONDS
            self._store.expand()
        with self._lock:
            busy = [name for name, count in self._under_way.items() if count >= AT_ONCE]
            free = THREADS - self._under_way.total()
        if free <= 0:
            return 0
        letters = self._store.take(free, LEASE_SECONDS, without=busy, each=AT_ONCE)
        with self._lock:
            self._under_way.update(letter.webhook for letter in letters)
        for letter in letters:
            pool.submit(self._deliver, letter)
        return len(letters)

    def _deliver(self, letter: Letter) -> None:
        try:
            self.deliver(letter)
        except Exception:
            log.exception("delivery_broke", webhook=letter.webhook, delivery=letter.id)
        finally:
            with self._lock:
                self._under_way[letter.webhook] -= 1
                if self._under_way[letter.webhook] <= 0:
                    del self._under_way[letter.webhook]

    def deliver(self, letter: Letter) -> None:
        """Make one attempt, and write down what came of it."""
        body = letter.body.encode()
        status: int | None = None
        try:
            status = self._send(
                letter.url, self._headers(letter, body), body, private=letter.private
            )
            reason = _refusal(status)
        except (RegistryError, InvalidConfiguration, StoreUnavailable) as error:
            reason = error.message
        crashpoint("hook.before_mark")
        if not reason and status is not None:
            self._store.delivered(letter, status)
            return
        last = letter.attempts >= self._settings.webhook_attempts
        pause = self._settings.webhook_retry_seconds * 2 ** (letter.attempts - 1)
        jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
        log.warning("event_not_taken", webhook=letter.webhook, delivery=letter.id, last=last)
        self._store.failed(
            letter, status, reason, None if last else jitter * min(pause, MAX_PAUSE_SECONDS)
        )

    def _headers(self, letter: Letter, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/cloudevents+json; charset=UTF-8",
            "Transship-Event": letter.id,
            "Transship-Attempt": str(letter.attempts),
        }
        secret = self._store.secret(letter.webhook)
        if secret is not None:
            headers["Transship-Signature"] = signature(secret, int(time.time()), body)
        return headers


def _refusal(status: int) -> str:
    """Return why a status does not mean that the event was taken; empty when it does."""
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"the receiver answered {status}: redirects are not followed"
    return f"the receiver answered {status}"
