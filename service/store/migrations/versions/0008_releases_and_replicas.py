"""Releases, objectives of freshness, and the life of replicas."""

from __future__ import annotations

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _releases()
    _replicas()


def _releases() -> None:
    """Sets of images whose tags move together, and how late a rule may be."""


def _replicas() -> None:
    """What each replica of an instance has come to."""
