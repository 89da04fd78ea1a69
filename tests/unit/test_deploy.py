"""Alerts and the dashboard name metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\btransship_[a-z_]+")
KNOWN = set(NAME.findall((ROOT / "docs/reference/metrics.md").read_text("utf-8")))
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))
DASHBOARD = json.loads((ROOT / "deploy/grafana/transship.json").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Every expression of the dashboard."""
    return [one["expr"] for panel in DASHBOARD["panels"] for one in panel.get("targets", ())]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_alert_names_metrics_that_there_are_and_says_what_to_do(rule: dict[str, Any]) -> None:
    named = set(NAME.findall(rule["expr"]))

    assert named or rule["expr"].startswith("up{")  # which Prometheus says of each that it scrapes
    assert named <= KNOWN
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "action"}


def test_dashboard_names_metrics_that_there_are() -> None:
    named = {name for one in expressions() for name in NAME.findall(one)}

    assert len(named) > 20
    assert named <= KNOWN


def test_panels_do_not_lie_over_one_another() -> None:
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
