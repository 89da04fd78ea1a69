"""Deletions that wait, are approved, done or undone; verifications: tables beside those of service.store.tables."""

from __future__ import annotations
