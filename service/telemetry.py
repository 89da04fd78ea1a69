"""The log: event names with fields, and the one place that sets it up: JSON lines on stderr or a file.

Built on the standard library alone (docs/adr/0011): it is the first thing that each process imports.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

FIELDS = "fields"  # where a record keeps what came with its event


class Logger:
    """Writes events: a name in snake case, and what belongs to it as keyword arguments."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: Any) -> None:
        """Write what only its developers read."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write what happened as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what an operator should look at some day."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write what did not work."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Write what did not work, with the exception in hand and its traceback."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(
        self, level: int, event: str, fields: dict[str, Any], *, exc_info: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc_info, extra={FIELDS: fields})


class _Lines(logging.Formatter):
    """One JSON object a line; records of other libraries come as events without fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            **getattr(record, FIELDS, {}),
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat()
            .replace("+00:00", "Z"),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=repr)


def configure_logging(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send our records and those of the standard library to `stream` as one JSON object a line."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("celery.redirected", "kombu", "amqp", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel("WARNING")


def get_logger(name: str) -> Logger:
    """Return the logger `transship.<name>`."""
    return Logger(logging.getLogger(f"transship.{name}"))
