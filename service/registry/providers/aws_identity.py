"""The machine's own AWS identity, by botocore's default chain (`transship[aws]`).

Environment, shared files, web identity (IRSA), ECS and EKS containers, the instance's metadata service, in
botocore's order; what ends is renewed by botocore, over connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service.errors import InvalidConfiguration


class AccessKey(NamedTuple):
    """An access key; `token` is the session's, empty for a key that does not end."""

    identity: str
    secret: str
    token: str = ""


def machine_keys(registry: str) -> Callable[[], AccessKey]:
    """Return what tells the key that holds now; raises InvalidConfiguration where there is none."""
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        raise InvalidConfiguration(
            f"the machine's AWS identity for {registry} needs botocore, which is not installed",
            field="credentials.keyless",
            hint="install transship[aws] where workers run",
        ) from None

    def refused(why: str) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"this machine has no AWS identity for {registry}{why}",
            field="credentials.keyless",
            hint="give the worker a role, or the variables and files that AWS tools read",
        )

    try:
        found = Session().get_credentials()
    except BotoCoreError as error:
        raise refused(f": {type(error).__name__}") from error
    if found is None:
        raise refused("")

    def current() -> AccessKey:
        try:
            frozen = found.get_frozen_credentials()
        except BotoCoreError as error:
            raise refused(f": {type(error).__name__}") from error
        return AccessKey(frozen.access_key, frozen.secret_key, frozen.token or "")

    return current
