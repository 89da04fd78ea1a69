"""Children are started again when they die, and drain at the end whoever started them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from api.engine.children import Child, Children
from tests.support.processes import wait_until

DRAINS = """
import signal, sys, time
def end(*_):
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    time.sleep(60)
"""


def test_a_child_that_was_started_again_drains_at_the_end(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    children = Children()
    children.start(Child("child", [sys.executable, "-c", DRAINS], dict(os.environ), log))
    wait_until(lambda: log.read_text().count("up") == 1, 10, "the child")
    first = children.pids()["child"]

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: log.read_text().count("up") == 2, 10, "the child started again")
    second = children.pids()["child"]
    children.stop(60)

    assert second != first
    assert log.read_text().split() == ["up", "up", "drained"]
    assert not Path(f"/proc/{second}").exists()
