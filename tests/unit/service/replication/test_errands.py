"""How large blobs double among registries that are equally near."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from service.model.work import Errand, Follower, Holder, PartBlob
from service.replication import ahead, errands


def spread(count: int, blobs: int) -> tuple[Counter[str], int]:
    """How often each of `count` registries sends when blobs double among them, and the most rounds."""
    sent: Counter[str] = Counter()
    most = 0
    for number in range(blobs):
        blob = PartBlob(f"sha256:{number:064x}", 1, "")
        names = [Follower(n, f"r{n}", "", "") for n in range(count)]
        waiting = [
            (
                Errand(
                    blob, Holder("head", "", ""), tuple(errands.in_turn(blob, names)), lead=True
                ),
                1,
            )
        ]
        while waiting:
            errand, depth = waiting.pop()
            most = max(most, depth)
            sent[errand.holder.registry] += 1
            first = errand.followers[0]
            placed = replace(errand.holder, registry=first.registry)
            waiting += [(one, depth + 1) for one in ahead.shared(errand, placed) if one.followers]
    return sent, most


def test_each_registry_sends_about_what_it_gets() -> None:
    sent, rounds = spread(count=7, blobs=2000)

    assert sent.pop("head") == 2000, "who feeds them all sends each blob once"
    assert sum(sent.values()) == 6 * 2000
    assert max(sent.values()) < 1.1 * min(sent.values())
    assert rounds == 4
