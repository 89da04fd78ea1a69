"""What tests wait with: nobody else's port, patience on a busy machine, and what a stop of this process cost."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.load import Stalls, busy
from tests.support.processes import free_port, wait_until


def test_no_port_comes_twice_and_none_is_one_that_the_kernel_hands_out() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
    assert max(ports) < low


def test_a_bound_is_kept_and_a_deadline_is_stretched() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"waited 0\.1 s in vain for what never comes"):
        wait_until(lambda: False, 0.1, "what never comes", bound=True)
    assert wait_until(lambda: time.monotonic() > began + 0.5, 0.1)


def test_what_this_process_slept_through_is_known() -> None:
    with Stalls() as stalls:
        began = time.monotonic()
        stop = f"kill -STOP {os.getpid()}; sleep 0.3; kill -CONT {os.getpid()}"
        subprocess.run(["sh", "-c", stop], check=True, timeout=30)
        ended = time.monotonic()
        wait_until(lambda: stalls.seconds(began, ended) > 0.2, what="the stop to be noted")
    assert stalls.seconds(began, ended) < ended - began + 0.1
    assert stalls.seconds(began - 2, began - 1) == 0


def test_a_machine_is_never_less_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    assert busy() == 1.0
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * (os.cpu_count() or 1), 0.0, 0.0))
    assert busy() == 3.0
