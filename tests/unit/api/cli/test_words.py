"""What commands say of failures that are alike, and of runs that do not move."""

from __future__ import annotations

from collections.abc import Sequence

import click
import pytest

from api.cli.alike import alike
from api.cli.jobs import _watching
from api.cli.looking import _show_findings, show_plans
from api.cli.notes import notes
from api.cli.summary import print_failures
from api.cli.tables import drawn, show
from service.store.executions import Totals
from service.store.standing import Retry


def failure(repository: str, tag: str, reason: str, registry: str = "west") -> dict[str, object]:
    return {
        "rule": "fleet",
        "source": f"east/{repository}:{tag}",
        "destination": f"{registry}/mirror/{repository}:{tag}",
        "class": "auth",
        "reason": reason,
        "hint": "check the registry's credentials",
    }


def test_the_same_reason_is_one_whatever_names_it_has() -> None:
    groups = alike(
        [failure("team/app", f"v{n}", f"west refuses mirror/team/app:v{n}") for n in range(12)]
    )

    assert [(group.what(), group.example()) for group in groups] == [
        ("12 tags of west/mirror/team/app", " (first: west/mirror/team/app:v0)")
    ]


def test_other_reasons_and_other_destinations_stay_apart() -> None:
    groups = alike(
        [
            failure("a", "v1", "wrong"),
            failure("b", "v1", "wrong"),
            failure("a", "v1", "wrong", "north"),
            failure("a", "v2", "other"),
        ]
    )

    assert [group.what() for group in groups] == [
        "2 tags of 2 repositories at west",
        "north/mirror/a:v1",
        "west/mirror/a:v2",
    ]


def test_every_failure_is_counted_and_the_way_to_see_all_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_failures(
        [failure("team/app", f"v{n}", "wrong") for n in range(12)], 12, all_by="see --all"
    )
    said = capsys.readouterr().err

    assert said.count("wrong") == 1
    assert "12 tags of west/mirror/team/app: [auth] wrong (first: " in said
    assert "see --all shows each of the 12" in said


def test_a_pause_is_told_with_the_command_that_ends_it() -> None:
    hold = {"kind": "registry", "name": "west", "paused_at": "2026-01-31T12:00:00.000Z"}

    [said] = notes({"held_by": [hold]})

    assert said == (
        "registry west is paused since 2026-01-31T12:00:00Z: `transship registries resume west` "
        "lets it go on"
    )


def test_retries_are_told_with_their_reason_and_count() -> None:
    one = {
        "destination": "west",
        "class": "network",
        "reason": "destination west: cannot connect",
        "copies": 4,
        "tries": 3,
        "next_at": None,
    }

    assert notes({"retrying": [one]}) == [
        "destination west: cannot connect: 4 tags, 3 tries, trying now"
    ]


RUNS = (
    ("ID", "CREATED", "STATE", "SECONDS", "RULE", "WHAT", "REASON"),
    [
        ("0" * 24, "2026-01-31T12:00:00Z", "failed", "3.5", "fleet", "copy by schedule", "r " * 60),
        (
            "1" * 24,
            "2026-01-31T12:00:00Z",
            "succeeded",
            "3.5",
            "fleet-of-all-places",
            "verify by api",
            "",
        ),
    ],
)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_table_fits_its_terminal_and_breaks_only_prose(width: int) -> None:
    titles, rows = RUNS
    lines = [click.unstyle(line) for line in drawn(titles, rows, width)]
    text = "\n".join(lines)

    assert max(map(len, lines)) <= width
    for row in rows:
        assert any(line.startswith(row[0]) for line in lines)
        assert f"  {row[2]}" in text
    heading = titles if "REASON" in lines[0] else titles[:-1]
    assert lines[0].split() == list(heading)
    assert text.count("r ") + text.count("r\n") >= 60
    assert ("2026-01-31T12:00:00Z" in text) == (width >= 120)


def test_times_of_a_table_end_at_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"at": "2026-01-31T12:00:00.123Z"}], False, [("AT", lambda item: item["at"])])

    assert capsys.readouterr().out.split() == ["AT", "2026-01-31T12:00:00Z"]


@pytest.mark.parametrize(("state", "word"), [("stopped", "interrupted"), ("failed", "failed")])
def test_a_plan_that_has_no_figures_shows_none(
    state: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"rule": "fleet", "state": state, "seconds_needed": None, "copies": 0}

    show_plans({"plans": [plan], "problems": []}, carry_out="")

    assert capsys.readouterr().out == f"fleet: {word}: nothing is known of what it would copy\n"


def test_a_verification_that_was_interrupted_says_what_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = dict.fromkeys(("checked", "whole", "holes", "repaired", "unreachable"), 0)

    _show_findings({**counts, "state": "stopped", "failures": []})
    interrupted = capsys.readouterr().err
    _show_findings({**counts, "state": "succeeded", "failures": []})

    assert interrupted == "interrupted: nothing is known of what was not checked\n"
    assert capsys.readouterr().err == ""


def test_a_job_on_this_machine_tells_of_its_retries_too() -> None:
    told: list[Sequence[str]] = []
    watch = _watching(lambda _records, _totals, notes=(): told.append(notes))

    watch([], Totals(), [])
    watch([], Totals(), [Retry("west", "network", "destination west: gone", 2, 3, None)])

    assert told == [(), ["destination west: gone: 2 tags, 3 tries, trying now"]]
