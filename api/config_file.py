"""`transship.yaml`: registries and rules in a file, every error with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, ClassVar

from marshmallow import fields

from api.schemas.common import Path, StrictSchema, load, under
from api.schemas.fields import Items, Whole
from api.schemas.registry import load_registry, written_registry
from api.schemas.rule import DefaultsSchema, load_rule
from api.yaml_lines import MAX_BYTES, Lines, line_of, read_yaml
from service.errors import FieldProblem, InvalidConfiguration, InvalidFields
from service.model.endpoint import RegistryEndpoint
from service.model.rule import SyncRule
from service.model.rule_check import check_rule

_KEY = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Config:
    """A file's registries and rules, in the file's order, with what was written for each.

    `documents` is keyed by ("registries" | "rules", name); a rule's document has the file's
    defaults in it. `lines` gives the line of each path, for errors that come up later.
    """

    source: str
    registries: tuple[RegistryEndpoint, ...]
    rules: tuple[SyncRule, ...]
    documents: Mapping[tuple[str, str], dict[str, Any]]
    lines: Lines = field(repr=False)


class FileSchema(StrictSchema):
    """The file's top level; its items are read one by one."""

    absent: ClassVar[Mapping[str, str]] = {
        "regions": "give registries a region by name",
        "links": "leave it out",
        "projects": "leave it out",
    }
    version = Whole(least=1, most=1, required=True)
    registries = Items(fields.Raw(), most=10_000)
    defaults = fields.Nested(DefaultsSchema)
    rules = Items(fields.Raw(), most=10_000)


def load_file(path: str | os.PathLike[str]) -> Config:
    """Read a file; raises InvalidConfiguration, naming file, line and field, and what to do."""
    file = FilePath(path)
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidConfiguration(f"{file}: cannot be read: {reason}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = FieldProblem("", "this is not UTF-8", "save the file as UTF-8", line)
        raise InvalidFields((problem,), source=str(file)) from error
    return load_text(text, source=str(file))


def load_text(text: str, *, source: str = "transship.yaml") -> Config:
    """Read a file's text; raises as load_file does."""
    document, lines = read_yaml(text, source)
    reading = _Reading(source, lines)
    top = reading.attempt((), lambda: load(FileSchema(), document))
    if not isinstance(document, dict):
        raise reading.error()
    defaults = {} if top is None else top.get("defaults", {})
    registries = reading.registries(_items(document, "registries"))
    rules = reading.rules(_items(document, "rules"), defaults)
    if not reading.problems:
        reading.check_rules(rules, registries)
    if reading.problems:
        raise reading.error()
    return Config(source, tuple(registries), tuple(rules), reading.documents, lines)


class _Reading:
    """One reading of one file: goes on after an error, so that all are told at once."""

    def __init__(self, source: str, lines: Lines) -> None:
        self.source = source
        self.lines = lines
        self.problems: list[FieldProblem] = []
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self._places: dict[str, int] = {}

    def error(self) -> InvalidFields:
        ordered = sorted(self.problems, key=lambda problem: problem.line or 0)
        return InvalidFields(tuple(ordered), source=self.source)

    def tell(self, prefix: Path, problems: Iterable[FieldProblem]) -> None:
        for problem in problems:
            whole = under(prefix, problem.path)
            line = line_of(self.lines, (*prefix, *_keys(problem.path)))
            self.problems.append(FieldProblem(whole, problem.message, problem.hint, line))

    def attempt(self, prefix: Path, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InvalidFields as error:
            self.tell(prefix, error.problems)
            return None

    def _twice(self, kind: str, index: int, name: str) -> bool:
        if (kind, name) not in self.documents:
            self._places[f"{kind}/{name}"] = index
            return False
        first = line_of(self.lines, (kind, self._places[f"{kind}/{name}"], "name"))
        self.tell(
            (kind, index),
            [FieldProblem("name", f"{name!r} stands twice, first in line {first}", "rename one")],
        )
        return True

    def registries(self, documents: list[Any]) -> list[RegistryEndpoint]:
        found: list[RegistryEndpoint] = []
        for index, document in enumerate(documents):
            read = self._registry(index, document)
            if read is None or self._twice("registries", index, read.name):
                continue
            self.documents["registries", read.name] = written_registry(document)
            found.append(read)
        return found

    def _registry(self, index: int, document: Any) -> RegistryEndpoint | None:
        loaded = self.attempt(("registries", index), lambda: load_registry(document, in_file=True))
        return None if loaded is None else loaded.endpoint

    def rules(self, documents: list[Any], defaults: Mapping[str, Any]) -> list[SyncRule]:
        found: list[SyncRule] = []
        for index, document in enumerate(documents):
            rule = self._rule(index, document, defaults)
            if rule is None or self._twice("rules", index, rule.name):
                continue
            self.documents["rules", rule.name] = {**defaults, **document}
            found.append(rule)
        return found

    def _rule(self, index: int, document: Any, defaults: Mapping[str, Any]) -> SyncRule | None:
        rule: SyncRule | None = self.attempt(
            ("rules", index), lambda: load_rule(document, defaults)
        )
        return rule

    def check_rules(self, rules: list[SyncRule], registries: list[RegistryEndpoint]) -> None:
        endpoints = {endpoint.name: endpoint for endpoint in registries}
        for rule in rules:
            prefix: Path = ("rules", self._places[f"rules/{rule.name}"])
            self.tell(prefix, check_rule(rule, endpoints))


def _items(document: Mapping[str, Any], key: str) -> list[Any]:
    items = document.get(key)
    return items if isinstance(items, list) else []


def _keys(path: str) -> Path:
    """Take a spelled path apart again."""
    return tuple(
        int(match[2]) if match[2] is not None else match[1] for match in _KEY.finditer(path)
    )
