"""The database's clock as a SQL expression: leases and ages are judged by one clock only; and the machine's."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now_epoch(FunctionElement[float]):  # noqa: N801 - reads as a SQL function
    """Seconds since 1970 by the database's clock."""

    type = Double()
    inherit_cache = True
    name = "now_epoch"


@compiles(now_epoch, "sqlite")
def _sqlite(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_epoch, "postgresql")
def _postgresql(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


def database_now(connection: Connection) -> float:
    """Return the database's clock, in seconds since 1970."""
    return float(connection.execute(select(now_epoch())).scalar_one())


def steady() -> float:
    """Return seconds by a clock that nobody sets: the same in all processes of a machine, until it is booted anew.

    It goes on while the machine sleeps.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
