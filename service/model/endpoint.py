"""A registry as configured here: address, region, provider, trust, limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from service.model.provider import AUTO, CapabilityOverrides
from service.model.reference import DOCKER_HUB_ALIASES

LAYOUT = "oci:"
"""What the URL of an image layout begins with; its absolute path follows."""

Keyless = Literal["aliyun", "aws", "azure", "gcp", "volcengine"]


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """How a registry's certificate is judged; paths are read where the connection is made."""

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """Where a registry's credential comes from; never the secret itself.

    Exactly one of password_env, password_file, stored, secret, docker_config, keyless is used; none means
    anonymous.
    """

    username: str = ""
    password_env: str | None = None
    password_file: str | None = None
    stored: bool = False  # an encrypted secret is kept in the store under the registry's name
    secret: str | None = None  # the name of a secret object
    docker_config: bool = False
    named: bool = (
        False  # in a far region: the stored one is a secret object at home, bound to its hosts
    )
    keyless: Keyless | None = None  # the identity of the machine that asks
    role: str | None = None  # of aws: the ARN of a role that this identity assumes
    external_id: str | None = None  # that the role's owner asks for
    prefix: str = ""  # of the repositories that it is for, by whole parts of their names; "": all


@dataclass(frozen=True, slots=True)
class Credential:
    """A username and password, or an identity token; kept in memory only."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    renew_at: float | None = None  # the monotonic second from which it is to be read again

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to present."""
        return not (self.username or self.password or self.identity_token)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a registry is asked for at most, by the whole fleet; None: as fast as it answers."""

    requests_per_second: float | None = None
    concurrency: int | None = None  # requests under way at once
    bandwidth: int | None = None  # bytes a second, read and written


@dataclass(frozen=True, slots=True)
class Nearer:
    """How workers of one region reach a registry.

    `connect_to` is host:port that connections go to, while Host, SNI and the certificate's name stay
    those of `url`; `url` is None where it is the registry's own.
    """

    region: str
    url: str | None = None
    connect_to: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryEndpoint:
    """One registry. `name` is its identity; `url` is scheme://host[:port], or oci:/path, and nothing more."""

    name: str
    url: str
    provider: str = AUTO
    region: str = "local"
    groups: tuple[str, ...] = ()
    credentials: CredentialSpec = CredentialSpec()
    tls: TLSOptions = TLSOptions()
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None  # http://host:port that requests to the registry go through
    limits: Limits = Limits()
    endpoints: tuple[Nearer, ...] = ()  # at most one a region
    connect_to: str | None = None  # where connections go in place of the host; see `seen_from`
    capabilities: CapabilityOverrides = CapabilityOverrides()  # noqa: RUF009 - a frozen value
    api_url: str | None = None  # scheme://host[:port] of its provider's own API; None: as usual
    more_credentials: tuple[CredentialSpec, ...] = ()  # besides `credentials`, in their order

    @property
    def every_credential(self) -> tuple[CredentialSpec, ...]:
        """All credentials, in the order of the document; the first is `credentials`."""
        return (self.credentials, *self.more_credentials)

    def seen_from(self, region: str) -> RegistryEndpoint:
        """Return the endpoint as workers of a region reach it."""
        for nearer in self.endpoints:
            if nearer.region == region:
                return replace(self, url=nearer.url or self.url, connect_to=nearer.connect_to)
        return self

    @property
    def layout(self) -> str | None:
        """The directory of an OCI image layout, where it is one; None for a registry that is spoken to."""
        return self.url[len(LAYOUT) :] if self.url.startswith(LAYOUT) else None

    @property
    def secure(self) -> bool:
        """Whether the registry is spoken to over TLS."""
        return self.url.startswith("https://")

    @property
    def host(self) -> str:
        """Host and port as written in references; of a layout its path."""
        if self.layout is not None:
            return self.layout
        return self.url.split("://", 1)[1]

    @property
    def counts_reads(self) -> bool:
        """Whether it counts GETs of manifests against a quota, and no HEADs, as Docker Hub does."""
        return self.host.partition(":")[0].lower() in DOCKER_HUB_ALIASES

    @property
    def audience(self) -> tuple[str, ...]:
        """The hosts that may come to see its credential: its own, those near a region, its API's, those it trusts."""
        near = [one.url.split("://", 1)[1] for one in self.endpoints if one.url]
        api = [self.api_url.split("://", 1)[1]] if self.api_url else []
        hosts = (self.host, *near, *api, *self.trusted_hosts)
        return tuple(dict.fromkeys(map(str.lower, hosts)))

    @property
    def reach(self) -> tuple[object, ...]:
        """Where a credential goes: when this changes, a stored one is not for it any more."""
        return (self.url, self.endpoints, self.trusted_hosts, self.proxy, self.api_url)
