"""A rule's effective document says the same when it is read again; SQL gives the very value back."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.rule import effective_rule, load_rule
from service.store import codec
from tests.support.signing import Signer

BASE: dict[str, Any] = {
    "name": "fleet",
    "source": "east",
    "select": [{"repositories": ["team/*"]}],
    "destinations": [{"registry": "west"}],
}
CHANGES: list[dict[str, Any]] = [
    {"select": [{"repositories": {"regex": "^a", "exclude": ["ab"]}}]},
    {"select": [{"repositories": ["a"], "tags": {"regex": "^v", "semver": ">=1 <2 || 3.x"}}]},
    {"select": [{"repositories": ["a"], "tags": {"newest": {"count": 3}}}]},
    {"select": [{"repositories": ["a"], "tags": {"newest": {"count": 3, "by": "created"}}}]},
    {"select": [{"repositories": ["a"], "types": ["image", "application/x+json"]}]},
    {"select": [{"repositories": ["a"], "platforms": ["linux/amd64", "linux/arm/v7"]}]},
    {
        "select": [
            {"repositories": ["a"], "tags": ["sha256:" + "a" * 64], "to": {"tag": "{digest}"}}
        ]
    },
    {"require": {"signature": {"key": Signer().public}}},
    {"delete": {"enabled": False}},
    {"delete": {"enabled": True, "grace": "1.5h", "cap": "2.5%"}},
    {"select": [{"repositories": ["**"]}], "delete": {"enabled": True, "all": True}},
    {"mode": "sync"},
]
REPLICA = {key: value for key, value in BASE.items() if key != "select"}


@pytest.mark.parametrize(
    "document",
    [
        *({**BASE, **change} for change in CHANGES),
        {**REPLICA, "mode": "replicate", "delete": {"enabled": True}},
        {**REPLICA, "mode": "replicate", "delete": {"enabled": False, "cap": "0%"}},
    ],
)
def test_a_rule_survives_its_own_document_and_sql(document: dict[str, Any]) -> None:
    rule = load_rule(document)

    assert effective_rule(load_rule(effective_rule(rule))) == effective_rule(rule)
    assert codec.load_rule(codec.dump(rule)) == rule
