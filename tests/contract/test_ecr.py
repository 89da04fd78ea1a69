"""contract:ecr. Tokens that end, repositories, digests, deletions and parts at the fake ECR.

boto3 judges the fake's API beside moto's; botocore judges every signature; skopeo judges its registry.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from service import errors
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.provider import CapabilityOverrides
from service.model.states import ExecutionState
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.credentials import resolve
from service.registry.providers.sigv4 import sign
from service.registry.providers.table import PROVIDERS
from tests.contract.ecr import KEY, REGION, SECRET, FakeEcr
from tests.integration.registry.support import blob, client, push
from tests.support.planning import finish, mirror, plan
from tests.support.world import World, open_world, some_bytes

MIB = 1 << 20
OWNER = Credential(KEY, SECRET)


@pytest.fixture
def ecr() -> Iterator[FakeEcr]:
    with FakeEcr() as fake:
        yield fake


def open_client(ecr: FakeEcr, **endpoint: Any) -> RegistryClient:
    keys = {"provider": "ecr", "api_url": ecr.control.url, **endpoint}
    return client(ecr.url, credential=OWNER, endpoint=keys)


@pytest.fixture
def owner(ecr: FakeEcr) -> Iterator[RegistryClient]:
    made = open_client(ecr)
    yield made
    made.close()


def sdk(url: str) -> Any:
    return boto3.client(
        "ecr",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, proxies={}),
    )


def shape(value: Any) -> Any:
    """Names and types, without what they hold; empty lists say nothing."""
    if isinstance(value, dict):
        return {
            k: shape(v) for k, v in sorted(value.items()) if k != "ResponseMetadata" and v != []
        }
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return type(value).__name__


def spoken(ecr: Any) -> list[Any]:
    """What an ECR answers to one conversation, as the SDK reads it."""
    answers = []
    for action, members in (
        ("get_authorization_token", {}),
        ("create_repository", {"repositoryName": "team/app"}),
        ("create_repository", {"repositoryName": "team/app"}),
        ("describe_repositories", {}),
        ("describe_repositories", {"repositoryNames": ["none"]}),
        ("list_images", {"repositoryName": "team/app", "filter": {"tagStatus": "TAGGED"}}),
        ("list_images", {"repositoryName": "none"}),
        ("batch_delete_image", {"repositoryName": "team/app", "imageIds": [{"imageTag": "v1"}]}),
    ):
        try:
            answers.append(shape(getattr(ecr, action)(**members)))
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])
    return answers


def test_sdk_reads_the_same_from_the_fake_and_from_moto(ecr: FakeEcr, moto: str) -> None:
    assert spoken(sdk(ecr.control.url)) == spoken(sdk(moto))


def test_strategies_work_against_moto(ecr: FakeEcr, moto: str) -> None:
    strategies = open_client(ecr, api_url=moto).provided.strategies()
    assert strategies.maker is not None
    assert strategies.login is not None
    assert strategies.repositories is not None
    assert strategies.tag_deleter is not None

    assert not strategies.maker.exists("moto/app")
    strategies.maker.make("moto/app")
    strategies.maker.make("moto/app")

    assert strategies.maker.exists("moto/app")
    assert "moto/app" in {n for p in strategies.repositories.pages(None) for n in p.repositories}
    assert strategies.login.login().username == "AWS"
    with pytest.raises(errors.ManifestNotFound):
        strategies.tag_deleter.delete("moto/app", "v1")


def test_token_that_says_it_has_ended_long_ago_is_not_asked_for_again_at_once(
    ecr: FakeEcr, moto: str
) -> None:
    made = open_client(ecr, api_url=moto)

    assert {made.provided.credential().renew_at for _ in range(3)} == {
        made.provided.credential().renew_at
    }


def test_signatures_are_botocores() -> None:
    moment = datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "a.B",
        "X-Odd": " a  b ",
    }
    for body in (b"{}", b'{"a": "\xc3\xa4"}'):
        request = AWSRequest(
            "POST", "https://api.ecr.eu-west-1.amazonaws.com/", data=body, headers=headers
        )
        request.headers["X-Amz-Date"] = "20261128T010203Z"
        request.context["timestamp"] = "20261128T010203Z"
        signer = SigV4Auth(Credentials(KEY, SECRET), "ecr", "eu-west-1")
        text = signer.string_to_sign(request, signer.canonical_request(request))

        made = sign(
            KEY,
            SECRET,
            region="eu-west-1",
            service="ecr",
            host="api.ecr.eu-west-1.amazonaws.com",
            headers=headers,
            body=body,
            moment=moment,
        )

        assert made["Authorization"].endswith(f"Signature={signer.signature(text, request)}")
        assert f"Credential={KEY}/20261128/eu-west-1/ecr/aws4_request" in made["Authorization"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "https://api.ecr.eu-west-1.amazonaws.com"),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "https://api.ecr.cn-north-1.amazonaws.com.cn",
        ),
        (
            "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
            "https://ecr-fips.us-east-1.amazonaws.com",
        ),
        ("123456789012.dkr-ecr.us-east-1.on.aws", "https://ecr.us-east-1.api.aws"),
        ("registry.example", None),
    ],
)
def test_api_is_where_the_host_says(host: str, url: str | None) -> None:
    assert PROVIDERS["ecr"].api_url(host) == url


def test_first_push_makes_the_repository_once(ecr: FakeEcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    push(owner, "team/app", "v2", b"two")

    assert set(ecr.repositories) == {"team/app"}
    assert ecr.actions.count("CreateRepository") == 1
    assert ecr.actions.count("GetAuthorizationToken") == 1


def test_clients_that_push_first_at_once_make_one_repository(ecr: FakeEcr) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [open_client(ecr) for _ in range(4)]
        list(pool.map(lambda n: push(made[n % 4], "team/app", f"v{n}", b"x" * n), range(8)))

    assert len(ecr.storage.tags("team/app") or ()) == 8


def test_token_that_was_taken_back_is_replaced(ecr: FakeEcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    logins = owner.provided._logins  # its clock, to be past the pause between logins
    assert logins is not None
    logins._clock = lambda: time.monotonic() + 3
    ecr.ecr.issued.clear()

    assert owner.head_manifest("team/app", "v1") is not None
    assert ecr.actions.count("GetAuthorizationToken") == 2


def test_wrong_key_is_an_authentication_failure(ecr: FakeEcr) -> None:
    keys = {"provider": "ecr", "api_url": ecr.control.url}
    wrong = client(ecr.url, credential=Credential(KEY, "wrong"), endpoint=keys)

    with pytest.raises(errors.AuthenticationFailed, match="InvalidSignature"):
        wrong.head_manifest("team/app", "v1")


def keyless(ecr: FakeEcr) -> RegistryClient:
    keys = {"credentials": CredentialSpec(keyless="aws"), "provider": "ecr"}
    return RegistryClient(
        RegistryEndpoint("it", ecr.url, api_url=ecr.control.url, **keys),
        lambda: pytest.fail("no credential is configured"),
        identity_hosts=["127.0.0.1"],
    )


def test_effect_registries_credentials_keyless(
    ecr: FakeEcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of this hour")
    ecr.session = "of this hour"
    made = keyless(ecr)

    push(made, "team/app", "v1", b"one")
    made.delete_manifest("team/app", "v1")

    assert ecr.storage.tags("team/app") == {}
    made.close()


def test_machine_without_an_identity_is_told_so(
    ecr: FakeEcr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(errors.InvalidConfiguration, match="has no AWS identity"):
        keyless(ecr).head_manifest("team/app", "v1")


def test_identity_without_botocore_says_what_to_install(
    ecr: FakeEcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)

    with pytest.raises(errors.InvalidConfiguration, match="needs botocore") as caught:
        keyless(ecr).head_manifest("team/app", "v1")
    assert "transship[aws]" in caught.value.hint


def test_keyless_registry_that_is_no_aws_is_refused_and_not_taken_for_anonymous() -> None:
    with pytest.raises(errors.InvalidConfiguration, match="no registry of aws"):
        resolve(CredentialSpec(keyless="aws"), "registry.example", lambda: None)


def test_ready_made_password_needs_no_api(ecr: FakeEcr) -> None:
    ecr.repositories["team/app"] = False
    token, _ = ecr.ecr.issue()
    made = client(ecr.url, credential=Credential("AWS", token), endpoint={"provider": "ecr"})

    push(made, "team/app", "v1", b"one")

    assert ecr.actions == []
    with pytest.raises(errors.Unsupported):
        made.delete_manifest("team/app", "v1")


def test_lists_and_digests_come_by_the_page() -> None:
    with FakeEcr(page=2) as ecr:
        made = open_client(ecr)
        names = [f"team/app{n}" for n in range(5)]
        for name in names:
            push(made, name, "v1", name.encode())
        digests = {
            f"t{n}": str(push(made, "team/app0", f"t{n}", b"%d" % n).digest) for n in range(4)
        }

        pages = list(made.list_repositories())
        rest = list(made.list_repositories(cursor=pages[0].next))
        told = made.tags_with_digests("team/app0")
        assert told is not None
        found = {tag: digest for page in told for tag, digest in page.items()}

    assert [name for page in pages for name in page.repositories] == names
    assert rest == pages[1:]
    assert digests.items() <= found.items()
    assert len(found) == 5


def test_tag_is_deleted_and_its_sibling_stays(ecr: FakeEcr, owner: RegistryClient) -> None:
    push(owner, "team/app", "v1", b"one")
    push(owner, "team/app", "latest", b"one")

    owner.delete_manifest("team/app", "v1")

    assert list(ecr.storage.tags("team/app") or ()) == ["latest"]
    with pytest.raises(errors.ManifestNotFound):
        owner.delete_manifest("team/app", "v1")


def test_immutable_tag_is_told_from_other_refusals(ecr: FakeEcr, owner: RegistryClient) -> None:
    ecr.repositories["team/app"] = True
    push(owner, "team/app", "v1", b"one")

    with pytest.raises(errors.TagImmutable):
        push(owner, "team/app", "v1", b"two")


def test_parts_are_as_large_as_ecr_wants_them(ecr: FakeEcr) -> None:
    made = open_client(ecr, capabilities=CapabilityOverrides(uploads="chunked"))
    data, descriptor = blob(12 * MIB)
    source = client(ecr.url, credential=Credential("AWS", ecr.ecr.issue()[0]))
    ecr.repositories["a/src"] = False
    source.put_blob("a/src", descriptor.digest, data)

    copy_blob(source, "a/src", made, "b/dst", descriptor)

    sent = [one.received for one in ecr.log if one.method == "PATCH"]
    assert sent == [10 * MIB, 2 * MIB]
    assert {one.status for one in ecr.log if one.method == "PATCH"} == {201}


def test_throttled_call_is_tried_again(ecr: FakeEcr, owner: RegistryClient) -> None:
    body = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'
    struck = ecr.fault("^/$", method="POST", status=400, body=body, times=2)

    push(owner, "team/app", "v1", b"one")

    assert struck.fired == 2


def test_secrets_reach_their_own_hosts_only(ecr: FakeEcr, owner: RegistryClient) -> None:
    pushed = push(owner, "team/app", "v1", b"one" * MIB)
    data, descriptor = blob(MIB)
    owner.put_blob("team/app", descriptor.digest, data)
    assert owner.read_blob("team/app", descriptor.digest, MIB, MIB) == data
    assert owner.head_manifest("team/app", str(pushed.digest)) is not None

    tokens = [base64.b64encode(f"AWS:{one}".encode()).decode() for one in ecr.ecr.issued]
    for log in (ecr.log, ecr.control.log, ecr.cdn_log):
        assert log
        assert not [one for one in log if SECRET in f"{one.path}{one.headers}"]
    assert not [one for one in ecr.control.log if any(t in str(one.headers) for t in tokens)]
    assert not [one for one in ecr.cdn_log if "authorization" in one.headers]
    assert not [one for one in ecr.log if "AWS4-HMAC" in str(one.headers)]


# ---- a rule -----------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


def test_rule_copies_into_repositories_that_are_not_there(
    world: World, ecr: FakeEcr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_ECR", SECRET)
    spec = CredentialSpec(KEY, password_env="TRANSSHIP_SECRET_ECR")
    endpoint = RegistryEndpoint(
        "ecr", ecr.url, provider="ecr", api_url=ecr.control.url, credentials=spec
    )
    world.services.registries.put(endpoint, document={})
    for number in range(12):
        layers = [some_bytes(f"layer{number % 3}", 3000)]
        world.push(f"app{number % 2}", f"v{number}", layers, mark=str(number))
    rule = mirror("app*", to="team/{name}", registry="ecr")

    first = plan(world, rule)

    assert finish(world, first) is ExecutionState.SUCCEEDED, world.copies(first)
    assert set(ecr.repositories) == {"team/app0", "team/app1"}
    assert len(ecr.storage.tags("team/app1") or ()) == 6
    before = len(ecr.log), len(ecr.control.log)
    again = plan(world, rule)
    assert finish(world, again) is ExecutionState.SUCCEEDED
    assert world.copies(again) == []
    asked = [one for one in ecr.log[before[0] :] if one.path != "/v2/"]
    assert asked == [], "all is told by two pages of ListImages"
    assert len(ecr.control.log) - before[1] == 2
