"""Text as strangers write it (registries' messages, media types), made storable in every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text
from sqlalchemy.types import TypeDecorator


class PlainText(TypeDecorator[str]):
    """Text without NUL and lone surrogates, which PostgreSQL and UTF-8 have no place for."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:  # noqa: ARG002
        """Replace what cannot be stored by U+FFFD."""
        if value is None:
            return None
        return "".join(
            "\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in value
        )
