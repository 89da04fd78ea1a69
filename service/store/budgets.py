"""Budgets of the fleet in Redis: each process leases its part for a moment, in one script.

The parts never add up to more than the budget: who asks gets its fair part by demand, or what the
others have left; less than half of its fair part is none yet, since the others give theirs up within half a
second, and who held to a rest of next to nothing would wait for minutes. A registry that says "too much" halves a
rate that grows back (AIMD). All of it may be lost at any time: the next leases make it anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from service.errors import StoreUnavailable
from service.model.budget import (
    LEASE_SECONDS,
    Budgets,
    Lease,
    Quota,
    Standing,
    Wish,
    floor,
    whole,
)
from service.model.endpoint import Limits
from service.store.redis_errors import is_redis_error

MIN_RATE = 5.0  # requests a second of the fleet that "too much" does not go below by itself
EPOCH_SECONDS = 1.0  # several answers of one congestion are one
LIFT_FACTOR = 8.0  # grown to so many times what it was cut to, a rate is no bound any more
KEEP_SECONDS = 3600

# Fields: "cut", "cut_at", "blocked", "quota" (left/limit/seconds/at) and one a process: demand|rate|concurrency|bandwidth|until|sent
_COMMON = """
local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end
local function cap(key, now)
  local cut = tonumber(redis.call('HGET', key, 'cut') or '0')
  if cut <= 0 then return nil end
  local at = tonumber(redis.call('HGET', key, 'cut_at') or '0')
  local blocked = tonumber(redis.call('HGET', key, 'blocked') or '0')
  local grown = cut + math.max(0, now - math.max(at, blocked)) * math.max(1, cut / 10)
  if grown >= cut * tonumber(LIFT) then
    redis.call('HDEL', key, 'cut', 'cut_at')
    return nil
  end
  return grown
end
"""

_LEASE = """
local LIFT = ARGV[9]
COMMON
local key, boot, now = KEYS[1], ARGV[1], clock()
local demand, in_use, sent = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local rate, slots, bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local all = redis.call('HGETALL', key)
local total, others, starving = demand, {0, 0, 0}, false
for i = 1, #all, 2 do
  if all[i] ~= boot and string.find(all[i + 1], '|', 1, true) then
    local d, r, c, b, untl = string.match(all[i + 1], '^(.-)|(.-)|(.-)|(.-)|(.-)|')
    if tonumber(untl) <= now then
      redis.call('HDEL', key, all[i])
    else
      total = total + tonumber(d)
      others[1] = others[1] + tonumber(r)
      others[2] = others[2] + tonumber(c)
      others[3] = others[3] + tonumber(b)
      if tonumber(c) == 0 then starving = true end
    end
  end
end
local fair = demand / math.max(total, 1)
local limit = cap(key, now)
if limit and (rate < 0 or limit < rate) then rate = limit end
local function part(budget, taken)
  if budget < 0 then return -1 end
  local left = math.min(budget * fair, budget - taken)
  if left < budget * fair / 2 then return 0 end
  return left
end
local r, b = part(rate, others[1]), part(bytes, others[3])
local c = -1
if slots >= 0 then
  local wanted = math.floor(slots * fair)
  if tonumber(ARGV[8]) < slots * fair - wanted then wanted = wanted + 1 end
  if wanted == 0 and not starving then wanted = 1 end
  c = math.max(in_use, math.min(wanted, slots - others[2]), 0)
end
local held = string.format('%d|%.6f|%d|%.6f|%.6f|%s', demand, math.max(r, 0), math.max(c, 0),
                           math.max(b, 0), now + tonumber(ARGV[10]), sent)
redis.call('HSET', key, boot, held)
redis.call('EXPIRE', key, ARGV[11])
local blocked = tonumber(redis.call('HGET', key, 'blocked') or '0')
return {tostring(r), tostring(c), tostring(b), tostring(math.max(0, blocked - now))}
"""

_THROTTLED = """
local LIFT = ARGV[5]
COMMON
local key, now = KEYS[1], clock()
local sent, wait = tonumber(ARGV[2]), tonumber(ARGV[3])
local blocked = tonumber(redis.call('HGET', key, 'blocked') or '0')
local at = tonumber(redis.call('HGET', key, 'cut_at') or '0')
local present = cap(key, now)
if now - math.max(at, blocked) >= tonumber(ARGV[6]) then
  if not present then
    present = sent
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local others = string.match(all[i + 1], '|([^|]*)$')
      if others and all[i] ~= ARGV[1] then present = present + tonumber(others) end
    end
  end
  redis.call('HSET', key, 'cut', tostring(math.max(tonumber(ARGV[4]), present / 2)), 'cut_at', tostring(now))
end
if wait > 0 and now + wait > blocked then redis.call('HSET', key, 'blocked', tostring(now + wait)) end
redis.call('EXPIRE', key, ARGV[7])
"""

_PACE = """
local LIFT = ARGV[3]
COMMON
local key, now = KEYS[1], clock()
local present = cap(key, now)
local wanted = tonumber(ARGV[1])
if present and present <= wanted then return end
redis.call('HSET', key, 'cut', tostring(wanted), 'cut_at', tostring(now + tonumber(ARGV[2])))
redis.call('EXPIRE', key, ARGV[4])
"""


_HEARD = """
local LIFT = 0
COMMON
redis.call('HSET', KEYS[1], 'quota', string.format('%s/%.3f', ARGV[1], clock()))
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

