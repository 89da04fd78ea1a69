"""How long a registry that is away is waited for: no fault of the copies' until then (P13)."""

from __future__ import annotations

from service.errors import AuthenticationFailed, RegistryAway
from service.settings import Settings


def is_waited_for(error: RegistryAway, settings: Settings) -> bool:
    """Whether a registry that is away may still come back in time."""
    refused = isinstance(error.cause, AuthenticationFailed)
    patience = settings.rotation_patience_seconds if refused else settings.outage_patience_seconds
    return error.since_seconds < patience
