"""The machine's own Volcengine identity, by volcenginesdk-core (`transship[volcengine]`).

Its default chain: variables, an OIDC token of a Kubernetes service account, the file of its command line, the instance's
IAM role from the metadata service. Over its own connections; what ends is renewed by it.
"""

from __future__ import annotations

from collections.abc import Callable

from service.errors import InvalidConfiguration
from service.registry.providers.access_key import AccessKey


def machine_keys(registry: str) -> Callable[[], AccessKey]:
    """Return what tells the key that holds now; raises InvalidConfiguration where there is none."""
    try:
        from volcenginesdkcore.auth.providers import DefaultCredentialProvider
    except ImportError:
        raise InvalidConfiguration(
            f"the machine's Volcengine identity for {registry} needs volcenginesdk-core, which is not installed",
            field="credentials.keyless",
            hint="install transship[volcengine] where workers run",
        ) from None

    chain = DefaultCredentialProvider()

    def current() -> AccessKey:
        try:
            found = chain.get_credentials()
        except Exception as error:  # the library's errors have no class in common
            raise InvalidConfiguration(
                f"this machine has no Volcengine identity for {registry}",
                field="credentials.keyless",
                hint="give the worker an IAM role, or the variables that Volcengine's tools read",
            ) from error
        return AccessKey(found.ak, found.sk, found.session_token or "")

    return current
