"""What a gateway serves: names under one domain, and the registries behind them (docs/adr/0031)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from service.errors import InvalidReference
from service.model.glob import compile_glob
from service.model.reference import validate_repository

ImagePlace = tuple[str, str]
"""A registry and a repository there."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """That names under a prefix are those of a registry, with `repository` in the prefix's place.

    `prefix` is whole parts of a name ("" is every name): `team` is of `team/app`, not of `teams/app`.
    """

    registry: str
    prefix: str = ""
    repository: str = ""

    def place_of(self, name: str) -> ImagePlace | None:
        """Return where a name of the gateway comes from; None where it is not under the prefix."""
        if not self.prefix:
            rest = name
        elif name == self.prefix:
            rest = ""
        elif name.startswith(f"{self.prefix}/"):
            rest = name[len(self.prefix) + 1 :]
        else:
            return None
        there = "/".join(part for part in (self.repository, rest) if part)
        try:
            return self.registry, validate_repository(there)
        except InvalidReference:
            return None


@dataclass(frozen=True)
class GatewayConfig:
    """The `gateway:` of transship.yaml.

    `url`: what clients call the gateway, for the address of its token endpoint; "": as their Host says.
    `anonymous`: patterns of names that need no token. `prefer`: registries that are asked before all
    others that have an image whole. `redirects`: whether a registry's own redirect of a blob is passed
    on, but for the registries of `stream`, which clients cannot reach.
    """

    names: tuple[NameRule, ...]
    url: str = ""
    anonymous: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    redirects: bool = True
    stream: tuple[str, ...] = field(default=())

    def place_of(self, name: str) -> ImagePlace | None:
        """Return the source of a name: of the longest prefix that it is under; None: it is not served."""
        for rule in self._ordered:
            place = rule.place_of(name)
            if place is not None:
                return place
        return None

    def is_anonymous(self, name: str) -> bool:
        """Whether anybody may read a name."""
        return any(matches(name) for matches in self._open)

    @cached_property
    def _ordered(self) -> Sequence[NameRule]:
        return sorted(self.names, key=lambda rule: -len(rule.prefix))

    @cached_property
    def _open(self) -> Sequence[Callable[[str], bool]]:
        return [compile_glob(pattern) for pattern in self.anonymous]
