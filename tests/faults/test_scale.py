"""Hundreds of rules of one minute: each starts once, and every execution ends (reliability section 3)."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from sqlalchemy import func, select, update

from service.model.states import ExecutionState
from service.store.clock import now_epoch
from service.store.tables import executions, rules
from tests.faults.lab import PREFIX, Lab
from tests.oracle.closure import Place, check
from tests.support.processes import wait_until

RULES = int(os.environ.get("SCALE_RULES", "100"))
IMAGES = 50


@pytest.mark.timeout(300 + RULES // 4)
def test_hundreds_of_rules_of_one_minute_start_once_and_all_their_executions_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Lab(tmp_path_factory.mktemp("scale")) as lab:
        lab.start("api")
        scene = lab.scene("scale")
        for number in range(IMAGES):
            scene.push(f"app{number}:v1", (3_000,))
        expected: list[dict[Place, Place]] = [{} for _ in range(-(-RULES // IMAGES))]
        for number in range(RULES):
            source = (f"scale/app{number % IMAGES}", "v1")
            target = f"{PREFIX}{number % 10}/scale/{number}"
            body = {
                "source": "east",
                "select": [{"repositories": [source[0]], "tags": ["v1"]}],
                "destinations": [{"registry": "west", "repository": target}],
                "trigger": {"schedule": "0 3 1 1 *"},
            }
            lab.ask("PUT", f"/rules/scale-{number}", body)
            expected[number // IMAGES][source] = (target, "v1")
        database = lab.database
        due = update(rules).where(rules.c.name != "scale").values(next_run_at=now_epoch() - 1)
        database.write(lambda connection: connection.execute(due))

        def made() -> Counter[str]:
            with database.read() as connection:
                return Counter(connection.execute(select(executions.c.rule)).scalars())

        began = time.monotonic()
        lab.start("scheduler")
        wait_until(lambda: len(made()) >= RULES, 60, "an execution of every rule")
        print(f"{RULES} rules of one minute had started after {time.monotonic() - began:.1f} s")

        began = time.monotonic()
        lab.start("worker")
        done = (ExecutionState.SUCCEEDED, ExecutionState.FAILED, ExecutionState.PARTIAL)

        def ended() -> int:
            query = select(func.count()).where(executions.c.state.in_(done))
            with database.read() as connection:
                return int(connection.execute(query).scalar_one())

        wait_until(lambda: ended() >= RULES, 180 + RULES // 4, "the end of every execution")
        print(f"{RULES} executions ended after {time.monotonic() - began:.1f} s")

        assert set(made().values()) == {1}, "a rule was started twice for one minute"
        with database.read() as connection:
            states = Counter(connection.execute(select(executions.c.state)).scalars())
        assert states == {ExecutionState.SUCCEEDED: RULES}
        for some in expected:
            report = check(lab.source.url, lab.destination.url, some, extra=False)
            assert report.faults == [], str(report)
            assert report.tags == len(some)