_STANDING = """
local LIFT = ARGV[1]
COMMON
local key, now = KEYS[1], clock()
local held = 0
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local untl = string.match(all[i + 1], '^.-|.-|.-|.-|(.-)|')
  if untl and tonumber(untl) > now then held = held + 1 end
end
local blocked = tonumber(redis.call('HGET', key, 'blocked') or '0')
return {tostring(cap(key, now) or -1), tostring(math.max(0, blocked - now)), tostring(held),
        redis.call('HGET', key, 'quota') or '', tostring(now)}
"""


class NoBudgets:
    """Where there is no Redis: every process keeps to its floor."""

    def lease(self, name: str, limits: Limits, wish: Wish) -> Lease:
        """Return the floor: nobody shares out anything."""
        del name, wish
        return floor(limits)

    def throttled(self, name: str, rate: float, retry_after_seconds: float) -> None:
        """Tell nobody: there is no fleet."""

    def pace(self, name: str, requests_per_second: float, seconds: float) -> None:
        """Tell nobody: there is no fleet."""

    def heard(self, name: str, quota: Quota) -> None:
        """Keep nothing: nobody looks."""


class LateBudgets:
    """For a process that is the whole fleet at first: each budget is its own until others come.

    Nothing is asked of the shared ones until then, or until a registry says "too much".
    """

    def __init__(self, shared: Callable[[], Budgets]) -> None:
        """`shared` opens the budgets that the fleet shares."""
        self._open = shared
        self._shared: Budgets | None = None

    def share(self) -> Budgets:
        """Share from now on."""
        if self._shared is None:
            self._shared = self._open()
        return self._shared

    def lease(self, name: str, limits: Limits, wish: Wish) -> Lease:
        """Return all of it, or this process's part. Raises StoreUnavailable."""
        return whole(limits) if self._shared is None else self._shared.lease(name, limits, wish)

    def throttled(self, name: str, rate: float, retry_after_seconds: float) -> None:
        """Have the fleet's rate halved, and kept. Raises StoreUnavailable."""
        self.share().throttled(name, rate, retry_after_seconds)

    def pace(self, name: str, requests_per_second: float, seconds: float) -> None:
        """Bound the fleet's rate for some seconds. Raises StoreUnavailable."""
        self.share().pace(name, requests_per_second, seconds)

    def heard(self, name: str, quota: Quota) -> None:
        """Keep a quota where others look, if there are any. Raises StoreUnavailable."""
        if self._shared is not None:
            self._shared.heard(name, quota)


class RedisBudgets:
    """Budgets in one region's Redis, leased by one process."""

    def __init__(self, redis: Any, boot: str, *, prefix: str = "transship:limits:") -> None:
        self._boot = boot
        self._prefix = prefix
        self._lease, self._throttled, self._pace, self._heard, self._standing = (
            redis.register_script(text.replace("COMMON", _COMMON))
            for text in (_LEASE, _THROTTLED, _PACE, _HEARD, _STANDING)
        )

    def lease(self, name: str, limits: Limits, wish: Wish) -> Lease:
        """Renew this process's part. Raises StoreUnavailable when Redis does not answer."""
        bounds = (limits.requests_per_second, limits.concurrency, limits.bandwidth)
        answer = self._ask(
            self._lease,
            name,
            self._boot,
            max(1, wish.demand),
            wish.in_use,
            f"{wish.rate:.3f}",
            *(-1 if bound is None else bound for bound in bounds),
            random.random(),  # noqa: S311 - who gets the odd slot
            LIFT_FACTOR,
            LEASE_SECONDS,
            KEEP_SECONDS,
        )
        rate, slots, bandwidth, blocked = (float(one) for one in answer)
        return Lease(
            None if rate < 0 else rate,
            None if slots < 0 else int(slots),
            None if bandwidth < 0 else bandwidth,
            blocked,
        )

    def throttled(self, name: str, rate: float, retry_after_seconds: float) -> None:
        """Halve the fleet's rate, and have it wait. Raises StoreUnavailable."""
        self._ask(
            self._throttled,
            name,
            self._boot,
            f"{rate:.3f}",
            retry_after_seconds,
            MIN_RATE,
            LIFT_FACTOR,
            EPOCH_SECONDS,
            KEEP_SECONDS,
        )

    def pace(self, name: str, requests_per_second: float, seconds: float) -> None:
        """Bound the fleet's rate for some seconds. Raises StoreUnavailable."""
        self._ask(self._pace, name, requests_per_second, seconds, LIFT_FACTOR, KEEP_SECONDS)

    def heard(self, name: str, quota: Quota) -> None:
        """Keep what a registry has said of its quota. Raises StoreUnavailable."""
        told = (quota.left, quota.limit, quota.seconds)
        text = "/".join("" if one is None else str(one) for one in told)
        self._ask(self._heard, name, text, KEEP_SECONDS)

    def standing(self, name: str) -> Standing:
        """Return where the fleet's limiter stands. Raises StoreUnavailable."""
        rate, blocked, held, quota, now = (
            one.decode() if isinstance(one, bytes) else str(one)
            for one in self._ask(self._standing, name, LIFT_FACTOR)
        )
        found = Standing(None if float(rate) < 0 else float(rate), float(blocked), int(float(held)))
        if not quota:
            return found
        left, limit, seconds, at = quota.split("/")
        told = Quota(
            int(float(left)),
            int(float(limit)) if limit else None,
            float(seconds) if seconds else None,
        )
        return replace(found, quota=told, quota_seconds=max(0.0, float(now) - float(at)))

    def _ask(self, script: Any, name: str, *arguments: object) -> Any:
        try:
            return script(keys=[self._prefix + name], args=list(arguments))
        except Exception as error:
            if not is_redis_error(error):
                raise
            raise StoreUnavailable(f"Redis does not answer: {error}") from error
