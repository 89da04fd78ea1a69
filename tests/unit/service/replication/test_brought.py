"""What the copies of a plan bring: the first to a registry, again to a repository of it, or anew."""

from __future__ import annotations

import random

from service.replication.brought import Brought, BroughtBlobs


def test_a_blob_is_brought_to_each_registry_once_and_is_nearby_for_its_other_repositories() -> None:
    with BroughtBlobs() as brought:
        assert brought.bring("west", "a", "sha256:1") is Brought.NOWHERE
        assert brought.bring("west", "a", "sha256:1") is Brought.HERE
        assert brought.bring("west", "b", "sha256:1") is Brought.NEARBY
        assert brought.bring("west", "b", "sha256:1") is Brought.HERE
        assert brought.bring("north", "a", "sha256:1") is Brought.NOWHERE
        assert brought.bring("west", "a", "sha256:2") is Brought.NOWHERE


def test_any_order_of_copies_gives_what_plain_sets_give() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    obtained: dict[tuple[str, str], set[str]] = {}
    with BroughtBlobs() as brought:
        for _ in range(5000):
            registry, repository = dice.choice(["west", "north"]), f"team/{dice.randint(0, 9)}"
            digest = f"sha256:{dice.randint(0, 300)}"
            repositories = obtained.setdefault((registry, digest), set())
            expected = Brought.NEARBY if repositories else Brought.NOWHERE
            if repository in repositories:
                expected = Brought.HERE
            repositories.add(repository)
            assert brought.bring(registry, repository, digest) is expected
