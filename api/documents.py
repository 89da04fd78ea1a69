"""Objects as somebody wrote them: what the server answers without what it adds, and as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from api.schemas.common import READ_ONLY

_FIRST = (
    "name",
    "from",
    "to",
    "url",
    "project",
    "enabled",
    "source",
    "select",
    "destinations",
    "trigger",
)

_DERIVED = {"links": ("name",), "pipelines": ("secret",)}


def written(kind: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody wrote of what the server answers, in the order in which people write it.

    A link's name is made of its ends, and no part of what is written; a pipeline's secret stays where it is.
    """
    derived = {*READ_ONLY, *_DERIVED.get(kind, ())}
    kept = {key: value for key, value in item.items() if key not in derived}
    first = {key: kept[key] for key in _FIRST if key in kept}
    return {**first, **kept}


def dump(document: Mapping[str, Any]) -> str:
    """Return YAML that reads as what was given."""
    flat = not any(isinstance(value, dict | list) for value in document.values())
    return yaml.safe_dump(
        dict(document),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False if flat else None,
        width=100,
    )
