"""Counters of a process and the server that shows them."""

from __future__ import annotations

import httpx
import pytest

from service.errors import InvalidConfiguration
from service.model.states import CopyState
from service.model.work import CopyEnded, CopyRef, CopyWork, Counters
from service.replication.metrics import Metrics
from tests.support.processes import free_port

WORK = CopyWork(
    CopyRef(1, 1), "e", "r", "local", "a", "x/y", "v1", "b", "x/y", "v1", "", True, True, True, False, 0, 0
)  # fmt: skip


def test_what_outcomes_report_is_served() -> None:
    metrics = Metrics()
    counters = Counters(blobs_copied=3, blobs_mounted=1, bytes_copied=500, requests={"a": 7})
    listen = f"127.0.0.1:{free_port()}"

    metrics.count([CopyEnded(WORK, CopyState.COPIED, counters)])
    end = metrics.serve(listen)

    text = httpx.get(f"http://{listen}/metrics", trust_env=False).text
    assert 'transship_copies_total{state="copied"} 1.0' in text
    assert 'transship_blobs_total{way="copied"} 3.0' in text
    assert 'transship_bytes_total{kind="copied"} 500.0' in text
    assert 'transship_requests_total{registry="a"} 7.0' in text
    assert httpx.get(f"http://{listen}/healthz", trust_env=False).status_code == 200
    assert httpx.get(f"http://{listen}/", trust_env=False).status_code == 404
    end()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="TRANSSHIP_METRICS_LISTEN"):
        Metrics().serve("127.0.0.1:none")
