"""Huawei Cloud's signature SDK-HMAC-SHA256 ("AK/SK Signing and Authentication"), for requests without query and body."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
SIGNED = "content-type;host;x-sdk-date"


def sign(
    access_key: str, secret_key: str, *, method: str, path: str, host: str, moment: datetime
) -> dict[str, str]:
    """Return the headers of a request of type application/json; `moment` is now, in UTC.

    The secret key leaves as an HMAC only.
    """
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    canonical = "/".join(quote(part, safe="~") for part in unquote(path).split("/"))
    request = (
        f"{method}\n{canonical.rstrip('/')}/\n\n"
        f"content-type:application/json\nhost:{host}\nx-sdk-date:{stamp}\n\n{SIGNED}\n"
        f"{hashlib.sha256(b'').hexdigest()}"
    )
    text = f"{ALGORITHM}\n{stamp}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-Sdk-Date": stamp,
        "Authorization": f"{ALGORITHM} Access={access_key}, SignedHeaders={SIGNED}, Signature={signature}",
    }
