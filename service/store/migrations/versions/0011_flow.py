"""DevOps image flow and the gateway (issue 10), and what each attempt of a copy came to (issue 9)."""

from __future__ import annotations

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _attempts()
    _pipelines()
    _pull_tokens()


def _attempts() -> None:
    """What each attempt of a copy came to (issue 9 point 1)."""


def _pipelines() -> None:
    """Pipelines, their promotions, and what their gates have said (issue 10)."""


def _pull_tokens() -> None:
    """Tokens that the gateway takes (issue 10)."""
