"""Commands that the documentation, hints and answers name exist, with the options that they are given (issue 9 point 6).

That a command does what a page says is carried out by tests/e2e/test_how_to.py and tests/e2e/test_tutorial.py. A
block of kind `sh` is not: it needs what a test has not, and the line before it says what.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from api.cli.main import cli

ROOT = Path(__file__).parents[2]
PROSE = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CODE = sorted(
    path for folder in ("service", "workers", "api") for path in (ROOT / folder).rglob("*.py")
)
NOT_RUN = "Not run by the tests: "
"""What the line before a block of kind `sh` begins with; the reason follows."""


def _spoken(text: str) -> Iterator[str]:
    """Every command line of ours in a page: in its blocks, and between backticks."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind in ("console", "sh", "yaml"):
            joined = block.replace("\\\n", " ")
            yield from re.findall(
                r"(?:^ *|[(|] *|&& )(?:[A-Z_]+=\S+ )*transship ([a-z][^\n|;&>)]*)",
                joined,
                re.MULTILINE,
            )
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`transship ([a-z][^`]*?)(?: \| [^`]*)?`", prose)


def fault(line: str) -> str | None:
    """What is wrong with a command line, or nothing. Placeholders may stand for any argument."""
    try:
        words = shlex.split(line.replace("...", " "), comments=True)
    except ValueError:
        words = line.split()
    command: click.Command = cli
    context = click.Context(cli, info_name="transship")
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        word = words.pop(0)
        names = [name for name in word.split("|") if name]  # `list|show`: any of them
        found = [command.get_command(context, name) for name in names]
        if not names or None in found:
            return f"no such command: {word}" if not word.isupper() else None
        command = next(one for one in found if one is not None)
        context = click.Context(command, info_name=word, parent=context)
    options = {
        name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)
    }
    for word in words:
        option = word.strip("[]").split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in options:
            return f"no such option: {option}"
    return None


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_a_page_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # what was, too
    wrong = {line: fault(line) for line in _spoken(page.read_text("utf-8"))}

    assert {line: why for line, why in wrong.items() if why} == {}


def test_commands_of_hints_exist() -> None:
    wrong = {}
    for path in CODE:
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text("utf-8"))
        for line in re.findall(r"`transship ([a-z][^`\n]*)`", text):
            why = fault(re.sub(r"\{[^}]*\}", "X", line))
            if why:
                wrong[path.relative_to(ROOT).as_posix(), line] = why

    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("wait IMAGE --in west --timeout 5m", None),
        ("executions ls|show X", None),
        ("nonsense", "no such command: nonsense"),
        ("executions nonsense", "no such command: nonsense"),
        ("wait IMAGE --within west", "no such option: --within"),
    ],
)
def test_what_is_wrong_is_found(line: str, why: str | None) -> None:
    assert fault(line) == why


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    text = page.read_text("utf-8")
    silent = [
        match[2].splitlines()[0]
        for match in re.finditer(r"([^\n]*)\n\n?^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if NOT_RUN not in match[1]
    ]

    assert silent == []
