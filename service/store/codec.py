"""Model values to JSON text and back, for columns that hold a whole value."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from service.model.endpoint import CredentialSpec, RegistryEndpoint, TLSOptions
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger


def dump(value: Any) -> str:
    """Return the JSON text of a dataclass, a mapping or a list."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def load_endpoint(text: str) -> RegistryEndpoint:
    """Return the endpoint that `dump` wrote."""
    data = json.loads(text)
    return RegistryEndpoint(
        **{
            **data,
            "groups": tuple(data["groups"]),
            "trusted_hosts": tuple(data["trusted_hosts"]),
            "credentials": CredentialSpec(**data["credentials"]),
            "tls": TLSOptions(**data["tls"]),
        }
    )


def load_rule(text: str) -> SyncRule:
    """Return the rule that `dump` wrote."""
    data = json.loads(text)
    return SyncRule(
        **{
            **data,
            "select": tuple(_selection(entry) for entry in data["select"]),
            "destinations": tuple(Destination(**entry) for entry in data["destinations"]),
            "trigger": Trigger(**data["trigger"]),
        }
    )


def _selection(data: dict[str, Any]) -> Selection:
    return Selection(
        **{
            **data,
            "repositories": _names(data["repositories"]),
            "tags": _names(data["tags"]),
        }
    )


def _names(data: dict[str, Any]) -> NameFilter:
    return NameFilter(include=tuple(data["include"]), exclude=tuple(data["exclude"]))
