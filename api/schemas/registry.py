"""A registry's document (DESIGN section 8) as far as this version has its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.credentials import (
    Credentials,
    CredentialsSchema,
    FileCredentialsSchema,
    effective_credentials,
    made_of,
)
from api.schemas.fields import Flag, Items, Judged, Name, Text, Told, invalid
from api.schemas.limits import LimitsSchema, effective_limits
from api.schemas.provider import CapabilitiesSchema, effective_provider, provider_field
from api.schemas.region import NearerAddresses, effective_nearer
from api.schemas.words import normalise_registry_url, normalise_url
from service.errors import InvalidInput
from service.model.endpoint import LAYOUT, Limits, RegistryEndpoint, TLSOptions
from service.model.provider import AUTO, CapabilityOverrides
from service.model.reference import validate_host


@dataclass(frozen=True, slots=True)
class RegistryInput:
    """A registry as somebody wrote it: the endpoint, and the password if it came along.

    `keep_password` says that the document shows a stored password as the API does
    (`{"set": true}`): the one in the store stays.
    """

    endpoint: RegistryEndpoint
    password: str | None = field(default=None, repr=False)
    keep_password: bool = False


def normalise_proxy(text: str) -> str:
    """Return http://host:port; raises InvalidInput saying what has to go."""
    if text.startswith("https://"):
        raise InvalidInput(
            "a proxy is spoken to by http://", hint="https goes through it in a tunnel"
        )
    try:
        return normalise_url(text)
    except InvalidInput as error:
        hint = "a proxy that wants a password is not supported" if "@" in text else error.hint
        raise InvalidInput(f"not a proxy: {error.message}", hint=hint) from error


_SPOKEN_TO = (
    "capabilities",
    "api_url",
    "credentials",
    "tls",
    "proxy",
    "trusted_hosts",
    "endpoints",
)
"""What only a registry with an address has."""


class TLSSchema(StrictSchema):
    """How the registry's certificate is judged."""

    ca_file = Text()
    client_cert_file = Text()
    client_key_file = Text()
    insecure = Flag()

    @validates_schema
    def _pair(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if ("client_cert_file" in data) != ("client_key_file" in data):
            raise invalid("client_cert_file and client_key_file go together")
        if data.get("insecure") and "ca_file" in data:
            raise invalid("insecure and ca_file exclude each other", "leave insecure out")


class RegistrySchema(StrictSchema):
    """A registry, read into a RegistryInput."""

    name = Name(required=True)
    url = Judged(normalise_registry_url, required=True)
    provider = provider_field()
    capabilities = fields.Nested(CapabilitiesSchema)
    api_url = Judged(normalise_url)
    region = Name()
    groups = Items(Name(), most=100)
    credentials = Credentials(CredentialsSchema)
    tls = fields.Nested(TLSSchema)
    proxy = Judged(normalise_proxy)
    trusted_hosts = Items(Judged(validate_host, longest=261), most=100)
    limits = fields.Nested(LimitsSchema)
    endpoints = NearerAddresses(metadata={"example": {"eu-west": {"connect_to": "10.1.0.5:443"}}})

    @validates_schema
    def _one_way(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs  # a proxy is told a host by name, and connects to it by itself
        led = [one.region for one in data.get("endpoints", ()) if one.connect_to is not None]
        if led and "proxy" in data:
            told = Told("does not go with proxy", "leave one of them out; url goes with a proxy")
            raise ValidationError({"endpoints": {one: {"connect_to": [told]} for one in led}})

    @validates_schema
    def _directory(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs  # a directory is not spoken to
        if not str(data.get("url", "")).startswith(LAYOUT):
            return
        told = Told("goes with a registry that is spoken to, not with oci:/path", "leave it out")
        given = {key: [told] for key in _SPOKEN_TO if data.get(key)}
        if data.get("provider", AUTO) != AUTO:
            given["provider"] = [told]
        if given:
            raise ValidationError(given)

    @validates_schema
    def _tls_needs_https(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if data.get("tls") and str(data.get("url", "")).startswith("http://"):
            raise ValidationError({"tls": [Told("goes with a URL of https:// only")]})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> RegistryInput:
        del kwargs
        credentials, password = made_of(data.get("credentials", ()))
        endpoint = RegistryEndpoint(
            name=data["name"],
            url=data["url"],
            provider=data.get("provider", AUTO),
            region=data.get("region", "local"),
            groups=tuple(dict.fromkeys(data.get("groups", ()))),
            credentials=credentials[0],
            more_credentials=credentials[1:],
            tls=TLSOptions(**data.get("tls", {})),
            trusted_hosts=tuple(dict.fromkeys(data.get("trusted_hosts", ()))),
            proxy=data.get("proxy"),
            limits=data.get("limits", Limits()),
            endpoints=data.get("endpoints", ()),
            capabilities=data.get("capabilities", CapabilityOverrides()),
            api_url=data.get("api_url"),
        )
        kept = password is True
        return RegistryInput(endpoint, None if kept else password, keep_password=kept)


class FileRegistrySchema(RegistrySchema):
    """A registry in a file: no password."""

    credentials = Credentials(FileCredentialsSchema)


def load_registry(document: Any, *, in_file: bool = False) -> RegistryInput:
    """Read a registry's document; raises InvalidFields."""
    schema = FileRegistrySchema() if in_file else RegistrySchema()
    loaded: RegistryInput = load(schema, document)
    return loaded


def written_registry(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as it may be kept and shown: without the password."""
    kept = dict(document)
    if isinstance(kept.get("credentials"), Mapping):
        kept["credentials"] = {
            key: value for key, value in kept["credentials"].items() if key != "password"
        }
    return kept


def effective_registry(endpoint: RegistryEndpoint) -> dict[str, Any]:
    """Return the endpoint with every default filled in, in the shape of the document."""
    tls = {
        key: getattr(endpoint.tls, key)
        for key in ("ca_file", "client_cert_file", "client_key_file")
        if getattr(endpoint.tls, key)
    }
    return {
        "name": endpoint.name,
        "url": endpoint.url,
        **effective_provider(endpoint),
        "region": endpoint.region,
        "groups": list(endpoint.groups),
        "credentials": effective_credentials(endpoint),
        "tls": {**tls, "insecure": endpoint.tls.insecure},
        "trusted_hosts": list(endpoint.trusted_hosts),
        **({"proxy": endpoint.proxy} if endpoint.proxy else {}),
        "limits": effective_limits(endpoint.limits),
        "endpoints": effective_nearer(endpoint.endpoints),
    }
