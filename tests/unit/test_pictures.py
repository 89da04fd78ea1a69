"""The pictures of the documentation: each is shown somewhere, says in words what it shows, and is small."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
MOST_BYTES = 80_000
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def shown() -> dict[Path, list[str]]:
    """Each picture that a page shows, with the words that stand for it."""
    found: dict[Path, list[str]] = {}
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for words, target in SHOWN.findall(page.read_text("utf-8")):
            found.setdefault((page.parent / target).resolve(), []).append(words)
    return found


def test_every_picture_is_shown_and_every_one_that_is_shown_exists() -> None:
    there = {file.resolve() for file in FOLDER.iterdir()}

    assert len(there) > 5
    assert set(shown()) == there


def test_every_picture_is_told_in_words() -> None:
    assert [
        (file.name, words) for file, all_ in shown().items() for words in all_ if len(words) < 30
    ] == []


def test_pictures_of_the_console_are_small_and_of_one_size() -> None:
    for file in FOLDER.glob("*.png"):
        raw = file.read_bytes()
        assert raw.startswith(b"\x89PNG\r\n\x1a\n"), file.name
        assert len(raw) < MOST_BYTES, file.name
        assert (int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")) == (1280, 800)
