"""Projects, secrets, audit: tables beside those of service.store.tables."""

from __future__ import annotations
