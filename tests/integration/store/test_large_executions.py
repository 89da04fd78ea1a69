"""What the console asks of an execution is answered by indexes, however many copies there are (issue 9, point 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from service.model.states import CopyState
from service.store.copy_details import CopyDetails
from service.store.database import Database
from service.store.executions import ExecutionStore
from service.store.failure_counts import FailureCounts
from service.store.figures import FigureStore
from service.store.history import HistoryStore
from tests.integration.store.builders import Plot

Ask = Callable[[Database, str, int], object]

QUESTIONS: dict[str, Ask] = {
    "a page of copies": lambda db, run, one: ExecutionStore(db).copies(run, after=one, limit=50),
    "a page of failed copies": lambda db, run, one: ExecutionStore(db).copies(
        run, states=[CopyState.FAILED], after=one, limit=50
    ),
    "totals": lambda db, run, one: ExecutionStore(db).totals(run),
    "failures by class": lambda db, run, one: FailureCounts(db).by_class([run]),
    "failures": lambda db, run, one: FailureCounts(db).failed([run], 50),
    "one copy": lambda db, run, one: CopyDetails(db).get(run, one),
    "bytes lately": lambda db, run, one: FigureStore(db).bytes_lately(60),
    "the last hour": lambda db, run, one: HistoryStore(db).hour(),
    "open copies": lambda db, run, one: FigureStore(db).open_copies(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_the_copies_of_other_executions(plot: Plot, question: str) -> None:
    execution = plot.planned("v1")
    (copy,) = ExecutionStore(plot.database).copies(execution)
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "FROM copies" in statement:
            asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        QUESTIONS[question](plot.database, execution, copy.id)
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert asked
    lite = plot.database.is_sqlite
    with plot.database.read() as connection:
        if not lite:  # so small a table is read whole, whatever its indexes
            connection.execute(text("SET enable_seqscan = off"))
        for statement, parameters in asked:
            explain = "EXPLAIN QUERY PLAN" if lite else "EXPLAIN"
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            plan = "\n".join(str(row[-1]) for row in rows)
            assert ("SCAN copies" if lite else "Seq Scan on copies") not in plan, plan
        if not lite:
            connection.execute(text("RESET enable_seqscan"))
