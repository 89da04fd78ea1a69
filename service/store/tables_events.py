"""Registry events in and webhooks out: tables beside those of service.store.tables."""

from __future__ import annotations
