"""Counters of one process: what its copies came to, by rule, region, destination and link.

Labels are names that an administrator has given (rules, registries, regions), and closed lists (states, classes of
failures, ways): never a repository, a tag or a digest (reliability.md S34).
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from service.model.work import (
    CopyEnded,
    CopyPostponed,
    CopyWork,
    Counters,
    LedgerDistrusted,
    Outcome,
    PartEnded,
    Wake,
)

UNCLASSED = "other"


class Metrics:
    """What a worker did since it started; shown by `service.replication.metrics_server`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._copies = self._counter(
            "transship_copies",
            "Copies that ended, by state",
            "rule", "region", "destination", "state",
        )  # fmt: skip
        self._failures = self._counter(
            "transship_copy_failures",
            "Copies that ended failed, by class of failure",
            "rule", "destination", "class",
        )  # fmt: skip
        self._retries = self._counter(
            "transship_copy_retries",
            "Copies that are to be tried again later, by class of failure",
            "destination", "class",
        )  # fmt: skip
        self._blobs = self._counter("transship_blobs", "Blobs placed, by way", "destination", "way")
        self._bytes = self._counter(
            "transship_bytes", "Bytes read for a rule, and bytes saved", "rule", "region", "kind"
        )
        self._crossed = self._counter(
            "transship_crossed_bytes",
            "Bytes of blobs read at one registry for another",
            "rule",
            "from",
            "to",
        )
        self._requests = self._counter("transship_requests", "HTTP requests sent", "registry")

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Add what outcomes report."""
        for outcome in outcomes:
            if not isinstance(outcome, LedgerDistrusted | Wake):
                work = outcome.part.copy if isinstance(outcome, PartEnded) else outcome.work
                self._add(work, outcome.counters)
            if isinstance(outcome, CopyEnded):
                self._end(outcome)
            elif isinstance(outcome, CopyPostponed) and outcome.failed:
                kind = outcome.failure_class or UNCLASSED
                self._retries.labels(outcome.work.destination_registry, kind).inc()

    def _end(self, ended: CopyEnded) -> None:
        work = ended.work
        self._copies.labels(
            work.rule, work.region, work.destination_registry, ended.state.value
        ).inc()
        if ended.failure_class:
            self._failures.labels(work.rule, work.destination_registry, ended.failure_class).inc()

    def _add(self, work: CopyWork, counters: Counters) -> None:
        there = work.destination_registry
        for way, count in (
            ("copied", counters.blobs_copied),
            ("mounted", counters.blobs_mounted),
            ("present", counters.blobs_present),
        ):
            self._blobs.labels(there, way).inc(count)
        self._bytes.labels(work.rule, work.region, "copied").inc(counters.bytes_copied)
        self._bytes.labels(work.rule, work.region, "saved").inc(counters.bytes_saved)
        for registry, requests in counters.requests.items():
            self._requests.labels(registry).inc(requests)
        for sender, moved in counters.crossed.items():
            self._crossed.labels(work.rule, sender, there).inc(moved)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)
