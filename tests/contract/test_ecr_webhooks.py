"""contract:ecr. Webhooks by EventBridge, at its fake and at moto's, which AWS's own client speaks with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from service import errors
from service.model.endpoint import Credential
from service.registry.client import RegistryClient
from service.registry.providers.eventbridge import PATTERN, bridge_name, events_url
from service.registry.providers.strategies import Receiver, Webhooks
from service.replication.registration import webhooks_of
from tests.contract.ecr import ACCOUNT, KEY, REGION, SECRET, FakeEcr
from tests.integration.registry.support import client

ROLE = f"arn:aws:iam::{ACCOUNT}:role/teller"
ADDRESS = "https://transship.example/hooks/ecr/it"
RECEIVER = Receiver("transship-it", ADDRESS, "tsh_s3cret", ROLE)


@pytest.fixture
def ecr() -> Iterator[FakeEcr]:
    with FakeEcr() as fake:
        yield fake


def hooks_at(ecr: FakeEcr, api_url: str, account: str = ACCOUNT) -> Webhooks:
    """What a registry of this account has, whose APIs are all at `api_url`."""
    made: RegistryClient = client(
        f"http://{account}.dkr.ecr.{REGION}.amazonaws.com:{ecr.port}",
        credential=Credential(KEY, SECRET),
        endpoint={
            "provider": "ecr",
            "api_url": api_url,
            "connect_to": f"127.0.0.1:{ecr.port}",
        },
    )
    return webhooks_of(made)


@pytest.fixture
def hooks(ecr: FakeEcr) -> Webhooks:
    return hooks_at(ecr, ecr.control.url)


def sdk(url: str) -> Any:
    return boto3.client(
        "events",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, proxies={}),
    )


def shape(value: Any) -> Any:
    """Names and types, without what they hold; what is empty says nothing, nor what moto leaves out by its own words."""
    if isinstance(value, dict):
        unsaid = {"ResponseMetadata", "AuthParameters", "SecretArn", "CreatedBy"}
        unsaid |= {"LastModifiedTime", "LastAuthorizedTime"}
        return {
            k: shape(v)
            for k, v in sorted(value.items())
            if k not in unsaid and v not in ([], "", None)
        }
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return type(value).__name__


def spoken(events: Any) -> list[Any]:
    """What an EventBridge answers to one conversation, as the SDK reads it."""
    key = {"ApiKeyName": "Authorization", "ApiKeyValue": "Bearer tsh_s3cret"}
    given = {"AuthorizationType": "API_KEY", "AuthParameters": {"ApiKeyAuthParameters": key}}
    answers: list[Any] = []

    def say(action: str, **members: Any) -> Any:
        try:
            told = getattr(events, action)(**members)
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])
            return {}
        answers.append(shape(told))
        return told

    for kind in ("rule", "connection", "api_destination"):
        say(f"describe_{kind}", Name="talk")
    say("put_rule", Name="talk", EventPattern=json.dumps(PATTERN), State="ENABLED")
    say("describe_rule", Name="talk")
    say("list_targets_by_rule", Rule="talk")
    arn = say("create_connection", Name="talk", **given).get("ConnectionArn")
    assert arn.startswith(f"arn:aws:events:{REGION}:{ACCOUNT}:connection/talk/")
    say("describe_connection", Name="talk")
    say("update_connection", Name="talk", **given)
    way = {"ConnectionArn": arn, "InvocationEndpoint": ADDRESS, "HttpMethod": "POST"}
    made = say("create_api_destination", Name="talk", InvocationRateLimitPerSecond=9, **way)
    say("describe_api_destination", Name="talk")
    say("update_api_destination", Name="talk", InvocationEndpoint=f"{ADDRESS}2")
    target = {"Id": "one", "Arn": made["ApiDestinationArn"], "RoleArn": ROLE}
    say("put_targets", Rule="talk", Targets=[target])
    say("list_targets_by_rule", Rule="talk")
    say("remove_targets", Rule="talk", Ids=["one"])
    say("delete_rule", Name="talk")
    say("delete_api_destination", Name="talk")
    say("delete_connection", Name="talk")
    say("delete_connection", Name="talk")
    return answers


def test_sdk_reads_the_same_from_the_fake_and_from_moto(ecr: FakeEcr, moto: str) -> None:
    assert spoken(sdk(ecr.control.url)) == spoken(sdk(moto))


def test_webhook_is_made_and_removed_at_moto(ecr: FakeEcr, moto: str) -> None:
    hooks, theirs = hooks_at(ecr, moto), sdk(moto)
    place = hooks.place("team/app")

    assert hooks.register(place, RECEIVER)
    assert not hooks.register(place, RECEIVER)

    rule = theirs.describe_rule(Name="transship-it")
    (target,) = theirs.list_targets_by_rule(Rule="transship-it")["Targets"]
    destination = theirs.describe_api_destination(Name="transship-it")
    connection = theirs.describe_connection(Name="transship-it")
    assert (rule["State"], json.loads(rule["EventPattern"])) == ("ENABLED", PATTERN)
    assert target["RoleArn"] == ROLE
    assert target["Arn"] == destination["ApiDestinationArn"]
    assert (destination["InvocationEndpoint"], destination["HttpMethod"]) == (ADDRESS, "POST")
    assert destination["ConnectionArn"] == connection["ConnectionArn"]
    assert connection["AuthorizationType"] == "API_KEY"

    assert hooks.remove(place, RECEIVER)
    assert not hooks.remove(place, RECEIVER)
    assert theirs.list_rules()["Rules"] == []
    assert theirs.list_connections()["Connections"] == []
    assert theirs.list_api_destinations()["ApiDestinations"] == []


def test_what_somebody_has_changed_is_set_right(ecr: FakeEcr, hooks: Webhooks) -> None:
    place = hooks.place("team/app")
    hooks.register(place, RECEIVER)
    ecr.bridge.rules["transship-it"]["State"] = "DISABLED"
    ecr.bridge.targets["transship-it"]["transship"]["RoleArn"] += "-of-old"
    ecr.bridge.destinations["transship-it"]["HttpMethod"] = "PUT"

    assert hooks.register(place, RECEIVER)

    assert ecr.bridge.rules["transship-it"]["State"] == "ENABLED"
    assert ecr.bridge.targets["transship-it"]["transship"]["RoleArn"] == ROLE
    assert ecr.bridge.destinations["transship-it"]["HttpMethod"] == "POST"
    assert not hooks.register(place, RECEIVER)


def test_without_a_role_nothing_is_made(ecr: FakeEcr, hooks: Webhooks) -> None:
    with pytest.raises(errors.Rejected, match="--role"):
        hooks.register(hooks.place("team/app"), Receiver("transship-it", ADDRESS, "tsh_s3cret"))

    assert ecr.hooks == {}


def test_rule_in_another_account_than_the_registrys_is_taken_back(ecr: FakeEcr) -> None:
    hooks = hooks_at(ecr, ecr.control.url, account="999999999999")

    with pytest.raises(errors.Denied, match=f"account {ACCOUNT}, and ECR tells 999999999999"):
        hooks.register(hooks.place("team/app"), RECEIVER)

    assert ecr.hooks == {}


def test_target_that_is_not_taken_is_a_failure(ecr: FakeEcr, hooks: Webhooks) -> None:
    ecr.bridge.refuses = {"TargetId": "transship", "ErrorCode": "No", "ErrorMessage": "may not"}

    with pytest.raises(errors.Rejected, match="No: may not"):
        hooks.register(hooks.place("team/app"), RECEIVER)


def test_long_names_are_cut_and_stay_apart() -> None:
    names = {bridge_name(Receiver(f"transship-{'x' * 62}{n}", "", "")) for n in range(3)}
    assert len(names) == 3
    assert {len(name) for name in names} == {64}


@pytest.mark.parametrize(
    ("host", "region", "options"),
    [
        ("dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", {}),
        ("dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", {}),
        ("dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", {"use_fips_endpoint": True}),
        ("dkr-ecr.us-east-1.on.aws", "us-east-1", {"use_dualstack_endpoint": True}),
    ],
)
def test_eventbridge_is_where_awss_own_client_finds_it(
    host: str, region: str, options: dict[str, bool]
) -> None:
    theirs = boto3.client(
        "events",
        region_name=region,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(**options),
    )
    asked: list[str] = []

    def seen(request: Any, **_: Any) -> Any:
        asked.append(request.url)
        raise ConnectionError

    theirs.meta.events.register("before-send.events.DescribeRule", seen)
    with pytest.raises(ConnectionError):
        theirs.describe_rule(Name="any")

    assert asked[0].rstrip("/") == events_url(f"{ACCOUNT}.{host}")
