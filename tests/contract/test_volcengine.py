"""contract:volcengine. Signatures, as the vendor makes them; the rest is in test_temporary_tokens.py."""

from __future__ import annotations

from datetime import UTC, datetime

from service.registry.providers.volcengine import sign


def test_signature_is_the_vendors_own() -> None:
    """Made by SignerV4.sign_only of the vendor's package volcengine, 1.0.229."""
    headers = sign(
        "AKLTEXAMPLEEXAMPLEEXAMPLE",
        "c2VjcmV0RVhBTVBMRXNlY3JldA==",
        region="cn-beijing",
        host="open.volcengineapi.com",
        query="Action=ListRepositories&Version=2022-05-12",
        body=b'{"Registry":"enterprise-1"}',
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
    )

    assert headers["Authorization"] == (
        "HMAC-SHA256 Credential=AKLTEXAMPLEEXAMPLEEXAMPLE/20261128/cn-beijing/cr/request, "
        "SignedHeaders=content-type;host;x-content-sha256;x-date, "
        "Signature=eb0b99399e7452e7770bd4c889332e50499f57175887739c044c47069f7e8658"
    )
