from __future__ import annotations

from service.registry.answer_times import ENOUGH, WINDOW, AnswerTimes


def test_the_quickest_of_lately_counts_however_late_most_answers_are() -> None:
    times = AnswerTimes()
    times.note("manifest", 0.002)
    for _ in range(WINDOW - 1):
        times.note("manifest", 0.3)

    assert times.quickest("manifest") == 0.002


def test_what_was_quick_long_ago_is_forgotten() -> None:
    times = AnswerTimes()
    times.note("manifest", 0.002)
    for _ in range(3 * WINDOW):
        times.note("manifest", 0.3)

    assert times.quickest("manifest") == 0.3


def test_a_kind_is_told_by_itself_and_by_the_others_while_it_is_unknown() -> None:
    times = AnswerTimes()
    assert times.quickest("upload") == 0.0

    times.note("manifest", 0.002)
    times.note("mount", 0.004)
    assert times.quickest("upload") == 0.002

    for _ in range(ENOUGH - 1):
        times.note("upload", 0.2)
    assert times.quickest("upload") == 0.002
    times.note("upload", 0.2)
    assert times.quickest("upload") == 0.2
