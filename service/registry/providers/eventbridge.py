"""ECR's events by Amazon EventBridge: a rule of the default bus in the registry's region, which sends to an API destination.

What sends is a role that the user gives: EventBridge may assume it, and it may `events:InvokeApiDestination`. The secret is the
connection's API key, which EventBridge keeps and never tells. Sources: EventBridge API Reference (2015-10-07) as
botocore's events/2015-10-07/service-2.json has it; ECR User Guide, "Amazon ECR events and EventBridge".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service import errors
from service.registry.providers.strategies import Receiver
from service.registry.redaction import clean

if TYPE_CHECKING:
    from service.registry.providers.ecr import Ecr

PATTERN = {"source": ["aws.ecr"], "detail-type": ["ECR Image Action"]}
TARGET = "transship"
MOST_LETTERS = 64  # of the names of rules, connections and API destinations
_HOST = re.compile(r"\d{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?|on\.aws)")


def events_url(host: str) -> str:
    """Return where EventBridge is in the region of a registry's host; us-east-1 for one that tells none."""
    found = _HOST.fullmatch(host)
    fips, region, domain = found.groups() if found else (None, "us-east-1", "amazonaws.com")
    return f"https://events{fips or ''}.{region}.{'api.aws' if domain == 'on.aws' else domain}"


def bridge_name(receiver: Receiver) -> str:
    """Return the name of a receiver's rule, connection and API destination, of 64 letters at most."""
    if len(receiver.name) <= MOST_LETTERS:
        return receiver.name
    return f"{receiver.name[:51]}-{hashlib.sha256(receiver.name.encode()).hexdigest()[:12]}"


class EcrRules:
    """One rule a registry (its account, in its region) and receiver, of all repositories."""

    def __init__(self, bridge: Ecr, login_server: str) -> None:
        """`bridge` asks EventBridge as the identity that ECR is asked as."""
        self._bridge = bridge
        self._login_server = login_server

    def place(self, repository: str) -> str:
        """Return the registry."""
        del repository
        return self._login_server

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make connection, API destination, rule and target, or set them right; the connection's secret is set anew each time.

        Raises Rejected without a role, Denied for the rule of another account than the registry's.
        """
        if receiver.role is None:
            raise errors.Rejected(
                f"{self._bridge.registry}: EventBridge sends for {place} by a role that may "
                "events:InvokeApiDestination: give its ARN, by --role",
                registry=self._bridge.registry,
            )
        name = bridge_name(receiver)
        ruled = self._rule(name)
        connection, connected = self._connection(name, receiver.secret)
        wanted = {
            "ConnectionArn": connection,
            "InvocationEndpoint": receiver.address,
            "HttpMethod": "POST",
        }
        destination, directed = self._destination(name, wanted)
        targeted = self._target(name, {"Arn": destination, "RoleArn": receiver.role})
        return ruled or connected or directed or targeted

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove all four."""
        del place
        name = bridge_name(receiver)
        removed = self._found("DescribeRule", name) is not None
        if removed:
            self._remove_rule(name)
        for kind in ("ApiDestination", "Connection"):
            if self._found(f"Describe{kind}", name) is not None:
                self._bridge.tell(f"Delete{kind}", Name=name)
                removed = True
        return removed

    def _found(self, action: str, name: str) -> dict[str, Any] | None:
        try:
            return self._bridge.ask(action, Name=name)
        except errors.NotFound:
            return None

    def _rule(self, name: str) -> bool:
        found = self._found("DescribeRule", name)
        told = found or {}
        if told.get("State") == "ENABLED" and _read(told.get("EventPattern")) == PATTERN:
            return False
        told = self._bridge.ask(
            "PutRule", Name=name, EventPattern=json.dumps(PATTERN), State="ENABLED"
        )
        account = str(told.get("RuleArn")).split(":")[4:5]
        if self._bridge.account and account != [self._bridge.account]:
            self._remove_rule(name)
            raise errors.Denied(
                f"{self._bridge.registry}: the credentials are of the account {clean(''.join(account), 40)}, and ECR tells "
                f"{self._bridge.account} of its events",
                registry=self._bridge.registry,
            )
        return True

    def _remove_rule(self, name: str) -> None:
        """Remove a rule, which may have no targets then."""
        identities = [str(row.get("Id")) for row in self._targets(name)]
        if identities:
            self._bridge.tell("RemoveTargets", Rule=name, Ids=identities)
        self._bridge.tell("DeleteRule", Name=name)

    def _connection(self, name: str, secret: str) -> tuple[str, bool]:
        """Return the connection's ARN, and whether it was not there."""
        key = {"ApiKeyName": "Authorization", "ApiKeyValue": f"Bearer {secret}"}
        given = {"AuthorizationType": "API_KEY", "AuthParameters": {"ApiKeyAuthParameters": key}}
        made = self._found("DescribeConnection", name) is None
        action = "CreateConnection" if made else "UpdateConnection"
        return str(self._bridge.ask(action, Name=name, **given).get("ConnectionArn")), made

    def _destination(self, name: str, wanted: Mapping[str, str]) -> tuple[str, bool]:
        """Return the API destination's ARN, and whether it was not as it should be."""
        found = self._found("DescribeApiDestination", name)
        if found is not None and wanted.items() <= found.items():
            return str(found.get("ApiDestinationArn")), False
        action = "CreateApiDestination" if found is None else "UpdateApiDestination"
        return str(self._bridge.ask(action, Name=name, **wanted).get("ApiDestinationArn")), True

    def _target(self, name: str, wanted: Mapping[str, str]) -> bool:
        if any(
            row.get("Id") == TARGET and wanted.items() <= row.items() for row in self._targets(name)
        ):
            return False
        told = self._bridge.ask("PutTargets", Rule=name, Targets=[{"Id": TARGET, **wanted}])
        for failure in told.get("FailedEntries") or ():
            said = failure if isinstance(failure, dict) else {}
            words = f"{said.get('ErrorCode')}: {said.get('ErrorMessage')}"
            raise errors.Rejected(
                f"{self._bridge.registry}: EventBridge does not take its target: {clean(words, 240)}",
                registry=self._bridge.registry,
            )
        return True

    def _targets(self, name: str) -> list[dict[str, Any]]:
        rows = self._bridge.ask("ListTargetsByRule", Rule=name).get("Targets") or []
        return [row for row in rows if isinstance(row, dict)]


def _read(text: object) -> Any:
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        return None
