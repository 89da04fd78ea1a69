"""A contract fake of Amazon EventBridge: rules, targets, connections and API destinations of one account and region.

Sources: EventBridge API Reference (2015-10-07) and botocore's events/2015-10-07/service-2.json, held to moto by
test_ecr_webhooks.py. It stands behind ECR's fake, which checks the signature. Strict: an action that is not here is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from tests.contract.aws import AwsError

NAME = re.compile(r"[.\-_A-Za-z0-9]{1,64}")

Members = dict[str, Any]


class FakeEventBridge:
    """EventBridge. `refuses` is how targets fail, if they do."""

    def __init__(self, region: str, account: str) -> None:
        self.place = f"{region}:{account}"
        self.rules: dict[str, Members] = {}
        self.targets: dict[str, dict[str, Members]] = {}
        self.connections: dict[str, Members] = {}
        self.destinations: dict[str, Members] = {}
        self.refuses: Members | None = None
        self._count = 0

    def hooks(self) -> dict[str, tuple[str, Any]]:
        """Everything that is there, as one; empty for nothing."""
        all_of_it = (self.rules, self.targets, self.connections, self.destinations)
        return {"bus": ("", all_of_it)} if any(all_of_it) else {}

    def act(self, action: str, asked: Members) -> Members | None:
        """Return an action's answer; None for an empty one. Raises AwsError."""
        actions: dict[str, Callable[[Members], Members | None]] = {
            "PutRule": self._put_rule,
            "DescribeRule": lambda given: self._of(self.rules, given["Name"], "Rule"),
            "DeleteRule": self._delete_rule,
            "PutTargets": self._put_targets,
            "ListTargetsByRule": self._list_targets,
            "RemoveTargets": self._remove_targets,
            "CreateConnection": self._create_connection,
            "DescribeConnection": self._describe_connection,
            "UpdateConnection": self._update_connection,
            "DeleteConnection": self._delete_connection,
            "CreateApiDestination": self._create_destination,
            "DescribeApiDestination": lambda given: self._of(
                self.destinations, given["Name"], "An api-destination"
            ),
            "UpdateApiDestination": self._update_destination,
            "DeleteApiDestination": self._delete_destination,
        }
        if action not in actions:
            raise AwsError("UnknownOperationException", "")
        name = asked.get("Name", asked.get("Rule", ""))
        if not NAME.fullmatch(name):
            raise AwsError("ValidationException", "Member must satisfy regular expression pattern")
        return actions[action](asked)

    # ---- rules ---------------------------------------------------------------------------------------

    def _put_rule(self, asked: Members) -> Members:
        arn = f"arn:aws:events:{self.place}:rule/{asked['Name']}"
        kept = {key: asked[key] for key in ("Name", "EventPattern", "State")}
        self.rules[asked["Name"]] = {**kept, "Arn": arn, "EventBusName": "default"}
        return {"RuleArn": arn}

    def _delete_rule(self, asked: Members) -> None:
        if self.targets.get(asked["Name"]):
            raise AwsError("ValidationException", "Rule can't be deleted since it has targets.")
        self.rules.pop(asked["Name"], None)
        self.targets.pop(asked["Name"], None)

    def _put_targets(self, asked: Members) -> Members:
        self._of(self.rules, asked["Rule"], "Rule")
        if self.refuses is not None:
            return {"FailedEntryCount": 1, "FailedEntries": [self.refuses]}
        targets = self.targets.setdefault(asked["Rule"], {})
        for one in asked["Targets"]:
            if "RoleArn" not in one:  # as API destinations need
                raise AwsError("ValidationException", f"RoleArn is required for target {one}")
            targets[one["Id"]] = one
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def _list_targets(self, asked: Members) -> Members:
        self._of(self.rules, asked["Rule"], "Rule")
        return {"Targets": list(self.targets.get(asked["Rule"], {}).values())}

    def _remove_targets(self, asked: Members) -> Members:
        for identity in asked["Ids"]:
            self.targets.get(asked["Rule"], {}).pop(identity, None)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    # ---- connections and API destinations -----------------------------------------------------------

    def _create_connection(self, asked: Members) -> Members:
        if asked["Name"] in self.connections:
            raise AwsError("ResourceAlreadyExistsException", "Connection already exists.")
        self.connections[asked["Name"]] = {
            "ConnectionArn": self._arn("connection", asked["Name"]),
            "ConnectionState": "AUTHORIZED",
            "CreationTime": time.time(),
            "LastModifiedTime": time.time(),
            **asked,
        }
        return self._short(self.connections[asked["Name"]], "Connection")

    def _describe_connection(self, asked: Members) -> Members:
        """The value of an API key is not told."""
        found = self._of(self.connections, asked["Name"], "Connection")
        key = found["AuthParameters"]["ApiKeyAuthParameters"]["ApiKeyName"]
        return {**found, "AuthParameters": {"ApiKeyAuthParameters": {"ApiKeyName": key}}}

    def _update_connection(self, asked: Members) -> Members:
        self._of(self.connections, asked["Name"], "Connection").update(asked)
        return self._short(self.connections[asked["Name"]], "Connection")

    def _delete_connection(self, asked: Members) -> Members:
        self._of(self.connections, asked["Name"], "Connection")
        return self._short(self.connections.pop(asked["Name"]), "Connection")

    def _create_destination(self, asked: Members) -> Members:
        known = {one["ConnectionArn"] for one in self.connections.values()}
        if asked["ConnectionArn"] not in known:
            raise AwsError("ResourceNotFoundException", "Connection does not exist.")
        if asked["Name"] in self.destinations:
            raise AwsError("ResourceAlreadyExistsException", "An api-destination already exists.")
        if not asked["InvocationEndpoint"].startswith("https://"):
            raise AwsError("ValidationException", "InvocationEndpoint is not https")
        self.destinations[asked["Name"]] = {
            "ApiDestinationArn": self._arn("api-destination", asked["Name"]),
            "ApiDestinationState": "ACTIVE",
            "CreationTime": time.time(),
            "LastModifiedTime": time.time(),
            **asked,
        }
        return self._short(self.destinations[asked["Name"]], "ApiDestination")

    def _update_destination(self, asked: Members) -> Members:
        self._of(self.destinations, asked["Name"], "An api-destination").update(asked)
        return self._short(self.destinations[asked["Name"]], "ApiDestination")

    def _delete_destination(self, asked: Members) -> Members:
        self._of(self.destinations, asked["Name"], "An api-destination")
        del self.destinations[asked["Name"]]
        return {}

    def _of(self, kept: dict[str, Members], name: str, kind: str) -> Members:
        if name not in kept:
            raise AwsError("ResourceNotFoundException", f"{kind} '{name}' does not exist.")
        return kept[name]

    def _arn(self, kind: str, name: str) -> str:
        self._count += 1
        return f"arn:aws:events:{self.place}:{kind}/{name}/{self._count:08d}-0000"

    def _short(self, row: Members, kind: str) -> Members:
        keys = (f"{kind}Arn", f"{kind}State", "CreationTime", "LastModifiedTime")
        return {key: row[key] for key in keys if key in row}
