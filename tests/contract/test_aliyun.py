"""contract:aliyun. Signatures, as the vendor makes them; the rest is in test_temporary_tokens.py."""

from __future__ import annotations

from datetime import UTC, datetime

from service.registry.providers.aliyun import sign


def test_signature_is_the_vendors_own() -> None:
    """Made by the vendor's package alibabacloud-openapi-util, Client.get_authorization."""
    headers = sign(
        "LTAIEXAMPLEEXAMPLE00",
        "c2VjcmV0RVhBTVBMRQ",
        host="cr.cn-hangzhou.aliyuncs.com",
        action="ListRepository",
        query="InstanceId=cri-1&PageNo=1&PageSize=100",
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
        nonce="0123456789abcdef",
    )

    signed = sign(
        "STS.EXAMPLE",
        "c2VjcmV0RVhBTVBMRQ",
        host="cr.cn-hangzhou.aliyuncs.com",
        action="ListRepository",
        query="InstanceId=cri-1&PageNo=1&PageSize=100",
        moment=datetime(2026, 11, 28, 0, 40, tzinfo=UTC),
        nonce="0123456789abcdef",
        token="session-token",
    )
    assert signed["Authorization"].endswith(
        "x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version,"
        "Signature=c30c96b86f2c9081cdebf9a928472e93a41fddc22faa932cd401b98744ec4cc2"
    )
    assert headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=LTAIEXAMPLEEXAMPLE00,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=1bcd554b07525dcfa271c20bbc7625525c6b28abfb251753214b58aaca7f2447"
    )
