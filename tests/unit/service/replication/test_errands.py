"""How large blobs double among registries that are equally near."""

from __future__ import annotations

from collections import Counter

from service.model.work import Errand, Follower, PartBlob
from service.replication import ahead, errands

HEAD = -1


def spread(count: int, blobs: int) -> tuple[Counter[int], int]:
    """How often each of `count` registries sends when blobs double among them, and the most rounds."""
    sent: Counter[int] = Counter()
    most = 0
    for number in range(blobs):
        blob = PartBlob(f"sha256:{number:064x}", 1, "")
        turns = errands.in_turn(blob, [Follower(n, f"r{n}", "", "") for n in range(count)])
        begun = Errand(blob, HEAD, tuple(one.copy for one in turns), lead=True)
        waiting = [(begun, 1)]
        while waiting:
            errand, depth = waiting.pop()
            most = max(most, depth)
            sent[errand.holder] += 1
            waiting += [(one, depth + 1) for one in ahead.shared(errand) if one.followers]
    return sent, most


def test_each_registry_sends_about_what_it_gets() -> None:
    sent, rounds = spread(count=7, blobs=2000)

    assert sent.pop(HEAD) == 2000, "who feeds them all sends each blob once"
    assert sum(sent.values()) == 6 * 2000
    assert max(sent.values()) < 1.1 * min(sent.values())
    assert rounds == 4
