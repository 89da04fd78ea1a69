"""Examinations: a question is taken once, answered once, and nobody waits for ever."""

from __future__ import annotations

import pytest

from service.errors import NetworkError, NotFoundInStore
from service.store.database import Database
from service.store.examinations import ExaminationStore, Question
from service.store.tables_regions import examinations
from tests.integration.store.builders import Plot, in_threads

QUESTION = Question("east", "scratch", write=False)
FINDING = {"name": "ping", "result": "yes", "detail": "", "means": "it speaks\0"}


@pytest.fixture
def store(database: Database) -> ExaminationStore:
    return ExaminationStore(database)


def test_question_is_taken_by_one_and_answered(store: ExaminationStore) -> None:
    asked = store.ask(QUESTION, "eu", seconds=60)

    taken = in_threads(4, lambda number: store.begin(asked.id, f"boot-{number}"))
    running = store.get(asked.id)
    store.end(asked.id, [FINDING])
    ended = store.get(asked.id)

    assert [one for one in taken if one] == [QUESTION]
    assert (asked.state, running.state, ended.state) == ("pending", "running", "ended")
    assert running.worker.startswith("boot-")
    assert ended.findings[0]["name"] == "ping"
    assert ended.ended_at is not None
    assert (ended.region, ended.question) == ("eu", QUESTION)


def test_reason_is_the_answer_where_nothing_was_found(store: ExaminationStore) -> None:
    asked = store.ask(QUESTION, "eu", seconds=60)
    store.begin(asked.id, "boot-a")

    store.fail(asked.id, NetworkError("it is away", hint="look at it"))
    store.end(asked.id, [FINDING])

    found = store.get(asked.id)
    assert (found.state, found.reason, found.hint) == ("failed", "it is away", "look at it")
    assert found.findings == ()


def test_nobody_takes_what_nobody_waits_for(store: ExaminationStore, plot: Plot) -> None:
    asked, taken = (store.ask(QUESTION, "eu", seconds=60) for _ in range(2))
    store.begin(taken.id, "boot-a")
    plot.ago(examinations, "deadline_at", 61)

    assert store.begin(asked.id, "boot-a") is None
    assert [store.get(one.id).state for one in (asked, taken)] == ["expired", "expired"]
    assert "no worker of region eu took it" in store.get(asked.id).reason
    assert "transship regions show eu" in store.get(asked.id).hint
    assert "boot-a took it and did not answer" in store.get(taken.id).reason
    assert "the registry east may be silent" in store.get(taken.id).hint
    store.end(taken.id, [FINDING])
    assert store.get(taken.id).state == "ended", "a late answer is one, too"


def test_old_ones_go_when_a_new_one_comes(store: ExaminationStore, plot: Plot) -> None:
    asked = store.ask(QUESTION, "eu", seconds=60)
    plot.ago(examinations, "deadline_at", 2 * 86_400)

    store.ask(QUESTION, "eu", seconds=60)

    with pytest.raises(NotFoundInStore):
        store.get(asked.id)
