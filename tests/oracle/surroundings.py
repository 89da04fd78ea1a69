"""O4: nothing else is touched: what a rule does not name has the same bytes before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle.closure import Registry
from tests.oracle.pushes import Place


@dataclass(frozen=True)
class Snapshot:
    """Every tag of a registry with the sum of its manifest's bytes."""

    tags: dict[Place, str]

    @classmethod
    def of(cls, url: str, only: Callable[[str], bool] = lambda _: True) -> Snapshot:
        """Read the tags of all repositories that are to be looked at."""
        registry = Registry(url)
        try:
            tags = {}
            for repository in filter(only, registry.repositories()):
                for tag in registry.tags(repository):
                    manifest = registry.manifest(repository, tag)
                    raw = b"" if manifest is None else manifest.raw
                    tags[repository, tag] = hashlib.sha256(raw).hexdigest()
            return cls(tags)
        finally:
            registry.close()

    def changed_to(self, after: Snapshot) -> list[str]:
        """Return what became of these tags, and which are new; one sentence each."""
        found = []
        for place in sorted(self.tags.keys() | after.tags.keys()):
            name = f"{place[0]}:{place[1]}"
            if place not in after.tags:
                found.append(f"{name} is gone, and no rule names it")
            elif place not in self.tags:
                found.append(f"{name} has come, and no rule names it")
            elif self.tags[place] != after.tags[place]:
                found.append(f"{name} names other bytes, and no rule names it")
        return found
