"""Flower, read-only and from events alone: `python -m workers.flower` (the transship command runs it)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

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
        "--max-tasks=10000",
        "--purge-offline-workers=300",
        "--inspect-timeout=500",
        f"--tasks-columns={COLUMNS}",
    ]


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
    app = make_app(settings)
    app.finalize()
    celery: Any = app
    return int(celery.start(["flower", *arguments(settings)]) or 0)


if __name__ == "__main__":
    sys.exit(main())
