"""The report as a page: one file without scripts and without anything to load, to be mailed and printed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from api.cli.alike import alike
from api.cli.progress import size
from api.documents import dump
from api.reports.migration import LOOKS

MOST_REASONS = 20
"""Of a class; a mailed page stays readable."""

MOST_NAMED = 20
MOST_LINES = 400
"""Of a rule file that stands in the page; a longer one is written by a command that the page names."""


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report as the API answers it. Every string of it is escaped."""
    rule_file = report["rule_file"]
    shown: dict[str, Any] = _plain({**report, "rule_file": None})
    shown["reasons"], shown["more"] = _reasons(shown)
    shown["runs"] = [one for section in shown["sections"] for one in section["executions"]]
    ids = [one["execution"] for one in shown["runs"]]
    moved = shown["migration"]
    shown["looks"] = [(kind, moved[kind]) for kind in LOOKS if moved[kind]] if moved else []
    shown["fleet"] = _fleet(moved) if moved else None
    by_name = ["--migration", str(moved["name"])] if moved else ids
    shown["named"] = by_name if len(by_name) <= MOST_NAMED else [*ids[:3], "..."]
    text = "" if rule_file is None else dump(rule_file)
    shown["rule_lines"] = text.count("\n")
    shown["rule_text"] = _plain(text) if shown["rule_lines"] <= MOST_LINES else ""
    return _template().render(shown)


def _fleet(migration: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the bytes of the newest look that counted them all, logical and unique."""
    for kind in ("freeze", "inventory"):
        found: dict[str, Any] = (migration[kind] or {}).get("fleet") or {}
        if found.get("bytes") and found.get("unique_bytes"):
            return found
    return None


def _reasons(report: Mapping[str, Any]) -> tuple[dict[str, list[dict[str, str]]], dict[str, int]]:
    """Return by class what failed and why, the same reason once, and how many copies are not among them."""
    found: dict[str, list[dict[str, str]]] = {}
    left = {one["class"]: one["copies"] for one in report["failure_classes"]}
    for group in alike(report["failures"]):
        first = group.first
        told = found.setdefault(first["class"], [])
        if len(told) < MOST_REASONS:
            left[first["class"]] = left.get(first["class"], 0) - group.count
            hint = first["hint"] if first["hint"] not in first["reason"] else ""
            told.append(
                {
                    "what": group.what(),
                    "reason": first["reason"],
                    "hint": hint,
                    "example": "" if group.count == 1 else first["destination"] or "",
                }
            )
    return {name: found.get(name, []) for name in left}, {n: max(0, c) for n, c in left.items()}


def _plain(value: Any) -> Any:
    """Return a value whose strings hold nothing that turns or hides what stands beside it."""
    if isinstance(value, str):
        return "".join(
            one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in value
        )
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    return value


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "size": size,
        "count": lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        "moment": _moment,
        "duration": duration,
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}",
    }
    return environment.from_string(
        files("api").joinpath("reports", "report.html").read_text("utf-8")
    )


def _moment(text: str | None) -> str:
    return "-" if text is None else f"{text[:10]} {text[11:19]}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 12.3 s, 5 min 12 s, 3 h 20 min, 2 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, name, smaller, lower in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"
