"""The fields that our documents are made of: strict about types, and clear about what to do.

JSON and YAML both come through here, so "true" is no bool, 1.0 no integer and 1.10 no tag.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Self

from marshmallow import ValidationError, fields

from service.errors import InvalidInput
from service.model.rule_check import suggest

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Told(str):  # marshmallow keeps messages as they are, so a hint can ride along
    """A message with what to do about it."""

    __slots__ = ("hint",)
    hint: str

    def __new__(cls, message: str, hint: str = "") -> Self:
        """Make the message; the hint says what to do."""
        told = super().__new__(cls, message)
        told.hint = hint
        return told


def invalid(message: str, hint: str = "") -> ValidationError:
    """Return the error to raise for one field."""
    return ValidationError([Told(message, hint)])


def kind_of(value: Any) -> str:
    """Return what a person calls the value's type."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), "something else")


class Text(fields.String):
    """A text of 1 to `longest` characters; no control or direction characters."""

    def __init__(self, *, longest: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        del attr, data, kwargs
        if not isinstance(value, str):
            hint = "write it in quotes" if isinstance(value, int | float) else ""
            raise invalid(f"must be a text, not {kind_of(value)}", hint)
        if not value:
            raise invalid("may not be empty", "leave the key out, or give it a value")
        if len(value) > self.longest:
            raise invalid(f"may have at most {self.longest} characters, has {len(value)}")
        for character in value:
            if unicodedata.category(character) in {"Cc", "Cf", "Cs"}:
                raise invalid(f"holds the character {character!a}, which is not allowed")
        return self.judge(value)

    def judge(self, value: str) -> str:
        """Return the value if it is one of this field's; raises ValidationError."""
        return value


class Name(Text):
    """The name of an object of ours: lower case, so that it can stand in URLs and metrics."""

    def judge(self, value: str) -> str:
        """Hold the value to the grammar of names."""
        if not _NAME.fullmatch(value):
            raise invalid(
                f"{value[:80]!r} is not a name",
                "a name has 1 to 63 of a-z 0-9 . _ - and begins and ends with a letter or digit",
            )
        return value


class Choice(Text):
    """One of a few words; a word of a later version gets its own message."""

    def __init__(self, *choices: str, absent: str = "", **kwargs: Any) -> None:
        super().__init__(metadata={"enum": list(choices)}, **kwargs)
        self.choices = choices
        self.absent = absent

    def judge(self, value: str) -> str:
        """Hold the value to the choices."""
        if value not in self.choices:
            hint = self.absent or suggest(value, self.choices)
            raise invalid(f"{value[:80]!r} is not one of {', '.join(self.choices)}", hint)
        return value


class Judged(Text):
    """A text that a function of the model judges."""

    def __init__(self, judge: Callable[[str], object], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._judge = judge

    def judge(self, value: str) -> str:
        """Turn the model's error into the field's."""
        try:
            judged = self._judge(value)
        except InvalidInput as error:
            raise invalid(error.message, error.hint) from error
        return judged if isinstance(judged, str) else value


class Flag(fields.Boolean):
    """True or false, and nothing that merely looks like it."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> bool:
        del attr, data, kwargs
        if not isinstance(value, bool):
            raise invalid(f"must be true or false, not {kind_of(value)}", "without quotes")
        return value


class Whole(fields.Integer):
    """A whole number between two bounds, both included."""

    def __init__(self, *, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": least, "maximum": most}, **kwargs)
        self.least = least
        self.most = most

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> int:
        del attr, data, kwargs
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(f"must be a whole number, not {kind_of(value)}")
        if not self.least <= value <= self.most:
            raise invalid(f"must be between {self.least} and {self.most}")
        return value


class Duration(Text):
    """A number with its unit (ms, s, m, h, d), read into seconds."""

    def __init__(self, *, least: float, most: float, **kwargs: Any) -> None:
        super().__init__(metadata={"example": "30s"}, **kwargs)
        self.least = least
        self.most = most

    def judge(self, value: str) -> str:
        """Hold the value to the grammar and the bounds."""
        match = _DURATION.fullmatch(value)
        if not match:
            raise invalid(f"{value[:80]!r} is not a duration", 'write "30s", "5m", "24h" or "7d"')
        if not self.least <= seconds(value) <= self.most:
            raise invalid(f"must be between {spelled(self.least)} and {spelled(self.most)}")
        return value


def spelled(duration: float) -> str:
    """Return seconds as a person writes them: in the largest unit that they are a whole number of."""
    for unit in ("d", "h", "m"):
        if duration and duration % _SECONDS[unit] == 0:
            return f"{duration / _SECONDS[unit]:.0f}{unit}"
    return f"{duration:g}s"


def seconds(duration: str) -> float:
    """Return the seconds of a duration that a Duration field has let through."""
    match = _DURATION.fullmatch(duration)
    if not match:
        raise ValueError(duration)
    return float(match[1]) * _SECONDS[match[2]]


class Items(fields.List[Any]):
    """A list of `least` to `most` items."""

    def __init__(self, inner: fields.Field[Any], *, most: int, least: int = 0, **kw: Any) -> None:
        super().__init__(inner, **kw)
        self.least = least
        self.most = most

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> list[Any]:
        if not isinstance(value, list):
            raise invalid(f"must be a list, not {kind_of(value)}")
        if len(value) < self.least:
            raise invalid("may not be empty")
        if len(value) > self.most:
            raise invalid(f"may have at most {self.most} items, has {len(value)}")
        return super()._deserialize(value, attr, data, **kwargs)
