"""Who moves which blob right now, in Redis: scripts that look and take in one step.

A claim belongs to a token, `<boot id>/<random>`; it holds as long as `alive:<boot id>` does, so a
dead process's claims are taken over at once (reference/engine.md, section 2). All of it may be lost
at any time: the ledger in SQL and the destination's own digest check are what correctness rests on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from service.model.ports import ClaimState
from service.protections import without
from service.store.creation import made_at

DONE_SECONDS = 120
CORRUPT_SECONDS = 600
CORRUPT_READS = 3
"""How often a blob may be read wrong at its source before nobody reads it for ten minutes."""
WAITERS_SECONDS = 7 * 86400

_CLAIM = """
local done = redis.call('GET', KEYS[2])
if done then return {'done', done} end
if tonumber(redis.call('GET', KEYS[3]) or '0') >= tonumber(ARGV[3]) then return {'corrupt', ''} end
if redis.call('EXISTS', KEYS[4]) == 1 then return {'corrupt', ''} end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local boot = string.match(holder, '^(.-)/')
  if redis.call('EXISTS', ARGV[2] .. boot) == 1 then return {'held', holder} end
end
if ARGV[4] == 'ahead' then
  redis.call('DEL', KEYS[5])
elseif redis.call('EXISTS', KEYS[5]) == 1 then
  return {'held', ''}
end
redis.call('SET', KEYS[1], ARGV[1])
return {'mine', ''}
"""

_MOVING = """
local holder = redis.call('GET', KEYS[1])
local boot = holder and string.match(holder, '^(.-)/')
local moving = boot and redis.call('EXISTS', ARGV[1] .. boot) == 1
if not moving and redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if ARGV[2] then
  redis.call('SADD', KEYS[3], ARGV[2])
  redis.call('EXPIRE', KEYS[3], ARGV[3])
end
return 1
"""

_WITHDRAW = """
redis.call('DEL', KEYS[1])
if ARGV[1] == 'all' then
  local waiters = redis.call('SMEMBERS', KEYS[2])
  redis.call('DEL', KEYS[2])
  return waiters
end
local leader = redis.call('SPOP', KEYS[2])
if leader then return {leader} end
return {}
"""

_FINISH = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
local waiters = redis.call('SMEMBERS', KEYS[3])
redis.call('DEL', KEYS[3])
return waiters
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

_GIVE_UP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
redis.call('DEL', KEYS[1])
local hopeless = false
if ARGV[2] == 'corrupt' then
  hopeless = redis.call('INCR', KEYS[3]) >= tonumber(ARGV[4])
  redis.call('EXPIRE', KEYS[3], ARGV[3])
elseif ARGV[2] == 'missing' then
  redis.call('SET', KEYS[4], '1', 'EX', ARGV[3])
end
if hopeless then
  local waiters = redis.call('SMEMBERS', KEYS[2])
  redis.call('DEL', KEYS[2])
  return waiters
end
local leader = redis.call('SPOP', KEYS[2])
if leader then return {leader} end
return {}
"""


