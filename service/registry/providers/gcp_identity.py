"""The machine's own Google identity, by google-auth (`transship[gcp]`).

Application default credentials, in Google's order: the file that GOOGLE_APPLICATION_CREDENTIALS names (workload
identity federation, or a service account's key), gcloud's own, the metadata server (which is GKE's workload
identity, too). Over google-auth's own connections.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from service.errors import InvalidConfiguration

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EARLIER = 0.2
"""A token is renewed when so much of its life is left."""


class Lease(NamedTuple):
    """An access token, and the monotonic second from which it is to be renewed."""

    token: str
    renew_at: float


class MachineTokens:
    """Access tokens of one process for one registry. For any number of threads."""

    def __init__(self, registry: str) -> None:
        """Find the identity; raises InvalidConfiguration where there is none."""
        self._registry = registry
        self._lock = threading.Lock()
        self._lease = Lease("", 0.0)
        try:
            from google.auth import default
            from google.auth.exceptions import GoogleAuthError
            from google.auth.transport.requests import Request
        except ImportError:
            raise InvalidConfiguration(
                f"the machine's Google identity for {registry} needs google-auth, which is not installed",
                field="credentials.keyless",
                hint="install transship[gcp] where workers run",
            ) from None
        self._failures = GoogleAuthError
        self._transport = Request()
        try:
            self._credentials: Any
            self._credentials, project = default(scopes=[SCOPE])
        except GoogleAuthError as error:
            raise self._refused(error) from error
        self.project: str = project or ""
        """Whose repositories are listed; "" where the identity belongs to none."""

    def lease(self) -> Lease:
        """Return a token that holds; raises InvalidConfiguration where none is given."""
        with self._lock:
            if time.monotonic() >= self._lease.renew_at:
                before = time.monotonic()
                try:
                    self._credentials.refresh(self._transport)
                except self._failures as error:
                    raise self._refused(error) from error
                expiry: datetime = self._credentials.expiry
                life = (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
                renew_at = before + max(1.0, life * (1 - EARLIER))
                self._lease = Lease(str(self._credentials.token), renew_at)
            return self._lease

    def _refused(self, error: Exception) -> InvalidConfiguration:
        return InvalidConfiguration(
            f"this machine has no Google identity for {self._registry}: {type(error).__name__}",
            field="credentials.keyless",
            hint="run where there is a metadata server, or have GOOGLE_APPLICATION_CREDENTIALS name a file",
        )
