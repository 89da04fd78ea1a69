"""Hundreds of rules of one minute: each starts once, and every execution ends (reliability section 3)."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from service.model.states import CopyState, ExecutionState
from service.store.clock import now_epoch
from service.store.rules import RuleStore
from service.store.tables import copies, executions, rules
from tests.faults.lab import PREFIX, Lab
from tests.oracle.closure import Place, check
from tests.support.load import busy
from tests.support.processes import wait_until

DUE = int(os.environ.get("SCALE_DUE", "1000"))
RULES = int(os.environ.get("SCALE_RULES", "1000"))
REPOSITORIES, TAGS = 10, 10
FIRED_WITHIN_SECONDS = 10.0


def _made(lab: Lab) -> Counter[str]:
    """Return how many executions each rule has."""
    with lab.database.read() as connection:
        return Counter(connection.execute(select(executions.c.rule)).scalars())


def _sent(lab: Lab) -> bool:
    """Whether the scheduler has sent a planning to the queue."""
    with lab.database.read() as connection:
        return (
            connection.execute(select(executions).where(executions.c.plan_sent_at > 0)).first()
            is not None
        )


def _come_due(lab: Lab) -> None:
    """Have the minute of all rules but the lab's own begin."""
    due = update(rules).where(rules.c.name != "scale").values(next_run_at=now_epoch() - 1)
    lab.database.write(lambda connection: connection.execute(due))


def test_a_thousand_rules_of_one_minute_start_once_within_ten_seconds(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.start("api")
        lab.scene("scale", trigger={"schedule": "0 3 1 1 *"})
        store = RuleStore(lab.database)
        saved = store.get("scale")
        for number in range(DUE):
            store.put(replace(saved.rule, name=f"scale-{number}"), document=saved.document)
        lab.start("scheduler")
        lab.run("scale")
        wait_until(lambda: _sent(lab), 30, "the scheduler to be at work")

        _come_due(lab)
        began = time.monotonic()
        wait_until(lambda: len(_made(lab)) > DUE, 120, "an execution of every rule")
        took = time.monotonic() - began
        print(f"{DUE} rules of one minute had started after {took:.1f} s")

        assert set(_made(lab).values()) == {1}, "a rule was started twice for one minute"
        jobs = busy()
        assert took <= FIRED_WITHIN_SECONDS * jobs, f"on a machine with {jobs:.1f} jobs a core"


@pytest.mark.timeout(300 + RULES)
@pytest.mark.parametrize(
    "forgets",
    [
        pytest.param(False, id="all is well"),
        pytest.param(True, id="Redis forgets all half way", marks=pytest.mark.nightly),
    ],
)
def test_hundreds_of_executions_at_once_all_end_and_copy_ten_images_each(
    tmp_path: Path, forgets: bool
) -> None:
    with Lab(tmp_path) as lab:
        lab.start("api")
        scene = lab.scene("scale")
        for repository in range(REPOSITORIES):
            for tag in range(TAGS):
                scene.push(f"app{repository}:v{tag}", (3_000,), seed="one layer for all")
        expected: list[dict[Place, Place]] = [{} for _ in range(-(-RULES // REPOSITORIES))]
        for number in range(RULES):
            source = f"scale/app{number % REPOSITORIES}"
            target = f"{PREFIX}{number % 10}/scale/{number}"
            body = {
                "source": "east",
                "select": [{"repositories": [source]}],
                "destinations": [{"registry": "west", "repository": target}],
                "trigger": {"schedule": "0 3 1 1 *"},
            }
            lab.ask("PUT", f"/rules/scale-{number}", body)
            for tag in range(TAGS):
                expected[number // REPOSITORIES][source, f"v{tag}"] = (target, f"v{tag}")
        _come_due(lab)
        lab.start("scheduler")
        wait_until(lambda: len(_made(lab)) >= RULES, 120, "an execution of every rule")

        began = time.monotonic()
        lab.start("worker", "worker-2")
        done = (ExecutionState.SUCCEEDED, ExecutionState.FAILED, ExecutionState.PARTIAL)

        def ended() -> int:
            query = select(func.count()).where(executions.c.state.in_(done))
            with lab.database.read() as connection:
                return int(connection.execute(query).scalar_one())

        if forgets:
            wait_until(lambda: ended() >= RULES // 2, 200 + RULES, "half of the ends")
            lab.redis.kill()
            lab.redis.start()
            assert ended() < RULES, "all had ended before Redis was lost"
        wait_until(lambda: ended() >= RULES, 200 + RULES, "the end of every execution")
        took = time.monotonic() - began
        print(f"{RULES} executions of {TAGS} copies each ended after {took:.1f} s")

        assert set(_made(lab).values()) == {1}, "a rule was started twice for one minute"
        with lab.database.read() as connection:
            ends = Counter(connection.execute(select(executions.c.state)).scalars())
            states = Counter(connection.execute(select(copies.c.state)).scalars())
        assert ends == {ExecutionState.SUCCEEDED: RULES}
        assert states == {CopyState.COPIED: RULES * TAGS}
        for some in expected:  # in turns: an oracle asks for the lists of its repositories at once
            report = check(lab.source.url, lab.destination.url, some, extra=False)
            assert report.faults == [], str(report)
            assert report.tags == len(some)