class RedisClaims:
    """Claims over one region's Redis."""

    def __init__(self, redis: Any, *, prefix: str = "transship:") -> None:
        self._redis = redis
        self._prefix = prefix
        self._claim = redis.register_script(_CLAIM)
        self._moving = redis.register_script(_MOVING)
        self._withdraw = redis.register_script(_WITHDRAW)
        self._finish = redis.register_script(_FINISH)
        self._give_up = redis.register_script(_GIVE_UP)
        self._release = redis.register_script(_RELEASE)
        self._owed: deque[tuple[str, str]] = deque()

    def keep_alive(self, boot: str, seconds: float) -> None:
        """Renew the only lease that a process's claims have, and let go of claims that are owed.

        A claim is owed when Redis did not answer to its taking or its release: while its owner lives,
        nobody else could take it.
        """
        self._redis.set(self._alive() + boot, "1", px=int(seconds * 1000))
        while self._owed:
            key, token = self._owed[0]
            self._release(keys=[key], args=[token])
            self._owed.popleft()

    def bury(self, boot: str) -> None:
        """Let the claims of a process that ends go at once."""
        self._redis.delete(self._alive() + boot)

    def claim(
        self,
        registry: str,
        scope: str,
        digest: str,
        token: str,
        *,
        source: tuple[str, str] = ("", ""),
        ahead: bool = False,
    ) -> tuple[ClaimState, str]:
        """Take the claim on a blob for a destination registry; `source` is where it would come from.

        `ahead`: for an errand, which need not wait for what errands bring.
        """
        if without("lease"):
            return ClaimState.MINE, ""
        keys = [
            self._key("claim", registry, scope, digest),
            self._key("done", registry, scope, digest),
            *self._bad(source, digest),
            self._key("ahead", registry, scope, digest),
        ]
        args = [token, self._alive(), CORRUPT_READS, "ahead" if ahead else ""]
        with self._owing(keys[:1], token):  # it may have been taken, and the answer lost
            state, detail = self._claim(keys=keys, args=args)
        return ClaimState(_text(state)), _text(detail)

    def forgive(self, execution: str, source: tuple[str, str], digest: str) -> bool:
        """Forget that a blob was bad at its source before an execution was made, once for each; whether this call did.

        What was found bad since is not read again: many may want it in that execution.
        """
        age = 1000 * (time.time() - made_at(execution))
        forgiven = [
            key
            for key in self._bad(source, digest)
            if (left := int(self._redis.pttl(key))) > 0
            and 1000 * CORRUPT_SECONDS - left > age
            and self._redis.set(f"{key}:forgiven:{execution}", "1", nx=True, ex=CORRUPT_SECONDS)
        ]
        if forgiven:
            self._redis.delete(*forgiven)
        return bool(forgiven)

    def wait(self, registry: str, scope: str, digest: str, copy: int) -> bool:
        """Register a copy that waits, unless nobody alive holds the claim and no errand is to bring the blob."""
        keys = [self._key(kind, registry, scope, digest) for kind in ("claim", "ahead", "waiters")]
        return bool(self._moving(keys=keys, args=[self._alive(), copy, WAITERS_SECONDS]))

    def announce(self, places: Sequence[tuple[str, str]], digest: str, seconds: float) -> None:
        """Have copies wait for so long for a blob that errands are to bring to registries (each with its scope)."""
        pipe = self._redis.pipeline(transaction=False)
        for registry, scope in places:
            pipe.set(self._key("ahead", registry, scope, digest), "", px=int(seconds * 1000))
        pipe.execute()

    def withdraw(self, registry: str, scope: str, digest: str, *, placed: bool) -> list[int]:
        """Have nobody wait for an errand any more; returns who waited: all of them, or who leads now."""
        keys = [self._key(kind, registry, scope, digest) for kind in ("ahead", "waiters")]
        woken = self._withdraw(keys=keys, args=["all" if placed else "one"])
        return [int(copy) for copy in woken]

    def state(self, registry: str, scope: str, digest: str) -> ClaimState:
        """Return how a claim would end, without taking it: HELD, DONE, or MINE for a free blob."""
        if self._redis.exists(self._key("done", registry, scope, digest)):
            return ClaimState.DONE
        return ClaimState.HELD if self.moving(registry, scope, digest) else ClaimState.MINE

    def moving(self, registry: str, scope: str, digest: str) -> bool:
        """Whether a live process is moving the blob now, or an errand is to bring it."""
        keys = [self._key(kind, registry, scope, digest) for kind in ("claim", "ahead")]
        return bool(self._moving(keys=keys, args=[self._alive()]))

    def finish(
        self, registry: str, scope: str, digests: Sequence[str], token: str, repository: str
    ) -> list[int]:
        """Turn claims into done markers (120 s) and return all copies that waited for them."""
        pipe = self._redis.pipeline(transaction=False)
        claimed = []
        for digest in digests:
            keys = [
                self._key(kind, registry, scope, digest) for kind in ("claim", "done", "waiters")
            ]
            claimed.append(keys[0])
            self._finish(keys=keys, args=[token, repository, DONE_SECONDS], client=pipe)
        with self._owing(claimed, token):
            return [int(copy) for waiters in pipe.execute() for copy in waiters]

    def give_up(
        self,
        registry: str,
        scope: str,
        digest: str,
        token: str,
        *,
        corrupt: bool = False,
        missing: bool = False,
        source: tuple[str, str] = ("", ""),
    ) -> list[int]:
        """Let a claim go; one waiter is promoted, or all are woken when the blob is hopeless.

        A blob read wrong is counted by source registry, one that is missing is remembered by source
        repository: others may have it.
        """
        keys = [
            self._key("claim", registry, scope, digest),
            self._key("waiters", registry, scope, digest),
            *self._bad(source, digest),
        ]
        why = "corrupt" if corrupt else "missing" if missing else ""
        with self._owing(keys[:1], token):
            return [
                int(copy)
                for copy in self._give_up(
                    keys=keys, args=[token, why, CORRUPT_SECONDS, CORRUPT_READS]
                )
            ]

    @contextmanager
    def _owing(self, keys: Sequence[str], token: str) -> Iterator[None]:
        try:
            yield
        except RedisError:
            self._owed.extend((key, token) for key in keys)
            raise

    # ---- the epoch: tells whether Redis has lost its memory --------------------------------------

    def epoch(self) -> str:
        """Return the random value that stands in Redis since it was first used; '' when it is gone.

        And the server's own run id: a replica that takes over has the value, and may lack what was
        written last, as a server may that was started from its file again.
        """
        asked = self._redis.pipeline(transaction=False).get(self._prefix + "epoch").info("server")
        value, about = asked.execute(raise_on_error=False)
        if isinstance(value, Exception):
            raise value
        if value is None:
            return ""
        server = about.get("run_id", "") if isinstance(about, dict) else ""  # INFO may be forbidden
        return f"{_text(value)}/{_text(server)}"

    def new_epoch(self) -> str:
        """Put a new random value; the one that stands afterwards is returned."""
        self._redis.set(self._prefix + "epoch", os.urandom(12).hex(), nx=True)
        return self.epoch()

    def forget_epoch(self) -> None:
        """Have it look as if Redis had lost its memory: messages may be lost, though nothing else is."""
        self._redis.delete(self._prefix + "epoch")

    def _alive(self) -> str:
        return self._prefix + "alive:"

    def _bad(self, source: tuple[str, str], digest: str) -> tuple[str, str]:
        """Return the keys of a blob's wrong reads at a registry, and of its absence in a repository."""
        registry, repository = source
        return (
            f"{self._prefix}corrupt:{registry}:{digest}",
            f"{self._prefix}missing:{registry}:{repository}:{digest}",
        )

    def _key(self, kind: str, registry: str, scope: str, digest: str) -> str:
        return f"{self._prefix}{kind}:{registry}:{scope}:{digest}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
