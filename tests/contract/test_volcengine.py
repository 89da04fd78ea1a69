"""contract:volcengine. Signatures, as the vendor makes them; the rest is in test_temporary_tokens.py and test_keyless.py."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from volcenginesdkcore.signv4 import SignerV4

from service.registry.providers.volcengine import sign

ACCESS_KEY, SECRET_KEY = "AKLTEXAMPLEEXAMPLEEXAMPLE", "c2VjcmV0RVhBTVBMRXNlY3JldA=="
HOST, QUERY = "open.volcengineapi.com", "Action=ListRepositories&Version=2022-05-12"


@pytest.mark.parametrize("token", ["", "a session's token"])
def test_signature_is_the_vendors_own(token: str) -> None:
    body = b'{"Registry":"enterprise-1"}'
    theirs = {"Content-Type": "application/json", "Host": HOST}
    query = dict(one.split("=") for one in QUERY.split("&"))
    SignerV4.sign(
        "/",
        "POST",
        theirs,
        body.decode(),
        None,
        query,
        ACCESS_KEY,
        SECRET_KEY,
        "cn-beijing",
        "cr",
        token or None,
    )
    moment = datetime.strptime(theirs["X-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    ours = sign(
        ACCESS_KEY,
        SECRET_KEY,
        region="cn-beijing",
        host=HOST,
        query=QUERY,
        body=body,
        moment=moment,
        token=token,
    )

    assert {**ours, "Host": HOST} == theirs


def test_signature_is_the_one_of_the_vendors_other_package() -> None:
    """Made by SignerV4.sign_only of the vendor's package volcengine, 1.0.229."""
    headers = sign(
        ACCESS_KEY,
        SECRET_KEY,
        region="cn-beijing",
        host=HOST,
        query=QUERY,
        body=b'{"Registry":"enterprise-1"}',
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
    )

    assert headers["Authorization"] == (
        "HMAC-SHA256 Credential=AKLTEXAMPLEEXAMPLEEXAMPLE/20261128/cn-beijing/cr/request, "
        "SignedHeaders=content-type;host;x-content-sha256;x-date, "
        "Signature=eb0b99399e7452e7770bd4c889332e50499f57175887739c044c47069f7e8658"
    )
