"""AWS Signature Version 4 (docs: "Create a signed AWS API request"), for POSTs of JSON to a path of /."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

ALGORITHM = "AWS4-HMAC-SHA256"


def sign(
    access_key: str,
    secret_key: str,
    *,
    region: str,
    service: str,
    host: str,
    headers: dict[str, str],
    body: bytes,
    moment: datetime,
) -> dict[str, str]:
    """Return `headers` with X-Amz-Date and Authorization; `moment` is now, in UTC.

    Every header given is signed, and Host. The secret key leaves as an HMAC only.
    """
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    signed = {**{name.lower(): value for name, value in headers.items()}, "host": host}
    signed["x-amz-date"] = stamp
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return {
        **headers,
        "X-Amz-Date": stamp,
        "Authorization": (
            f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={key.hex()}"
        ),
    }
