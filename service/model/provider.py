"""What a registry service can do and where it is: data, which no code asks for a provider's name.

Words of docs/adr/0019: a *provider* is a registry service (Harbor, ECR, ...); its *capabilities* are
where it differs on the distribution API; what only its own API can do is a *strategy*
(service/registry/providers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Uploads = Literal["whole", "resumable", "chunked"]
Mounts = Literal["yes", "no", "same-namespace"]
ReferrersBy = Literal["api", "fallback"]
TagDeletion = Literal["oci", "api", "never"]
Offer = Literal["yes", "no", "not offered", "not built yet"]

AUTO = "auto"
"""The provider of a registry that says nothing of it: recognised by its host, then by its answers."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Where registries differ on the distribution API; the defaults are what OCI 1.1 asks for."""

    catalog: bool = True
    """GET /v2/_catalog lists the repositories."""
    digest_lists: bool = False
    """Its own API lists tags with their digests."""
    uploads: Uploads = "resumable"
    """whole: one PUT, never a PATCH; resumable: one PUT, gone on with by PATCH when it breaks off;
    chunked: PATCHes of at most `chunk_bytes`."""
    chunk_bytes: int | None = None
    """Bytes of a PATCH at most; None: as many as there are."""
    chunk_minimum_bytes: int = 0
    """Bytes of a PATCH at least, the last one excepted."""
    mount: Mounts = "yes"
    """Blobs may be mounted; same-namespace: only where all but the last part of the names is equal."""
    referrers: ReferrersBy = "api"
    """api: GET /v2/<name>/referrers is worth a try; fallback: only tags named after the digest."""
    tag_delete: TagDeletion = "oci"
    """oci: DELETE of a tag leaves its siblings; api: only the provider's own API does that."""


OF_LAYOUTS = Capabilities(digest_lists=True, uploads="whole")
"""Of a directory that is a registry: nothing is asked by HTTP there (docs/adr/0025)."""


@dataclass(frozen=True, slots=True)
class CapabilityOverrides:
    """What an administrator knows better of one registry; None: as its provider has it."""

    catalog: bool | None = None
    digest_lists: bool | None = None
    uploads: Uploads | None = None
    chunk_bytes: int | None = None
    chunk_minimum_bytes: int | None = None
    mount: Mounts | None = None
    referrers: ReferrersBy | None = None
    tag_delete: TagDeletion | None = None

    def on(self, capabilities: Capabilities) -> Capabilities:
        """Return the capabilities with what is said here in their place."""
        said = {
            name: value for name in self.__slots__ if (value := getattr(self, name)) is not None
        }
        return replace(capabilities, **said)


@dataclass(frozen=True, slots=True)
class Offers:
    """A provider's row of docs/reference/providers.md: what it has, and what of that is used here.

    yes: done by the distribution API or a strategy (`Provider.proof`: as run against what); no: the provider cannot; not offered: it has
    no such step; not built yet: the provider can, and this version does not do it.
    """

    auth: Offer = "yes"
    keyless: Offer = "not offered"
    listing: Offer = "yes"
    create: Offer = "not offered"
    push: Offer = "yes"
    pull: Offer = "yes"
    delete: Offer = "yes"
    mount: Offer = "yes"
    referrers: Offer = "yes"
    events: Offer = "yes"
    webhooks: Offer = "not offered"
    limits: Offer = "not offered"


@dataclass(frozen=True, slots=True)
class Provider:
    """One registry service."""

    name: str  # as in transship.yaml
    title: str
    hosts: tuple[str, ...] = ()
    """Regular expressions over whole host names, without a port, in lower case."""
    api_urls: tuple[tuple[str, str], ...] = ()
    """Where its own API is: a regular expression over whole host names, and a URL with its groups."""
    api_at_realm: bool = False
    """Otherwise its API is where its tokens are had."""
    capabilities: Capabilities = Capabilities()
    offers: Offers = Offers()
    index: bool = False
    """It names what lies elsewhere, and takes no pushes."""
    namespace: Literal["none", "project", "repository", "namespace", "organization"] = "none"
    """What has to be there before the first push."""
    proof: str = "nothing yet"
    """What this version was run against."""
    notes: str = ""
    """What a user has to know, in a sentence or two."""

    def has_host(self, host: str) -> bool:
        """Whether a host name, with or without a port, is one of its own."""
        return any(re.fullmatch(pattern, _name(host)) for pattern in self.hosts)

    def api_url(self, host: str) -> str | None:
        """Return the URL of its own API for a registry at this host; None: the registry's own."""
        for pattern, url in self.api_urls:
            if found := re.fullmatch(pattern, _name(host)):
                return found.expand(url)
        return None


def _name(host: str) -> str:
    """Return a host without its port, in lower case."""
    return (host.rpartition(":")[0] if re.search(r":\d+$", host) else host).lower()
