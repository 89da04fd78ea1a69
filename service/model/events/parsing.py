"""Which parser reads a provider's notifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.model.events import (
    acr,
    aliyun,
    artifacthub,
    distribution,
    dockerhub,
    ecr,
    gar,
    github,
    harbor,
    jfrog,
    quay,
    zot,
)
from service.model.events.values import Delivery

PROVIDERS: Mapping[str, Callable[[Mapping[str, str], bytes, str], Delivery]] = {
    "distribution": distribution.parse,
    "gitlab": distribution.parse,
    "harbor": harbor.parse,
    "tcr": harbor.parse,
    "dockerhub": dockerhub.parse,
    "quay": quay.parse,
    "github": github.parse,
    "ghcr": github.parse,
    "ecr": ecr.parse,
    "acr": acr.parse,
    "gar": gar.parse,
    "aliyun-acr": aliyun.parse,
    "jfrog": jfrog.parse,
    "zot": zot.parse,
    "artifacthub": artifacthub.parse,
}


def parse(provider: str, headers: Mapping[str, str], body: bytes, host: str = "") -> Delivery:
    """Return what a provider's notification says.

    `headers` have their names in lower case; `host` is the registry's, to tell its events from
    another one's. Raises KeyError for a provider that is none, InvalidInput for what is no JSON.
    """
    return PROVIDERS[provider](headers, body, host)
