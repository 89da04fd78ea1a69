"""Tencent Cloud's signature TC3-HMAC-SHA256 (API 3.0, "Signature v3"), for POSTs of JSON to a path of /."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

ALGORITHM = "TC3-HMAC-SHA256"
SIGNED = "content-type;host"


def sign(
    secret_id: str, secret_key: str, *, service: str, host: str, body: bytes, timestamp: int
) -> str:
    """Return the Authorization of a request of type application/json; `timestamp` is now, in seconds."""
    date = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
    scope = f"{date}/{service}/tc3_request"
    request = (
        f"POST\n/\n\ncontent-type:application/json\nhost:{host}\n\n{SIGNED}\n"
        f"{hashlib.sha256(body).hexdigest()}"
    )
    text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"TC3{secret_key}".encode()
    for part in (date, service, "tc3_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return (
        f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={SIGNED}, Signature={key.hex()}"
    )
