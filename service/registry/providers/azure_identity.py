"""The machine's own identity at Microsoft Entra, by azure-identity (`transship[azure]`).

Workload identity (a federated token of Kubernetes) where AZURE_FEDERATED_TOKEN_FILE says so, else the managed
identity of App Service, Arc or the instance's metadata service; AZURE_CLIENT_ID chooses among several. Over
azure-identity's own connections, with its cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from service.errors import InvalidConfiguration

SCOPE = "https://containerregistry.azure.net/.default"
"""What tokens for a registry are for: registries, and nothing else of Azure (azure-containerregistry's default audience)."""


def machine_token(registry: str, scope: str = SCOPE) -> Callable[[], str]:
    """Return what tells an access token; raises InvalidConfiguration where there is none."""
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import ManagedIdentityCredential, WorkloadIdentityCredential
    except ImportError:
        raise InvalidConfiguration(
            f"the machine's Azure identity for {registry} needs azure-identity, which is not installed",
            field="credentials.keyless",
            hint="install transship[azure] where workers run",
        ) from None

    def refused(error: Exception) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"this machine has no Azure identity for {registry}: {type(error).__name__}",
            field="credentials.keyless",
            hint="give the worker a managed identity or a workload identity; AZURE_CLIENT_ID chooses one",
        )

    found: Any
    try:
        if os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            found = WorkloadIdentityCredential()
        else:
            client_id = os.environ.get("AZURE_CLIENT_ID") or None
            found = ManagedIdentityCredential(client_id=client_id)
    except (AzureError, ValueError) as error:
        raise refused(error) from error

    def current() -> str:
        try:
            return str(found.get_token(scope).token)
        except AzureError as error:
            raise refused(error) from error

    return current
