"""What a migration says: names, windows, and how long the rest takes."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from service.model.migration import Migration, Namespace, Wave, Window, Work, seconds_left
from service.model.rule import NameFilter, Selection

MIB = 1 << 20


def migration(**fields: object) -> Migration:
    return Migration("move", "east", "west", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "repository", "taken"),
    [
        ("team", "team", True),
        ("team", "team/app", True),
        ("team", "team-b/app", False),
        ("team/*", "team/app", True),
        ("team/*", "team/a/b", False),
        ("**", "anything/at/all", True),
    ],
)
def test_a_namespace_is_a_glob_or_a_prefix(source: str, repository: str, taken: bool) -> None:
    assert Namespace(source, "{repository}").takes(repository) is taken


def test_the_first_namespace_that_suits_names_a_repository_and_an_entry_of_its_own_comes_before() -> (
    None
):
    one = migration(
        select=(
            Selection(NameFilter(("team/app",)), NameFilter(("v1",)), to_repository="special"),
            Selection(NameFilter(("**",), exclude=("tmp/**",))),
        ),
        namespaces=(Namespace("team", "a/{name}"), Namespace("team/**", "b/{name}")),
    )

    entries = one.entries(["team/app", "team/web", "other", "tmp/x"])

    told = [(entry.repositories.include, entry.to_repository) for entry in entries]
    assert told == [
        (("team/app",), "special"),
        (("team/app", "team/web"), "a/{name}"),
        (("other",), None),
    ]
    assert not one.wants("tmp/x")
    assert one.named_repositories() is None
    exact = migration(select=(Selection(NameFilter(("a", "b"), exclude=("b",))),))
    assert exact.named_repositories() == ("a",)


def test_a_wave_without_conditions_takes_the_rest() -> None:
    assert Wave("rest").is_rest
    assert Wave("rest").takes("anything")
    assert not Wave("large", max_bytes=1).is_rest
    assert not Wave("some", ("team/*",)).takes("other/app")


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-27T20:00", True),  # a Friday
        ("2026-11-27T19:59", False),
        ("2026-11-28T05:59", True),  # begun on Friday
        ("2026-11-28T06:00", False),
        ("2026-11-28T21:00", False),
        ("2026-11-29T12:00", True),  # all Sunday
    ],
)
def test_windows_are_open_in_their_hours_and_on_their_days(moment: str, is_open: bool) -> None:
    one = migration(windows=(Window(20 * 60, 6 * 60, (0, 1, 2, 3, 4)), Window(days=(6,))))

    assert one.open_at(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is is_open
    assert migration().open_at(datetime.fromisoformat(moment))


@pytest.mark.parametrize("seconds_a_tag", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("bandwidth", [5 * MIB, 100 * MIB])
@pytest.mark.parametrize("present", [0.0, 0.4])
def test_after_a_twentieth_of_the_bytes_the_time_left_is_known_to_a_fifth(
    seconds_a_tag: float, bandwidth: int, present: float
) -> None:
    """Issue 8, scale. Fleets of drawn sizes over simulated links, some of them at the destination in part."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(5):
        _simulate(dice, seconds_a_tag, bandwidth, present)


def _simulate(dice: random.Random, seconds_a_tag: float, bandwidth: int, present: float) -> None:
    base = 60 * MIB  # in each image, copied once
    tops = [min(200 * MIB, int(dice.lognormvariate(1.5, 0.9) * MIB)) for _ in range(4000)]
    there = {number for number in range(len(tops)) if dice.random() < present}
    total = Work(base + sum(tops), sum(base + top for top in tops), len(tops))
    moments = []
    unique, logical, clock = 0, 0, 0.0
    for number, top in enumerate(tops):
        moved = (base if number == 0 else 0) + (0 if number in there else top)
        unique, logical = unique + moved, logical + base + top
        clock += moved / bandwidth + seconds_a_tag
        moments.append((clock, Work(unique, logical, number + 1)))
    for elapsed, done in moments:
        if done.unique < total.unique / 20 or done.tags < len(tops) / 20:
            continue
        left = seconds_left(total, done, elapsed)
        assert left is not None
        whole = elapsed + left
        if not there:
            assert abs(whole - clock) <= 0.2 * clock, (elapsed, left, clock)
        else:  # what is there already is not known before it is met: the rest looks longer than it is
            assert 0.8 * clock <= whole <= 2.5 * clock
    assert seconds_left(total, moments[-1][1], clock) == 0


def test_there_is_no_estimate_before_anything_is_done_and_none_left_at_the_end() -> None:
    total = Work(100, 300, 2)

    assert seconds_left(total, Work(), 5) is None
    assert seconds_left(total, Work(100, 300, 2), 5) == 0
    assert seconds_left(total, Work(0, 300, 2), 5) == 0, "all of it was there"
