"""Deletions as they stand in the store, without a registry behind them."""

from __future__ import annotations

from dataclasses import replace

from service.bootstrap import Services
from service.model.rule import DeletePolicy
from service.store.creation import new_id
from service.store.deletion_values import WAITING, Scan, WrittenTag


def waiting_deletion(services: Services, rule: str, *names: str) -> str:
    """Make a deletion of these tags of a saved rule that waits for an approval."""
    stored = services.rules.get(rule).rule
    wanted = replace(stored, delete=DeletePolicy(enabled=True, cap_percent=0))
    identity = services.deletions.begin(Scan(wanted, new_id()), "west")
    tags = [
        WrittenTag(repository, tag, f"sha256:{'0' * 64}", stored.source, repository, tag)
        for repository, _, tag in (name.rpartition(":") for name in names)
    ]
    services.deletions.add(identity, tags, alarming=False)
    services.deletions.looked(identity)
    assert services.deletions.decide(identity) == WAITING
    return identity
