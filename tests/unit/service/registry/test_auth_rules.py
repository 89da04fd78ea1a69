from __future__ import annotations

import pytest

from service.errors import AddressRefused, InvalidConfiguration
from service.model.endpoint import Credential, RegistryEndpoint
from service.registry.access import CATALOG, PING, Access
from service.registry.auth import Authenticator
from service.registry.connector import Connector
from service.registry.origin import split_url
from service.registry.pool import Pool
from service.registry.timeouts import Timeouts
from service.registry.tokens import MINIMUM_LIFE_SECONDS, _life_seconds, basic_value


def authenticator(url: str, credential: Credential | None = None, *trusted: str) -> Authenticator:
    connector = Connector(
        RegistryEndpoint("east", url, trusted_hosts=trusted),
        resolve=lambda host, _: pytest.fail(f"{host} was asked for"),
    )
    return Authenticator(
        Pool(connector, Timeouts()),
        "east",
        lambda: credential or Credential(),
        user_agent="x",
        counted=lambda *_: None,
    )


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://r.example", "https://r.example/token"),
        ("https://r.example", "https://r.example:8443/token"),
        ("http://r.example:5000", "http://r.example:5001/token"),
        ("http://r.example:5000", "https://r.example/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://docker.io", "https://auth.docker.io/token"),
        ("https://registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
        ("https://registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"),
    ],
)  # fmt: skip
def test_realms_that_are_given_credentials(registry: str, realm: str) -> None:
    authenticator(registry)._check_realm(split_url(realm)[0])


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://r.example", "http://r.example/token"),
        ("https://r.example", "https://evil.example/token"),
        ("https://r.example", "https://xr.example/token"),
        ("https://a.r.example", "https://example/token"),
        ("https://a.azurecr.io", "https://b.azurecr.io/oauth2/token"),
        ("https://r.example", "https://sub.r.example/token"),
        ("https://r.example", "https://auth.docker.io/token"),
        ("https://r.example", "https://r.example.evil.example/token"),
        ("https://10.0.0.1", "https://0.0.1/token"),
        ("https://r.example", "https://127.0.0.1/token"),
    ],
)
def test_realms_that_are_given_nothing(registry: str, realm: str) -> None:
    with pytest.raises(AddressRefused):
        authenticator(registry)._check_realm(split_url(realm)[0])


def test_a_listed_host_may_be_the_realm() -> None:
    made = authenticator("https://r.example", None, "auth.example")
    made._check_realm(split_url("https://auth.example/token")[0])


def test_scopes_ask_for_what_there_is_to_do() -> None:
    pull = Access("pull", "a/b")
    assert pull.scopes(anonymous=True) == ("repository:a/b:pull",)
    assert pull.scopes(anonymous=False) == ("repository:a/b:pull,push",)
    mount = Access("push", "a/b", "c/d")
    assert mount.scopes(anonymous=False) == (
        "repository:a/b:pull,push",
        "repository:c/d:pull",
    )
    assert Access("delete", "a").scopes(anonymous=False) == ("repository:a:pull,push,delete",)
    assert CATALOG.scopes(anonymous=False) == ("registry:catalog:*",)
    assert PING.scopes(anonymous=False) == ()


@pytest.mark.parametrize("text", ["p\r\nX: y", "p\x00", "p\x7f"])
def test_a_credential_with_control_characters_is_not_sent(text: str) -> None:
    made = authenticator("https://r.example", Credential("u", text))
    with pytest.raises(InvalidConfiguration):
        made.renew(PING, 'Basic realm="x"', "")


def test_basic_is_utf_8() -> None:
    assert basic_value(Credential("u", "\u00fc")) == "Basic dTrDvA=="


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({}, 60),
        ({"expires_in": 300}, 300),
        ({"expires_in": 0}, 60),
        ({"expires_in": -1}, 60),
        ({"expires_in": 5}, 60),
        ({"expires_in": "300"}, 60),
        ({"expires_in": True}, 60),
        ({"expires_in": float("nan")}, 60),
        ({"expires_in": 10**12}, 86400),
        ({"expires_in": 300, "issued_at": "nonsense"}, 300),
        ({"expires_in": 300, "issued_at": "2001-01-01T00:00:00Z"}, 300),
        ({"expires_in": 300, "issued_at": "2999-01-01T00:00:00Z"}, 300),
    ],
)
def test_a_tokens_life_is_bounded_and_skewed_clocks_are_not_believed(
    answer: dict[str, object], seconds: float
) -> None:
    assert _life_seconds(answer) == seconds
    assert _life_seconds(answer) >= MINIMUM_LIFE_SECONDS
