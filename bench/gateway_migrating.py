"""Pulls while a migration runs, directly and through a gateway: the load `migrating` of bench/gateway.py (issue 10).

A `transship up` with the timers as shipped (API, scheduler, worker, Redis) moves all images of the old registry to a new
one: those that are pulled, and a fleet beside them. Each turn has a new registry of its own and an execution that
begins at nothing, so that each has the same before it. A turn counts only when copies were going on
all the time: one was there before the first pull, more came meanwhile, and some were left after the last.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.pulls import IMAGE, pulled, put_image
from bench.recovery import as_shipped
from service.model.states import ENDED_EXECUTIONS
from tests.support.gateway import beside, running_gateway
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up

SECONDS = 120.0
"""The longest that a migration takes to begin, or to stop."""


@dataclass
class Turn:
    """One way's pulls: seconds, and what the migration had done at their begin and at their end."""

    seconds: float
    copied_before: int
    copied_during: int
    left: int


def measure_migrating(
    small: list[str], pulls: list[str], rounds: int, cache: int, fleet: int
) -> dict[str, object]:
    """Pull `pulls`, each one of `small`, while these and `fleet` other images are moved; returns what is printed.

    Raises RuntimeError when a pull fails, and when a migration was over too early to say anything.
    """
    images = [*small, *(f"fleet/app{number}" for number in range(fleet))]
    turns: dict[str, list[Turn]] = {"direct": [], "gateway": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        old = stack.enter_context(RealRegistry())
        for repository in images:
            put_image(old, repository, IMAGE)
        up = stack.enter_context(running_up(folder, **as_shipped()))
        up.registry("old", old.url)
        kept = {"TRANSSHIP_GATEWAY_CACHE_BYTES": str(cache)}
        config = {"names": [{"registry": "old"}], "anonymous": ["**"]}
        gateway = stack.enter_context(
            running_gateway(folder, config, **beside(folder / "data"), **kept)
        )
        ports = {"direct": old.port, "gateway": gateway.port}
        for number in range(rounds):
            for way in ("direct", "gateway") if number % 2 == 0 else ("gateway", "direct"):
                with _migration(up, f"new-{number}-{way}") as new:
                    turns[way].append(_turn(new, images, ports[way], pulls))
    return _told(turns, len(images), pulls)


def _turn(new: RealRegistry, images: list[str], port: int, pulls: list[str]) -> Turn:
    before = wait_until(lambda: _whole(new, images), SECONDS, "the first copy")
    seconds = pulled(port, pulls).seconds
    after = _whole(new, images)
    turn = Turn(seconds, before, after - before, len(images) - after)
    if not turn.copied_during or turn.left <= 0:
        raise RuntimeError(f"the migration did not last as long as the pulls: {turn}")
    return turn


@contextlib.contextmanager
def _migration(up: Up, name: str) -> Iterator[RealRegistry]:
    """Have all images move to a registry of their own; what is left of that is stopped at the end."""
    with RealRegistry() as new:
        up.registry(name, new.url)
        up.rule(name, "old", name)
        up.ask("POST", f"/rules/{name}/executions")
        yield new
        for one in up.executions(rule=name):
            if one["state"] not in ENDED_EXECUTIONS:
                up.ask("POST", f"/executions/{one['id']}/stop")
        up.idle(SECONDS)
        up.ask("DELETE", f"/rules/{name}")
        up.ask("DELETE", f"/registries/{name}")


def _whole(registry: RealRegistry, images: list[str]) -> int:
    """How many of the images are whole there, by the registry's own files: the engine writes a tag last."""
    root = registry.storage_path / "docker/registry/v2/repositories"
    return sum((root / one / "_manifests/tags/v1/current/link").exists() for one in images)


def _told(turns: dict[str, list[Turn]], images: int, pulls: list[str]) -> dict[str, object]:
    pairs = list(zip(turns["direct"], turns["gateway"], strict=True))
    return {
        "pulls": len(pulls),
        "images_moved": images,
        "throughput_ratio": round(statistics.median(d.seconds / g.seconds for d, g in pairs), 2),
        "first_ratio": round(pairs[0][0].seconds / pairs[0][1].seconds, 2),
        **{
            way: {
                "seconds": round(statistics.median(one.seconds for one in found), 3),
                "each": [round(one.seconds, 3) for one in found],
                "copied_before": [one.copied_before for one in found],
                "copied_during": [one.copied_during for one in found],
                "left_at_the_end": [one.left for one in found],
            }
            for way, found in turns.items()
        },
    }
