"""What a run of tests has seen, printed at its end, and held to what was asked (reliability section 3).

Tests and the oracle count in the process that they run in; each report carries its test's share to the
process that prints, so that the lanes of one run add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.crashpoints import POINTS
from service.protections import PROTECTIONS
from tests.oracle.counts import COUNTS

PROPERTY = "seen"
KILLED, BITTEN, FALSE = "killed at ", "red without ", "false successes"
PLANTED = "tests/faults/test_teeth.py::test_without_it"
"""Tests whose false successes are made on purpose, so that the oracle finds them."""

NOT_THE_PRODUCT = (
    "tests/unit/",
    "tests/integration/test_good_layouts.py",
    "tests/integration/test_fault_tools.py",
)
"""Tests of the oracle itself: what it reads there counts for nothing."""

ASKED = {
    "fault scenarios": 120,
    "chaos seeds": 30,
    "simulated runs": 2000,
    "crash points killed": len(POINTS),
    "protections that turned a scenario red": len(PROTECTIONS),
}
"""What a whole run of CI has to reach; false successes have to be none."""


def killed(point: str) -> None:
    """Count that a process died at a crash point; its test goes on to ask the oracle."""
    COUNTS[KILLED + point] += 1


def bitten(protection: str) -> None:
    """Count that the oracle found what is wrong without a protection."""
    COUNTS[BITTEN + protection] += 1


def take() -> dict[str, int]:
    """Return what was counted since the last call."""
    share = dict(COUNTS)
    COUNTS.clear()
    return share


@dataclass
class Tally:
    """The sum over a run."""

    seen: Counter[str] = field(default_factory=Counter)

    def add(self, report: Any) -> None:
        """Add what a test's report carries: a pytest.TestReport of any phase."""
        name = report.nodeid
        if report.when == "call" and report.passed:
            self.seen["fault scenarios"] += name.startswith("tests/faults/")
            self.seen["chaos seeds"] += name.startswith("tests/faults/test_chaos.py")
        if report.when != "teardown" or name.startswith(NOT_THE_PRODUCT):
            return
        for key, share in report.user_properties:
            if key == PROPERTY:
                planted = {FALSE} if name.startswith(PLANTED) else set()
                self.seen.update({what: n for what, n in share.items() if what not in planted})

    def figures(self) -> dict[str, int]:
        """Return each figure by its name: those that are asked for, and what the oracle read."""
        keys = list(self.seen)
        told = {
            "fault scenarios": self.seen["fault scenarios"],
            "chaos seeds": self.seen["chaos seeds"],
            "simulated runs": self.seen["simulated runs"],
            "crash points killed": sum(key.startswith(KILLED) for key in keys),
            "protections that turned a scenario red": sum(key.startswith(BITTEN) for key in keys),
        }
        read = ("copies judged", "tags", "manifests", "blobs", "bytes", FALSE)
        return told | {name: self.seen[name] for name in read}

    def lines(self) -> Iterator[str]:
        """Tell the figures; nothing when the oracle was not asked."""
        if not self.seen["tags"]:
            return
        for name, value in self.figures().items():
            asked = f" of {ASKED[name]} asked" if name in ASKED else ""
            yield f"{value:>14,} {name}{asked}"

    def short(self) -> list[str]:
        """Return what a whole run lacks; one sentence each."""
        figures = self.figures()
        found = [
            f"{figures[name]} {name}, {asked} are asked for"
            for name, asked in ASKED.items()
            if figures[name] < asked
        ]
        missed = sorted(point for point in POINTS if KILLED + point not in self.seen)
        found += [f"nobody was killed at {point}" for point in missed]
        if figures[FALSE]:
            found.append(f"{figures[FALSE]} false successes")
        return found


class Plugin:
    """Adds the reports of one run up, and prints the sum at its end."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.tally = Tally()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Iterator[None]:
        report = yield
        if call.when == "teardown" and (share := take()):
            report.user_properties = [*report.user_properties, (PROPERTY, share)]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tally.add(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        at_work = hasattr(session.config, "workerinput")  # a lane, which reports to who prints
        if self.strict and not at_work and not session.exitstatus and self.tally.short():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = list(self.tally.lines())
        if lines:
            terminalreporter.section("what was seen")
        short = self.tally.short() if self.strict else []
        for line in (*lines, *(f"SHORT: {one}" for one in short)):
            terminalreporter.write_line(line)
