"""Shared by all tests: no setting leaks in from outside, and no skip goes unnoticed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.tally import Plugin

SKIPS = Path(__file__).with_name("skips.txt")

os.environ.setdefault("TEST_RUN_SEED", str(random.SystemRandom().randrange(1 << 31)))
"""What names of tests are drawn with: the processes of one run (pytest -n) have to draw the same."""

settings.register_profile("run", max_examples=int(os.environ.get("EXAMPLES", "100")))
settings.load_profile("run")

for _name in [name for name in os.environ if name.startswith("TRANSSHIP_")]:
    del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail every skipped test that tests/skips.txt does not list with its reason",
    )
    parser.addoption(
        "--strict-counts",
        action="store_true",
        help="fail a run whose counts are below those that were asked of a whole one",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Plugin(strict=config.getoption("strict_counts")), "tally")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _judge(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _judge(report, collector.config)
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not config.getoption("strict_skips"):
        return
    if report.nodeid.startswith(listed_skips(SKIPS.read_text("utf-8"))):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{reason}\nA skip that tests/skips.txt does not list counts as a failure."


def listed_skips(text: str) -> tuple[str, ...]:
    """The node ids, or prefixes of them, in a list of `node id # reason` lines."""
    listed = []
    for line in text.splitlines():
        node, mark, reason = line.partition(" # ")
        if not line.strip() or line.startswith("#"):
            continue
        if not mark or not reason.strip() or not node.strip():
            raise ValueError(f"tests/skips.txt: no reason in {line!r}")
        listed.append(node.strip())
    return tuple(listed)
