"""Counters of a process: each outcome moves what it stands for by what it says."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.model.states import BlobState, CopyState
from service.model.work import (
    BlobPlaced,
    CopyEnded,
    CopyPostponed,
    CopyRef,
    CopyWork,
    Counters,
    LedgerDistrusted,
    PartBlob,
    PartEnded,
    PartWork,
    Wake,
)
from service.replication.metrics import Metrics

WORK = CopyWork(
    CopyRef(1, 1), "e", "r", "local", "a", "x/y", "v1", "b", "x/y", "v1", "", True, True, True, False, 0, 0
)  # fmt: skip


def told(registry: CollectorRegistry) -> dict[str, float]:
    """All samples that are not 0, by name and labels' values."""
    return {
        " ".join([sample.name.removeprefix("transship_"), *sample.labels.values()]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.value
    }


def test_copy_that_ended() -> None:
    metrics = Metrics()
    counters = Counters(
        blobs_copied=3, blobs_mounted=1, bytes_copied=500, bytes_saved=70, requests={"a": 7}, crossed={"a": 500}
    )  # fmt: skip

    metrics.count([CopyEnded(WORK, CopyState.COPIED, counters)])
    metrics.count([CopyEnded(WORK, CopyState.FAILED, Counters(), failure_class="denied")])

    assert told(metrics.registry) == {
        "copies_total r local b copied": 1,
        "copies_total r local b failed": 1,
        "copy_failures_total r b denied": 1,
        "blobs_total b copied": 3,
        "blobs_total b mounted": 1,
        "bytes_total r local copied": 500,
        "bytes_total r local saved": 70,
        "crossed_bytes_total r a b": 500,
        "requests_total a": 7,
    }


def test_copy_that_is_to_be_tried_again() -> None:
    metrics = Metrics()

    metrics.count(
        [
            CopyPostponed(WORK, Counters(), failed=True, failure_class="server"),
            CopyPostponed(WORK, Counters(), failed=True),
            CopyPostponed(WORK, Counters(requests={"b": 1}), replanned=True),
        ]
    )

    assert told(metrics.registry) == {
        "copy_retries_total b server": 1,
        "copy_retries_total b other": 1,
        "requests_total b": 1,
    }


def test_part_of_a_copy() -> None:
    metrics = Metrics()
    part = PartWork(WORK, 1, (PartBlob("sha256:" + "0" * 64, 9, "layer"),))
    placed = (BlobPlaced(part.blobs[0].digest, BlobState.COPIED),)

    metrics.count(
        [PartEnded(part, Counters(blobs_copied=1, bytes_copied=9, crossed={"c": 9}), placed)]
    )

    assert told(metrics.registry) == {
        "blobs_total b copied": 1,
        "bytes_total r local copied": 9,
        "crossed_bytes_total r c b": 9,
    }


def test_what_is_of_no_copy_moves_nothing() -> None:
    metrics = Metrics()

    metrics.count([LedgerDistrusted("b", "", "gone"), Wake((1,))])

    assert told(metrics.registry) == {}
