"""What must hold between regions, the links that join them and the registries that name them."""

from __future__ import annotations

from collections.abc import Collection

from service.errors import FieldProblem
from service.model.endpoint import RegistryEndpoint
from service.model.region import Link
from service.model.rule_check import suggest


def check_nearer(endpoint: RegistryEndpoint, declared: Collection[str]) -> tuple[FieldProblem, ...]:
    """Return which of a registry's nearer addresses are for regions that nobody has declared.

    The registry's own `region` may be undeclared: it is foreign to all others then.
    """
    return tuple(
        _undeclared(f"endpoints.{nearer.region}", nearer.region, declared)
        for nearer in endpoint.endpoints
        if nearer.region not in declared
    )


def check_link(link: Link, declared: Collection[str]) -> tuple[FieldProblem, ...]:
    """Return which ends of a link nobody has declared."""
    return tuple(
        _undeclared(side, region, declared)
        for side, region in (("from", link.source), ("to", link.target))
        if region not in declared
    )


def _undeclared(path: str, region: str, declared: Collection[str]) -> FieldProblem:
    hint = suggest(region, declared) or "declare it under regions"
    return FieldProblem(path, f"there is no region {region!r}", hint)
