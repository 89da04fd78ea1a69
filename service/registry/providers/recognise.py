"""Which provider a registry is: by its configuration, its host, or what it answers (`provider: auto`)."""

from __future__ import annotations

from collections.abc import Mapping

from service.model.endpoint import RegistryEndpoint
from service.model.provider import AUTO, Provider
from service.registry.challenge import parse_challenges
from service.registry.providers.table import GENERIC, PROVIDERS


def configured(endpoint: RegistryEndpoint) -> Provider | None:
    """Return the provider that configuration or host name tells; None where only answers can."""
    if endpoint.provider != AUTO:
        return PROVIDERS.get(endpoint.provider, GENERIC)  # a later version may have saved its name
    return next((row for row in PROVIDERS.values() if row.has_host(endpoint.host)), None)


def answered(headers: Mapping[str, str]) -> Provider | None:
    """Return the provider that an answer's headers tell (names in lower case); None: nothing tells.

    Sources: Harbor's token service is named `harbor-registry` (src/core/service/token), GitLab's
    `container_registry` behind /jwt/auth, Quay's realm is /v2/auth, Artifactory writes headers of its
    own. distribution's Docker-Distribution-Api-Version is sent by most others, too, and tells nothing.
    """
    if any(name.startswith(("x-jfrog-", "x-artifactory-")) for name in headers):
        return PROVIDERS["jfrog"]
    for challenge in parse_challenges(headers.get("www-authenticate", "")):
        service = challenge.parameters.get("service", "")
        realm = challenge.parameters.get("realm", "")
        if service == "harbor-registry" or (challenge.scheme == "basic" and realm == "harbor"):
            return PROVIDERS["harbor"]
        if service == "container_registry" and realm.endswith("/jwt/auth"):
            return PROVIDERS["gitlab"]
        if realm.endswith("/v2/auth"):
            return PROVIDERS["quay"]
    return None
