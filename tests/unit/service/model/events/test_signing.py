"""Who may send a notification: every scheme, and what must not pass for one."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from service.model.events.signing import SIGNATURE, TIMESTAMP, prove, sign

NOW = 1_800_000_000
SECRET, BEFORE, OTHER = "tsh_current", "tsh_before", "tsh_other"
BODY = b'{"events":[]}'


def judge(
    headers: dict[str, str] | None = None,
    *,
    provider: str = "harbor",
    body: bytes = BODY,
    token: str | None = None,
) -> tuple[str, ...] | None:
    return prove(provider, headers or {}, body, token, [SECRET, BEFORE], float(NOW))


def signed(secret: str = SECRET, at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return {TIMESTAMP: str(at), SIGNATURE: sign(secret, at, body)}


def github(secret: str = SECRET, body: bytes = BODY) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "72d3162e"}


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"transship:{password}".encode()).decode()


@pytest.mark.parametrize("secret", [SECRET, BEFORE])
@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_signature_of_either_secret_within_five_minutes_holds(secret: str, skew: int) -> None:
    proof = judge(signed(secret, NOW + skew))

    assert proof is not None
    assert len(proof) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(OTHER),
        signed(at=NOW - 301),
        signed(at=NOW + 301),
        {**signed(), TIMESTAMP: str(NOW - 1)},
        {**signed(), TIMESTAMP: ""},
        {**signed(), TIMESTAMP: f"{NOW}.0"},
        {**signed(), TIMESTAMP: f"-{NOW}"},
        {**signed(), TIMESTAMP: "9" * 400},
        {**signed(), SIGNATURE: ""},
        {**signed(), SIGNATURE: signed()[SIGNATURE].removeprefix("v1=")},
        {**signed(), SIGNATURE: signed()[SIGNATURE].upper()},
        {**signed(), SIGNATURE: f"{signed()[SIGNATURE]},{signed()[SIGNATURE]}"},
        {**signed(), SIGNATURE: "v1=\u00e9"},
        signed(body=b'{"events": []}'),
        {SIGNATURE: signed()[SIGNATURE]},
    ],
)
def test_anything_else_is_no_signature(headers: dict[str, str]) -> None:
    assert judge(headers) is None


def test_a_bad_signature_is_not_mended_by_a_good_token() -> None:
    assert judge({**signed(OTHER), "authorization": f"Bearer {SECRET}"}) is None
    assert judge(signed(OTHER), token=SECRET) is None
    assert judge(signed(), token=OTHER) is None


def test_each_flipped_bit_of_the_body_is_seen() -> None:
    for index in range(len(BODY)):
        changed = bytearray(BODY)
        changed[index] ^= 1
        assert judge(signed(), body=bytes(changed)) is None


@pytest.mark.parametrize("provider", ["github", "ghcr"])
def test_github_signs_and_both_signature_and_delivery_come_once(provider: str) -> None:
    first = judge(github(), provider=provider)
    renamed = judge({**github(), "x-github-delivery": "other"}, provider=provider)

    assert first is not None
    assert renamed is not None
    assert len(first) == 2
    assert set(first) & set(renamed), "the header is not signed: the signature itself counts"


def test_github_signature_of_another_secret_body_or_provider_is_none() -> None:
    assert judge(github(OTHER), provider="github") is None
    assert judge(github(body=b"{}"), provider="github") is None
    assert judge(github(), provider="harbor") is None


@pytest.mark.parametrize(
    "header",
    [SECRET, f"Bearer {SECRET}", f"bearer {SECRET}", basic(SECRET), basic(BEFORE), BEFORE],
)
def test_secret_in_the_authorization_header_holds(header: str) -> None:
    assert judge({"authorization": header}) == ()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer  {SECRET}",
        f"Bearer {SECRET} ",
        f"Bearer {SECRET},Bearer {SECRET}",
        f"Bearer {OTHER}",
        f"Token {SECRET}",
        basic(OTHER),
        "Basic ***",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        "Bearer \u00e9",
    ],
)
def test_other_authorization_is_none(header: str) -> None:
    assert judge({"authorization": header}) is None


def test_secret_as_the_last_part_of_the_address_holds() -> None:
    assert judge(token=SECRET) == ()
    assert judge({"authorization": "Bearer ey.of.google"}, token=SECRET) == ()
    assert judge(token=OTHER) is None
    assert judge({"authorization": f"Bearer {SECRET}"}, token="") is None


def test_jfrog_sends_the_secret_or_signs_with_it() -> None:
    digest = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    for given in (SECRET, digest, f"sha256={digest}"):
        assert judge({"x-jfrog-event-auth": given}, provider="jfrog") == ()
    for given in (OTHER, "", digest[:-1] + "x"):
        assert judge({"x-jfrog-event-auth": given}, provider="jfrog") is None
    assert judge({"x-jfrog-event-auth": SECRET}, provider="quay") is None


def test_artifact_hub_shows_the_secret_in_a_header_of_its_own() -> None:
    def shown(secret: str, provider: str = "artifacthub") -> tuple[str, ...] | None:
        return judge({"x-artifacthub-secret": secret}, provider=provider)

    assert shown(SECRET) == shown(BEFORE) == ()
    assert shown(OTHER) is None
    assert shown("") is None
    assert shown(SECRET, provider="harbor") is None, "no other sender has that header"
