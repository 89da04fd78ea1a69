"""Flower, read-only and from events alone: `python -m workers.flower` (the transship command runs it)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from service.errors import InvalidConfiguration
from service.settings import Settings
from workers.app import make_app

COLUMNS = "name,args,state,received,runtime,worker"


def arguments(settings: Settings) -> list[str]:
    """Return Flower's options: it never turns events on fleet-wide and never changes anything."""
    host, _, port = settings.flower_listen.rpartition(":")
    return [
        f"--address={host}",
        f"--port={port}",
        "--enable-events=False",
        "--read-only",
        f"--max-tasks={settings.flower_tasks}",
        "--purge-offline-workers=300",
        "--inspect-timeout=500",
        f"--tasks-columns={COLUMNS}",
    ]


def shut_what_is_open() -> None:
    """Take away the page that Flower shows to whoever asks: metrics, which name hosts and processes.

    What there is to be measured is on each process's own metrics, behind a token.
    """
    from flower import urls

    urls.handlers[:] = [one for one in urls.handlers if _pattern(one) != "/metrics"]
    if any("metrics" in _pattern(one) for one in urls.handlers):
        raise InvalidConfiguration(
            "this version of Flower has its metrics elsewhere, open to everybody",
            hint="install the version of Flower that requirements/constraints.txt names",
        )


def _pattern(handler: Any) -> str:
    return str(handler[0] if isinstance(handler, tuple) else handler.regex.pattern).rstrip("$")


def main() -> int:
    """Serve Flower until SIGTERM, never without a password."""
    settings = Settings.from_env()
    if not os.environ.get("FLOWER_BASIC_AUTH"):
        if not settings.flower_password_file:
            sys.stderr.write(
                "transship: Flower needs a password: set TRANSSHIP_FLOWER_PASSWORD_FILE, "
                "or FLOWER_BASIC_AUTH=user:password\n"
            )
            return 2
        password = Path(settings.flower_password_file).read_text(encoding="utf-8").strip()
        os.environ["FLOWER_BASIC_AUTH"] = f"admin:{password}"
    shut_what_is_open()
    app = make_app(settings)
    app.finalize()
    celery: Any = app
    return int(celery.start(["flower", *arguments(settings)]) or 0)


if __name__ == "__main__":
    sys.exit(main())
