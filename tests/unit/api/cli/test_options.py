"""Options that many commands share: a time is judged before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from api.cli.main import cli
from api.cli.options import SECONDS


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}".strip())


def test_every_timeout_is_judged_before_its_command_begins() -> None:
    found = {
        path: option.type
        for path, command in commands(cli)
        for option in command.params
        if "--timeout" in option.opts
    }

    assert {"promote", "promotions show", "promotions rollback", "wait", "plan"} <= set(found)
    assert {path for path, kind in found.items() if kind is not SECONDS} == set()


@pytest.mark.parametrize("said", ["bogus", "-1", "nan", "inf", "5 minutes", "", "1e3"])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter, match="write 30s, 5m or 1h"):
        SECONDS.convert(said, None, None)


@pytest.mark.parametrize(
    ("said", "seconds"), [("30s", 30.0), ("5m", 300.0), ("2.5", 2.5), ("7", 7.0)]
)
def test_a_time_is_read_into_seconds(said: str, seconds: float) -> None:
    assert SECONDS.convert(said, None, None) == seconds
