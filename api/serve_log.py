"""gunicorn's log records go where ours go, as JSON lines."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Leaves handlers to service.telemetry; no access log, which would hold addresses of people."""

    def setup(self, cfg: Any) -> None:
        """Let the records rise to the root logger."""
        self.cfg = cfg
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.disabled = True
