"""Authentication against the sample registry and its token service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.samples.registry import BasicAuth, BearerAuth, SampleRegistry, TokenService
from service import errors
from service.model.digest import Digest
from service.model.endpoint import Credential, RegistryEndpoint
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED
from tests.integration.registry.support import QUICK, Pauses, blob, client, push

USERS = {"u": "s3cret:@/%# \u00fc"}
GOOD = Credential("u", USERS["u"])


def test_basic_is_sent_at_once_after_the_first_challenge() -> None:
    with SampleRegistry(auth=BasicAuth(USERS)) as registry:
        made = client(registry.url, credential=GOOD)
        made.ping()
        push(made, "a/b", "v1", b"one")
        assert [entry.status for entry in registry.log].count(401) == 1
        made.close()


def test_wrong_credentials_fail_once_and_are_not_shown() -> None:
    with SampleRegistry(auth=BasicAuth(USERS)) as registry:
        made = client(registry.url, credential=Credential("u", "wrongpassword"))
        with pytest.raises(errors.AuthenticationFailed) as caught:
            made.ping()
        assert "wrongpassword" not in repr(caught.value)
        assert len(registry.log) == 2
        made.close()


def test_wrong_credentials_are_told_in_one_wording_whoever_refuses_them() -> None:
    """The registry itself at the first and at a later request, and its token service."""
    told = []
    for auth in (BasicAuth(USERS), BearerAuth(TokenService(users=USERS))):
        with SampleRegistry(auth=auth) as registry:
            made = client(registry.url, credential=Credential("u", "wrongpassword"))
            for _ in range(2):
                with pytest.raises(errors.AuthenticationFailed) as caught:
                    made.ping()
                told.append(caught.value)
            made.close()

    assert len(told) == 4
    for one in told:
        assert one.message.startswith("east does not accept the credentials")
        assert one.hint.startswith("check the user name and the password or token of east,")


@pytest.mark.parametrize("bearer", [False, True])
def test_missing_credentials_are_told_in_one_wording(bearer: bool) -> None:
    auth = BearerAuth(TokenService(users=USERS)) if bearer else BasicAuth(USERS)
    with SampleRegistry(auth=auth) as registry:
        made = client(registry.url)
        with pytest.raises(errors.AuthenticationFailed, match="asks for credentials and none are"):
            made.head_manifest("a/b", "v1")
        made.close()


def test_none_where_some_are_asked_for_says_so() -> None:
    with SampleRegistry(auth=BasicAuth(USERS)) as registry:
        made = client(registry.url)
        with pytest.raises(errors.AuthenticationFailed, match="none are configured"):
            made.ping()
        made.close()


def test_one_token_serves_all_there_is_to_do_in_a_repository() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        push(made, "a/b", "v1", b"one", b"two")
        made.get_manifest("a/b", "v1")
        assert [item.scopes for item in tokens.requests] == [("repository:a/b:pull,push",)]
        assert tokens.requests[0].account == "u"
        assert [entry.status for entry in registry.log].count(401) == 1
        made.close()


def test_an_anonymous_reader_asks_for_pull_only() -> None:
    tokens = TokenService(users=USERS, anonymous_pull=True)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        writer = client(registry.url, credential=GOOD)
        push(writer, "a/b", "v1", b"one")
        reader = client(registry.url)
        assert reader.head_manifest("a/b", "v1") is not None
        assert tokens.requests[-1].scopes == ("repository:a/b:pull",)
        with pytest.raises((errors.AuthenticationFailed, errors.Denied)):
            reader.start_upload("a/b")
        writer.close()
        reader.close()


def test_a_mount_asks_for_both_repositories() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        data, descriptor = blob(100)
        made.put_blob("a/b", descriptor.digest, data)
        assert made.mount_blob("c/d", descriptor.digest, "a/b") is MOUNTED
        assert tokens.requests[-1].scopes == (
            "repository:c/d:pull,push",
            "repository:a/b:pull",
        )
        before = len(tokens.requests)
        made.head_blob("c/d", descriptor.digest)
        assert len(tokens.requests) == before
        made.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_service_that_refuses_two_repositories_only_costs_the_mount(status: int) -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        data, descriptor = blob(100)
        made.put_blob("a/b", descriptor.digest, data)
        rule = registry.fault("^/token.*scope=.*scope=", status=status, times=9)
        assert made.mount_blob("c/d", descriptor.digest, "a/b") is None
        made.put_blob("c/d", descriptor.digest, data)
        assert rule.fired >= 1
        made.close()


def test_a_token_that_ends_is_renewed_once_for_all_threads() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        push(made, "a/b", "v1", b"one")
        tokens.revoke_all()
        asked = len(tokens.requests)
        with ThreadPoolExecutor(20) as pool:
            heads = list(pool.map(lambda _: made.head_manifest("a/b", "v1"), range(20)))
        assert all(heads)
        assert len(tokens.requests) == asked + 1
        made.close()


def test_a_token_that_ends_within_a_blob_is_renewed() -> None:
    tokens = TokenService(users=USERS)
    data, descriptor = blob(3 * 1024 * 1024)
    with (
        SampleRegistry() as east,
        SampleRegistry(auth=BearerAuth(tokens)) as west,
    ):
        source = client(east.url)
        source.put_blob("a/b", descriptor.digest, data)
        destination = client(west.url, credential=GOOD)
        rule = west.fault("/blobs/uploads/", method="POST", after=lambda *_: tokens.revoke_all())
        copy_blob(source, "a/b", destination, "m/b", descriptor)
        assert rule.fired == 1
        assert west.storage.blob_bytes(str(descriptor.digest)) == data
        source.close()
        destination.close()


def test_a_token_that_never_suffices_ends_the_request() -> None:
    tokens = TokenService(users=USERS, uses=0)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        with pytest.raises(errors.AuthenticationFailed):
            made.head_manifest("a/b", "v1")
        assert len(tokens.requests) == 1
        made.close()


def test_a_token_service_that_refuses_is_an_authentication_failure() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=Credential("u", "wrongpassword"))
        with pytest.raises(errors.AuthenticationFailed) as caught:
            made.head_manifest("a/b", "v1")
        assert "wrongpassword" not in repr(caught.value)
        made.close()


def test_an_identity_token_is_posted_and_falls_back_to_get() -> None:
    identity = Credential(identity_token="idt-1")
    tokens = TokenService(users=USERS, identity_tokens={"idt-1": "u"})
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=identity)
        assert made.head_manifest("a/b", "v1") is None
        assert tokens.requests[-1].method == "POST"
        made.close()
    tokens = TokenService(users={"<token>": "idt-1"}, allow_post=False)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=identity)
        assert made.head_manifest("a/b", "v1") is None
        assert tokens.requests[-1].method == "GET"
        made.close()


@pytest.mark.parametrize("fields", [("token",), ("access_token",)])
def test_both_names_of_the_token_are_read(fields: tuple[str, ...]) -> None:
    tokens = TokenService(users=USERS, fields=fields)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = client(registry.url, credential=GOOD)
        assert made.head_manifest("a/b", "v1") is None
        made.close()


def test_a_changed_credential_is_used_at_the_next_refusal() -> None:
    current = [Credential("u", "old")]
    with SampleRegistry(auth=BasicAuth({"u": "old"})) as registry:
        made = RegistryClient(
            RegistryEndpoint("east", registry.url),
            lambda: current[0],
            timeouts=QUICK,
            sleep=Pauses(),
        )
        made.ping()
        registry.api.auth = BasicAuth({"u": "new"})
        current[0] = Credential("u", "new")
        made.ping()
        made.close()


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, "body": b"not json"},
        {"status": 200, "body": b"[]"},
        {"status": 200, "body": b"{}"},
        {"status": 200, "body": b'{"token": "a b"}'},
        {"status": 200, "body": b'{"token": "a\\r\\nX: y"}'},
        {"status": 200, "body": b'{"token": "' + b"x" * (10 << 20) + b'"}'},
        {"status": 302, "headers": {"Location": "http://169.254.169.254/"}},
        {"status": 500},
    ],
)
def test_a_token_service_that_answers_nonsense_is_bounded(answer: dict[str, object]) -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        rule = registry.fault("^/token", times=99, **answer)
        made = client(registry.url, credential=GOOD)
        with pytest.raises(errors.RegistryError):
            made.head_manifest("a/b", "v1")
        assert 1 <= rule.fired <= 4
        made.close()


def test_a_token_service_that_fails_once_is_asked_again() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        rule = registry.fault("^/token", status=503)
        made = client(registry.url, credential=GOOD)
        assert made.head_manifest("a/b", "v1") is None
        assert rule.fired == 1
        made.close()


def test_a_realm_on_the_same_host_and_another_port_works() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry() as other:
        auth = BearerAuth(tokens, realm=f"{other.url}/token")
        other.api.auth = auth
        with SampleRegistry(auth=auth) as registry:
            made = client(registry.url, credential=GOOD)
            assert made.head_manifest("a/b", "v1") is None
            made.close()


@pytest.mark.parametrize(
    "realm",
    [
        "http://evil.example/token",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:9/token",
        "http://localhost:9/token",
        "http://u:p@127.0.0.1/token",
        "ftp://127.0.0.1/token",
        "http://127.0.0.1\\@evil.example/",
    ],
)
def test_a_realm_elsewhere_is_given_nothing(realm: str) -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry(auth=BearerAuth(tokens, realm=realm)) as registry:
        made = client(
            registry.url,
            credential=GOOD,
            resolve=lambda host, port: (
                pytest.fail(f"asked {host}") if host != "127.0.0.1" else ["127.0.0.1"]
            ),
        )
        with pytest.raises((errors.AddressRefused, errors.AuthenticationFailed)):
            made.head_manifest("a/b", "v1")
        made.close()


def test_a_realm_that_is_listed_is_used() -> None:
    tokens = TokenService(users=USERS)
    with SampleRegistry() as other:
        auth = BearerAuth(tokens, realm=f"http://auth.test:{other.port}/token")
        other.api.auth = auth
        with SampleRegistry(auth=auth) as registry:
            made = client(
                registry.url,
                credential=GOOD,
                endpoint={"trusted_hosts": ("auth.test",)},
                resolve=lambda *_: ["127.0.0.1"],
            )
            assert made.head_manifest("a/b", "v1") is None
            made.close()


def test_a_redirect_never_carries_credentials() -> None:
    with SampleRegistry(auth=BasicAuth(USERS), redirect_blobs=True) as registry:
        made = client(registry.url, credential=GOOD)
        data, descriptor = blob(100)
        made.put_blob("a/b", descriptor.digest, data)
        assert made.read_blob("a/b", descriptor.digest, 100, 100) == data
        assert registry.cdn_log
        assert all("authorization" not in entry.headers for entry in registry.cdn_log)
        made.close()


def test_an_upload_elsewhere_is_sent_without_credentials() -> None:
    data = b"x" * 100
    digest = Digest.of(data)
    with SampleRegistry() as other, SampleRegistry(auth=BasicAuth(USERS)) as registry:
        place = f"{other.url}/v2/a/b/blobs/uploads/x"
        registry.fault("/blobs/uploads/", method="POST", headers={"Location": place}, times=9)
        made = client(registry.url, credential=GOOD)
        with pytest.raises(errors.RegistryError):
            made.put_blob("a/b", digest, data)
        assert other.log
        assert all("authorization" not in entry.headers for entry in other.log)
        made.close()


def test_logs_of_a_credential_do_not_show_it() -> None:
    assert "s3cret" not in repr(GOOD)
