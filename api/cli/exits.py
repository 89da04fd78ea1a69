"""Exit codes, and the words of errors on stderr (DESIGN section 8)."""

from __future__ import annotations

import json
from typing import Any

import click

from service.errors import RegistryError, TransshipError

AS_THE_RULE_SAYS = 0
NOT_AS_THE_RULE_SAYS = 1
REFUSED = 2
UNKNOWN = 3
INTERRUPTED = 130

UNREACHABLE_CLASSES = frozenset({"network", "server", "throttled"})
REFUSED_CLASSES = frozenset({"invalid", "auth", "denied", "policy"})


def of_report(report: dict[str, Any]) -> int:
    """Return the exit code of a finished job."""
    if report["state"] == "succeeded":
        return AS_THE_RULE_SAYS
    copies = report["copies"]
    untouched = copies["copied"] == 0 and copies["unchanged"] == 0
    classes = {failure["class"] for failure in report["failures"]}
    if report["state"] == "failed" and untouched and classes:
        if classes <= UNREACHABLE_CLASSES:
            return UNKNOWN
        if classes <= REFUSED_CLASSES:
            return REFUSED
    return NOT_AS_THE_RULE_SAYS


def of_error(error: TransshipError) -> int:
    """Return the exit code of an error that ended the command."""
    if isinstance(error, RegistryError) and error.failure_class in UNREACHABLE_CLASSES:
        return UNKNOWN
    return REFUSED


def tell(error: TransshipError) -> None:
    """Print an error and what to do about it on stderr."""
    field = getattr(error, "field", "")
    where = f"{field}: " if field and field not in error.message else ""
    click.echo(f"transship: {where}{error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def print_json(document: Any) -> None:
    """Print exactly one object on stdout."""
    click.echo(json.dumps(document, indent=2))
