"""JSON as every parser reads it the same way, or not at all.

Registries, runtimes and scanners parse manifests with different libraries; a document that two of
them could read differently (twin keys, NaN, odd encodings) is refused rather than guessed at.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from service.errors import InvalidManifest

MAX_DEPTH = 100
MAX_INT_DIGITS = 19  # 2**63 has 19; more fits no size, and Go refuses it
_BOM = b"\xef\xbb\xbf"


def loads(raw: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse strict UTF-8 JSON; raises InvalidManifest with the reason.

    Refused: twin keys (also by case folding, as Go matches them), NaN and Infinity, nesting deeper
    than `max_depth`, invalid UTF-8, a byte order mark, lone surrogates, anything after the value, integers
    of more than 19 digits.
    """
    if raw.startswith(_BOM):
        raise InvalidManifest("not strict JSON: it begins with a byte order mark")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"not strict JSON: invalid UTF-8 at byte {error.start}") from None
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise InvalidManifest(f"not strict JSON: nested deeper than {max_depth}") from None
    except json.JSONDecodeError as error:
        raise InvalidManifest(f"not strict JSON: {error.msg} at character {error.pos}") from None
    if raw.count(b"{") + raw.count(b"[") > max_depth:
        _refuse_depth(value, max_depth)
    if b"\\u" in raw:
        _refuse_surrogates(value)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidManifest(f"not strict JSON: twin key {_twin(k for k, _ in pairs)!r}")
    if len({key.casefold() for key in result}) != len(result):
        twin = _twin(key.casefold() for key in result)
        raise InvalidManifest(f"not strict JSON: keys that differ by case only: {twin!r}")
    return result


def _twin(keys: Any) -> str:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return str(key)[:60]
        seen.add(key)
    return ""


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INT_DIGITS:
        raise InvalidManifest(f"not strict JSON: integer of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidManifest(f"not strict JSON: number out of range: {text[:40]}")
    return value


def _constant(text: str) -> NoReturn:
    raise InvalidManifest(f"not strict JSON: {text} is no JSON value")


def _refuse_depth(value: Any, max_depth: int) -> None:
    level: list[Any] = [value]
    for _ in range(max_depth):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        if not below:
            return
        level = below
    raise InvalidManifest(f"not strict JSON: nested deeper than {max_depth}")


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidManifest("not strict JSON: a lone surrogate is no text") from None


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
