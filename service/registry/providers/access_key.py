"""Access keys, which sign requests to a cloud's API and are never sent themselves."""

from __future__ import annotations

from typing import NamedTuple


class AccessKey(NamedTuple):
    """An access key; `token` is the session's, empty for a key that does not end."""

    identity: str
    secret: str
    token: str = ""
