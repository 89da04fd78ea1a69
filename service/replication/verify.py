"""Verify: what differs, and what is not whole behind an equal digest, as findings of an execution.

A verification is an execution of kind `verify`: it selects and compares as its rule does, walks what
is in place, and writes nothing to any registry. Each finding is a failed copy with its class:
`missing`, `stale` or `hole`; what could not be asked keeps the class of its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from service.errors import RegistryError
from service.model.digest import Digest
from service.model.states import CopyState
from service.model.work import LedgerDistrusted, Selected
from service.replication.clients import Clients, Meter
from service.replication.compare import Comparer, Comparison, InPlace, told
from service.replication.walk import Children, Remembered, holes
from service.store.work import SqlState

FINDINGS = ("missing", "stale", "hole")
HINT = "verify with --repair copies it again"


class Verifier:
    """Looks behind what a comparison found in place. One for an execution; safe between threads."""

    def __init__(
        self,
        source: str,
        clients: Clients,
        meter: Meter,
        state: SqlState,
        pool: ThreadPoolExecutor,
        *,
        referrers: bool,
        children: Callable[[int], Children],
    ) -> None:
        """`children` gives, for an entry of the rule, what has to be there of an index."""
        self._source = source
        self._clients = clients
        self._meter = meter
        self._state = state
        self._pool = pool
        self._referrers = referrers
        self._children = children
        self._remembered = Remembered()

    def look(self, result: Comparison, comparer: Comparer) -> None:
        """Turn a page's comparison into findings: what is whole stays in place, the rest is failed."""

        def walk(found: InPlace) -> Selected | None:
            with self._meter.collect(result.requests):
                return self._finding(found, comparer)

        in_place, result.in_place = result.in_place, []
        for found, finding in zip(in_place, self._pool.map(walk, in_place), strict=True):
            if finding is None:
                result.in_place.append(found)
            else:
                result.selected.append(finding)
        result.selected = [_as_finding(item) for item in result.selected]
        result.missing.clear()  # a verification only looks: the next run draws its conclusions

    def _finding(self, found: InPlace, comparer: Comparer) -> Selected | None:
        row = comparer.again(found)
        try:
            client = self._clients.get(found.registry)
            digest = Digest.parse(found.digest)
            lacks = holes(
                client,
                found.repository,
                digest,
                remembered=self._remembered,
                children=self._children(found.wanted.entry),
            )
            if not lacks and self._referrers:
                lacks = list(self._lost_referrers(found, digest))
        except RegistryError as error:
            return replace(
                row,
                state=CopyState.FAILED,
                failure_class=error.failure_class,
                reason=told(error, found.registry),
                hint=error.hint,
            )
        if not lacks:
            return None
        self._state.post(
            [
                LedgerDistrusted(
                    found.registry, self._clients.scope(found.registry), f"verified: {lacks[0]}"
                )
            ]
        )
        return replace(
            row,
            state=CopyState.FAILED,
            failure_class="hole",
            reason=_words(found.registry, lacks),
            hint=HINT,
        )

    def _lost_referrers(self, found: InPlace, digest: Digest) -> Iterable[str]:
        """Yield what refers to the image at the source and cannot be read at the destination."""
        source = self._clients.get(self._source)
        destination = self._clients.get(found.registry)
        for referrer in source.referrers(found.wanted.source_repository, digest) or ():
            if destination.head_manifest(found.repository, str(referrer.digest)) is None:
                yield f"referrer {referrer.digest} ({referrer.artifact_type}) is missing"


def _as_finding(item: Selected) -> Selected:
    if item.state is not CopyState.PENDING:
        return item
    if item.failure_class:  # it could not be compared, or lacks platforms
        return replace(item, state=CopyState.FAILED)
    name = f"{item.destination_repository}:{item.destination_reference}"
    if item.absent:
        return replace(
            item,
            state=CopyState.FAILED,
            failure_class="missing",
            reason=f"{item.destination_registry} has no {name}",
            hint=HINT,
        )
    return replace(
        item,
        state=CopyState.FAILED,
        failure_class="stale",
        reason=f"{item.destination_registry} has another digest under {name}",
        hint=HINT,
    )


def _words(registry: str, lacks: list[str]) -> str:
    more = f", and {len(lacks) - 3} more" if len(lacks) > 3 else ""
    return f"{registry}: {'; '.join(lacks[:3])}{more}"
