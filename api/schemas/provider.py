"""What an administrator says of a registry's provider: its name, and where it differs from its row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from marshmallow import post_load, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Flag, Whole, invalid
from service.model.endpoint import RegistryEndpoint
from service.model.provider import (
    AUTO,
    OF_LAYOUTS,
    CapabilityOverrides,
    Mounts,
    ReferrersBy,
    TagDeletion,
    Uploads,
)
from service.registry.providers.recognise import configured
from service.registry.providers.table import GENERIC, PROVIDERS

MOST_CHUNK_BYTES = 1 << 40


def provider_field() -> Choice:
    """Return the field of a provider's name."""
    return Choice(AUTO, *PROVIDERS)


class CapabilitiesSchema(StrictSchema):
    """Read into CapabilityOverrides."""

    catalog = Flag()
    digest_lists = Flag()
    uploads = Choice(*get_args(Uploads))
    chunk_bytes = Whole(least=1, most=MOST_CHUNK_BYTES)
    chunk_minimum_bytes = Whole(least=0, most=MOST_CHUNK_BYTES)
    mount = Choice(*get_args(Mounts))
    referrers = Choice(*get_args(ReferrersBy))
    tag_delete = Choice(*get_args(TagDeletion))

    @validates_schema
    def _bounds(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        most = data.get("chunk_bytes")
        if most is not None and data.get("chunk_minimum_bytes", 0) > most:
            raise invalid("chunk_minimum_bytes is above chunk_bytes")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> CapabilityOverrides:
        del kwargs
        return CapabilityOverrides(**data)


def effective_provider(endpoint: RegistryEndpoint) -> dict[str, Any]:
    """Return provider and capabilities, as far as configuration and host name tell them.

    A registry that only its answers will tell stays `auto`, with the capabilities of any OCI registry.
    """
    known = configured(endpoint)
    usual = OF_LAYOUTS if endpoint.layout is not None else (known or GENERIC).capabilities
    capabilities = endpoint.capabilities.on(usual)
    return {
        "provider": known.name if known else endpoint.provider,
        "capabilities": {
            name: value for name, value in asdict(capabilities).items() if value is not None
        },
        **({"api_url": endpoint.api_url} if endpoint.api_url else {}),
    }
