"""What a run has seen is added up over its lanes, printed, and held to what was asked (tests/support/tally.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.crashpoints import POINTS
from service.protections import PROTECTIONS
from tests.oracle.states import judge_executions
from tests.support.tally import ASKED, BITTEN, KILLED, PROPERTY, Plugin, Tally, killed, take

WHOLE = {
    "simulated runs": ASKED["simulated runs"],
    "tags": 900,
    **{KILLED + point: 1 for point in POINTS},
    **{BITTEN + name: 2 for name in PROTECTIONS},
}
ENDED = {"id": "e1", "state": "succeeded"}
COPY = {"destination": "west/app:v1", "state": "copied"}


def report(name: str, when: str, share: dict[str, int] | None = None) -> Any:
    properties = [] if share is None else [(PROPERTY, share)]
    return SimpleNamespace(nodeid=name, when=when, passed=True, user_properties=properties)


def whole() -> Tally:
    tally = Tally()
    for number in range(ASKED["fault scenarios"]):
        tally.add(report(f"tests/faults/test_chaos.py::test[{number}]", "call"))
    half = {name: -(-n // 2) for name, n in WHOLE.items()}
    for lane in ("tests/faults/test_a.py::test", "tests/integration/test_b.py::test"):
        tally.add(report(lane, "teardown", half))
    return tally


def test_a_whole_run_lacks_nothing_and_tells_its_figures() -> None:
    tally = whole()

    assert tally.short() == []
    assert f"{900:>14,} tags" in list(tally.lines())
    assert f"{len(POINTS):>14,} crash points killed of {len(POINTS)} asked" in list(tally.lines())


@pytest.mark.parametrize("what", sorted(WHOLE))  # in all lanes in one order
def test_what_is_below_its_number_is_told(what: str) -> None:
    tally = whole()
    tally.seen[what] -= 1
    if tally.seen[what] == 0 or what.startswith((KILLED, BITTEN)):
        del tally.seen[what]

    short = " ".join(tally.short())

    if what == "tags":
        assert not short
    elif what.startswith(KILLED):
        assert f"nobody was killed at {what.removeprefix(KILLED)}" in short
    else:
        assert "are asked for" in short


def test_a_false_success_is_counted_except_where_it_was_planted() -> None:
    take()
    assert judge_executions([ENDED], {"e1": [COPY]}, holes=["west/app:v1"])
    share = take()

    tally = whole()
    tally.add(report("tests/unit/oracle/test_books.py::test", "teardown", share))
    tally.add(report("tests/faults/test_teeth.py::test_without_it_x[a]", "teardown", share))
    assert tally.short() == []
    tally.add(report("tests/faults/test_moves.py::test", "teardown", share))

    assert share == {"copies judged": 1, "false successes": 1}
    assert tally.short() == ["1 false successes"]
    assert tally.figures()["copies judged"] == 2


def test_a_test_carries_what_was_counted_in_its_report() -> None:
    take()
    killed("blob.leased")
    hook = Plugin(strict=True).pytest_runtest_makereport(SimpleNamespace(when="teardown"))  # type: ignore[arg-type]
    next(hook)
    with pytest.raises(StopIteration) as done:
        hook.send(report("tests/faults/test_a.py::test", "teardown"))  # type: ignore[arg-type, attr-defined]

    assert done.value.value.user_properties == [(PROPERTY, {f"{KILLED}blob.leased": 1})]
    assert take() == {}
