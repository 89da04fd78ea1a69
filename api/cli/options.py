"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from service.errors import InvalidConfiguration


class Seconds(click.ParamType[float]):
    """A time as `30s`, `5m`, `1h`, or a number of seconds; it is read into seconds before anything is asked."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; anything else ends the command with exit code 2."""
        from api.schemas.fields import seconds

        if isinstance(value, float):
            return value
        text = str(value)
        try:
            return seconds(f"{text}s" if text[-1:].isdecimal() else text)
        except ValueError:
            self.fail(f"{text[:80]!r} is no time: write 30s, 5m or 1h", param, ctx)


SECONDS = Seconds()
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder of a `transship up` on this machine; else TRANSSHIP_URL and TRANSSHIP_TOKEN.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_FILES_HELP = "transship.yaml, a directory of such files, or - for standard input; may be repeated."
FILES = click.option(
    "-f",
    "--file",
    "files",
    required=True,
    multiple=True,
    type=click.Path(),
    help=_FILES_HELP,
)
MAYBE_FILES = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(),
    help=f"{_FILES_HELP} Without one, a server is asked.",
)


def part(name: str) -> str:
    """Return a name as one part of a path."""
    return quote(name, safe="")


def write(path: Path, text: str, option: str) -> None:
    """Write a file that an option names, whole or not at all. Raises InvalidConfiguration."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise InvalidConfiguration(
            f"{path} cannot be written: {error.strerror}",
            field=option,
            hint="name a file in a folder of yours",
        ) from None
