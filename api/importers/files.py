"""The files that are imported: read strictly, with the line of each value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.importers.gathered import Place
from api.yaml_lines import MAX_BYTES, Lines, read_yaml
from service.errors import FieldProblem, InvalidConfiguration, InvalidFields


@dataclass(frozen=True)
class File:
    """A file's name, its text, and what it says; `document` is None for a list or CSV."""

    name: str
    text: str
    document: Any = None
    lines: Lines | None = None

    def at(self, *path: str | int) -> Place:
        """Return where a value stands, or its nearest surroundings."""
        lines = self.lines or {}
        while path and path not in lines:
            path = path[:-1]
        return Place(self.name, lines.get(path) if path else None)


def read(path: str, *, plain: bool = False) -> File:
    """Read a file, as lines of text where it is `plain`. Raises InvalidConfiguration and InvalidFields."""
    place = Path(path)
    try:
        with place.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfiguration(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        told = f"the file is larger than {MAX_BYTES} bytes"
        problem = FieldProblem("", told, "give it in several files, imported one by one")
        raise InvalidFields((problem,), source=path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = FieldProblem("", "this is not UTF-8", "save the file as UTF-8", line)
        raise InvalidFields((problem,), source=path) from error
    if plain:
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            problem = FieldProblem("", "holds a NUL: this is no text", "give a list in UTF-8", line)
            raise InvalidFields((problem,), source=path)
        return File(path, text)
    document, lines = read_yaml(text, path)
    return File(path, text, document, lines)
