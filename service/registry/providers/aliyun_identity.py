"""The machine's own Alibaba Cloud identity, by alibabacloud-credentials (`transship[aliyun]`).

Its default chain: variables, an OIDC token of a Kubernetes service account (RRSA), its files, the instance's RAM role,
a URI. Over its own connections; what ends is renewed by it.
"""

from __future__ import annotations

from collections.abc import Callable

from service.errors import InvalidConfiguration
from service.registry.providers.access_key import AccessKey


def machine_keys(registry: str) -> Callable[[], AccessKey]:
    """Return what tells the key that holds now; raises InvalidConfiguration where there is none."""
    try:
        from alibabacloud_credentials.client import Client
    except ImportError:
        raise InvalidConfiguration(
            f"the machine's Alibaba Cloud identity for {registry} needs alibabacloud-credentials, which is not installed",
            field="credentials.keyless",
            hint="install transship[aliyun] where workers run",
        ) from None

    client = Client()

    def current() -> AccessKey:
        try:
            found = client.get_credential()
        except Exception as error:  # the library's errors have no class in common
            raise InvalidConfiguration(
                f"this machine has no Alibaba Cloud identity for {registry}: {type(error).__name__}",
                field="credentials.keyless",
                hint="give the worker a RAM role, or the variables that Alibaba Cloud's tools read",
            ) from error
        return AccessKey(
            found.get_access_key_id(),
            found.get_access_key_secret(),
            found.get_security_token() or "",
        )

    return current
