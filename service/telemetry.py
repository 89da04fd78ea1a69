"""Names of log fields and the one place where logging is set up: JSON lines on stderr or a file.

structlog writes the lines. It is imported with the first one: a command that has nothing to tell ends
before that would pay (docs/adr/0011).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    import structlog


T = TypeVar("T")

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Have every line that is written meanwhile, also by threads that help, bear these fields."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


class Threads(ThreadPoolExecutor):
    """Threads that are about what whoever hands them their work is about: in log lines, and in traces."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run it in a copy of the caller's context."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


def _bear(_logger: Any, _name: str, event: Any) -> Any:
    """Put what the line is about into it; what it says itself goes before."""
    for key, value in _about.get().items():
        event.setdefault(key, value)
    return event


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
        self._write(logging.ERROR, event, {"exc_info": True, **fields})

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            _bound(self._logger.name).log(level, event, **fields)


def configure_logging(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's records to `stream` as one JSON object a line."""
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


class _Lines(logging.Formatter):
    """structlog's formatter, made with the first record."""

    def format(self, record: logging.LogRecord) -> str:
        return _formatter().format(record)


@cache
def _bound(name: str) -> structlog.stdlib.BoundLogger:
    import structlog  # with the first line, see above

    _formatter()
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@cache
def _formatter() -> logging.Formatter:
    """Configure structlog and return what renders its records and those of others."""
    import structlog  # with the first line, see above

    shared: list[structlog.typing.Processor] = [
        _bear,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
