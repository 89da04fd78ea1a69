"""YAML read strictly, with the line of every value.

Only plain data comes through (no tags of Python's), a key may stand once, and what anchors and
aliases may multiply is counted, so a small file cannot become a large document. The form of a
scalar is kept where YAML 1.1 would surprise: a date stays a text.
"""

from __future__ import annotations

from typing import Any

import yaml

from api.schemas.common import Path, spell
from service.errors import FieldProblem, InvalidFields

MAX_BYTES = 5_000_000
MAX_VALUES = 200_000
MAX_DEPTH = 32
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {"str", "int", "float", "bool", "null", "timestamp", "value"}

Lines = dict[Path, int]


def read_yaml(text: str, source: str) -> tuple[Any, Lines]:
    """Return the document and the line of each path in it, counted from 1.

    `source` is the file's name for messages. Raises InvalidFields with the line of what is wrong.
    """
    if len(text) > MAX_BYTES:
        raise _error(source, f"the file is larger than {MAX_BYTES} bytes", None)
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what, hint = plain_words(error)
        raise _error(source, what, mark.line + 1 if mark else None, hint) from error
    except yaml.YAMLError as error:
        raise _error(source, f"this is not YAML: {_first_line(error)}", None) from error
    except RecursionError as error:
        raise _error(source, "the document is nested too deeply", None) from error
    if node is None:
        raise _error(source, "the file is empty", None, 'it begins with "version: 1"')
    reader = _Reader(source)
    return reader.value(node, ()), reader.lines


def _compose(text: str) -> yaml.Node | None:
    """Read the nodes by libyaml where it is there, ten times as fast; what it refuses is told in PyYAML's words."""
    if yaml.__with_libyaml__:
        try:
            return yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            pass
    return yaml.compose(text, Loader=yaml.SafeLoader)


_WORDS = (  # what PyYAML says, what a person would say, and what to do
    ("'\\t'", "a tab stands where YAML takes spaces only", "indent with spaces"),
    (
        "mapping values are not allowed here",
        "a ':' stands where no value can begin",
        "look at the indentation of this line and the one before, and put texts with ': ' in quotes",
    ),
    (
        "could not find expected ':'",
        "a key without its ':'",
        "write `key: value`; a text that goes over several lines needs quotes or a | after the colon",
    ),
    (
        "expected <block end>, but found '-'",
        "a list item stands deeper or less deep than the items before it",
        "give every `-` of one list the same indentation",
    ),
    (
        "expected <block end>",
        "this line does not belong to what stands around it",
        "give the keys of one object the same indentation",
    ),
    (
        "expected ',' or ']'",
        "a list that was opened with [ is not closed",
        "end it with ], with commas between the items; put globs such as *-rc* in quotes",
    ),
    (
        "expected ',' or '}'",
        "an object that was opened with { is not closed",
        "end it with }, with commas between the pairs; put texts with {, }, : or , in quotes",
    ),
    (
        "found unexpected end of stream",
        "a text in quotes is not closed",
        "end it with the same quote that it began with",
    ),
    (
        "found unknown escape character",
        "a backslash in double quotes makes an escape that YAML does not know",
        "put patterns in single quotes: '^v\\d+'",
    ),
    (
        "expected alphabetic or numeric character",
        "a text begins with * or &, which YAML keeps for aliases and anchors",
        'put it in quotes: "*-rc*"',
    ),
    (
        "found undefined alias",
        "an alias names an anchor that does not stand above it",
        'a glob that begins with * needs quotes: "*-rc*"',
    ),
    (
        "found character '%' that cannot start any token",
        "a text begins with %",
        "put it in quotes",
    ),
    (
        "that cannot start any token",
        "a text begins with a character that YAML keeps for itself (@, `, %)",
        "put it in quotes",
    ),
    (
        "but found another document",
        "a second document begins here",
        "leave out the line ---, or give several files with several -f",
    ),
    ("found duplicate anchor", "an anchor stands twice", "give each & a name of its own"),
)


def plain_words(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    """Return what is wrong with the text in plain words, and what to do about it."""
    told = " ".join(part for part in (error.context, error.problem, error.note) if part)
    for words, what, hint in _WORDS:
        if words in told:
            return f"this is not YAML: {what}", hint
    return f"this is not YAML: {error.problem or error.context or 'it cannot be read'}", ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _error(
    source: str, message: str, line: int | None, hint: str = "", path: Path = ()
) -> InvalidFields:
    return InvalidFields((FieldProblem(spell(path), message, hint, line),), source=source)


class _Reader:
    """Turns nodes into values, remembering lines."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: Lines = {}
        self._count = 0
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_VALUES:
            raise _error(self.source, f"more than {MAX_VALUES} values, aliases counted", line)
        if len(path) > MAX_DEPTH:
            raise _error(self.source, f"nested deeper than {MAX_DEPTH}", line, path=path[:3])
        kind = node.tag.removeprefix(_PREFIX)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
            return self._scalar(node, kind, path)
        raise _error(
            self.source, f"the tag {node.tag!r} is not allowed", line, "write plain values", path
        )

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: Path) -> Any:
        if kind in {"timestamp", "value", "str"}:
            return node.value
        try:
            return self._scalars.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            line = node.start_mark.line + 1
            raise _error(
                self.source, f"{node.value[:40]!r} cannot be read", line, path=path
            ) from error

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_PREFIX}merge":
                continue
            key = self._key(key_node, path)
            inner = (*path, key)
            line = key_node.start_mark.line + 1
            if key in result:
                raise _error(
                    self.source,
                    f"the key stands twice, first in line {self.lines[inner]}",
                    line,
                    "leave one of them out",
                    inner,
                )
            self.lines[inner] = line
            result[key] = self.value(value_node, inner)
        return self._merged(node, path, result)

    def _key(self, node: yaml.Node, path: Path) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _error(self.source, "a key must be a text", node.start_mark.line + 1, path=path)
        key: str = node.value
        return key

    def _merged(self, node: yaml.MappingNode, path: Path, result: dict[str, Any]) -> dict[str, Any]:
        """Put the keys of `<<: *anchor` beneath the mapping's own."""
        for key_node, value_node in node.value:
            if key_node.tag != f"{_PREFIX}merge":
                continue
            below = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for inner in below:
                if not isinstance(inner, yaml.MappingNode):
                    line = value_node.start_mark.line + 1
                    raise _error(self.source, "<< takes a mapping", line, path=path)
                for key, value in self._mapping(inner, (*path, "<<")).items():
                    if key not in result:
                        result[key] = value
                        self.lines.setdefault((*path, key), inner.start_mark.line + 1)
        return result


def line_of(lines: Lines, path: Path) -> int | None:
    """Return the line of the path, or of the nearest thing around it."""
    for length in range(len(path), -1, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None
