"""contract:tokens. Copies of 20 s at every fake, whose tokens live 5 s: all at once, so that they cost 20 s once."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from api.samples.registry import WireFault
from service.registry.blob_copy import copy_blob
from tests.contract.claims import is_own
from tests.contract.leaks import secrets_of
from tests.contract.stands import STANDS, Stand, stand
from tests.integration.registry.support import blob, push

SECONDS = 20.0
LIFE_SECONDS = 5
BYTES_PER_SECOND = 256 << 10
LONG_SECONDS = 7  # of one blob: its token ends while it is on its way
BASIC = frozenset(
    {"harbor", "jfrog"}
)  # user and password; Harbor asks for them once a token has ended
LONG_TERM = frozenset({"ccr", "swr"})  # a fixed password, and one that is made from the key


@dataclass(frozen=True)
class Seen:
    """What one registry saw of a copy."""

    seconds: float
    blobs: int
    handed_out: int  # tokens and temporary passwords
    logins: int
    refused: Counter[str]  # by the Authorization that was refused


def copy_for_a_while(provider: str) -> Seen:
    with stand(provider) as made:
        return _copy(made)


def _copy(made: Stand) -> Seen:
    registry, client = made.registry, made.client()
    source, target = made.repository("source"), made.repository("target")
    for name in (source, target):
        push(client, name, "v0", b"first")
    registry.fault(
        "sha256:", method="GET", times=10_000, wire=WireFault(bytes_per_second=BYTES_PER_SECOND)
    )
    known = {one.text for one in secrets_of(registry)}
    actions = getattr(registry, "actions", [])
    begun, before = time.monotonic(), (len(registry.log), len(actions))
    layers = []
    while time.monotonic() - begun < SECONDS:
        seconds = LONG_SECONDS if not layers else 1
        data, descriptor = blob(seconds * BYTES_PER_SECOND, seed=len(layers))
        registry.storage.put_blob(source, str(descriptor.digest), data)
        copy_blob(client, source, client, target, descriptor)
        layers.append(data)
    ended = time.monotonic()
    pushed = push(client, target, "v1", *layers)
    found = registry.storage.manifest(target, "v1")
    assert found is not None
    assert found.digest == str(pushed.digest)
    return Seen(
        ended - begun,
        len(layers),
        len({one.text for one in secrets_of(registry)} - known),
        len([one for one in actions[before[1] :] if "Token" in one]),
        Counter(
            one.headers["authorization"]
            for one in registry.log[before[0] :]
            if one.status in (401, 403) and "authorization" in one.headers
        ),
    )


@pytest.mark.timeout(120)
def test_copies_of_20_s_outlive_tokens_of_5_s_at_every_fake() -> None:
    with ThreadPoolExecutor(len(STANDS)) as pool:
        found = dict(zip(STANDS, pool.map(copy_for_a_while, STANDS), strict=True))

    for provider, seen in found.items():
        assert seen.seconds >= SECONDS, provider
        assert seen.blobs >= 2, provider
        assert all(times == 1 for times in seen.refused.values()), (provider, seen)
        if provider in BASIC:
            assert seen.handed_out == 0, (provider, seen)
            assert len(seen.refused) <= 2, "a token each of two repositories"
            continue
        assert seen.handed_out >= SECONDS / LIFE_SECONDS - 1, (provider, seen)
        assert len(seen.refused) <= seen.handed_out, (provider, seen)
        if is_own(provider, "auth") and provider not in LONG_TERM:
            assert seen.logins >= SECONDS / LIFE_SECONDS - 1, (provider, seen)
            assert not [one for one in seen.refused if one.startswith("Basic")], provider
