"""RegistryClient: all that Transship asks of one registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from service.errors import AuthenticationFailed, Denied, RegistryError
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.model.manifest import Manifest
from service.model.provider import Capabilities, Mounts
from service.registry.access import Access
from service.registry.accounts import Account
from service.registry.blobs import Blobs
from service.registry.breaker import Breaker
from service.registry.connector import Resolver, resolve_host
from service.registry.http import MAX_ATTEMPTS, Http, OnRequest, Presented
from service.registry.limiter import Limiter
from service.registry.manifests import Manifests
from service.registry.provided import Provided
from service.registry.referrers import Referrers
from service.registry.repository_lists import RepositoryLists, of_all
from service.registry.results import (
    ManifestHead,
    Mounted,
    PutResult,
    RepositoryPage,
    TagPage,
    UploadSession,
)
from service.registry.tags import Lists
from service.registry.timeouts import Timeouts
from service.registry.uploads import Uploads

DEFAULT_TIMEOUTS = Timeouts()
DEFAULT_CHUNK_BYTES = 16 * 1024 * 1024


def may_mount(mount: Mounts, repository: str, from_repository: str) -> bool:
    """Whether a registry that mounts like that is worth asking for a mount between two repositories."""
    if mount == "same-namespace":
        return repository.rpartition("/")[0] == from_repository.rpartition("/")[0]
    return mount == "yes"


def reached_from(endpoint: RegistryEndpoint, region: str) -> RegistryEndpoint:
    """Return a registry as workers of a region reach it.

    Behind another URL it may still name itself by its own one (in Location and token realms): an
    administrator wrote that, so it is trusted.
    """
    seen = endpoint.seen_from(region)
    if seen.host == endpoint.host:
        return seen
    return replace(seen, trusted_hosts=(*seen.trusted_hosts, endpoint.host))


class RegistryClient:
    """The distribution API of one registry: one per registry and process, shared by its threads.

    Every call raises service.errors: NetworkError, TLSError, AddressRefused, Throttled,
    ServerError, ProtocolError, AuthenticationFailed, Denied, besides those that it names. Small
    requests are tried up to four times by the client itself.
    """

    asking_is_free = False
    """Whether nothing is sent to ask for something: then what may be there is always looked for."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        credential: Callable[[], Credential],
        *,
        buffer_bytes: int = 1 << 20,
        on_request: OnRequest | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        sleep: Callable[[float], None] = time.sleep,
        resolve: Resolver = resolve_host,
        limiter: Limiter | None = None,
        breaker: Breaker | None = None,
        region: str | None = None,
        more: Sequence[Callable[[], Credential]] = (),
        identity_hosts: Collection[str] = (),
    ) -> None:
        """Prepare; nothing is connected yet.

        `credential` is called when a challenge or a token asks for it; `more` are those of
        `endpoint.more_credentials`; `identity_hosts` may be shown the machine's identity beside the
        provider's own hosts. `on_request` is told of
        every request: method, kind (manifest, blob, upload, mount, tags, catalog, referrers, ping,
        token), status (0: no answer). `limiter` is the gate of the fleet's
        limits, `breaker` what keeps from asking a registry that is away. `region` is where this process is:
        the registry is reached by its nearer address there. `sleep` and `resolve` stand in for the clock and
        DNS in tests.
        """
        self.name = endpoint.name
        self.endpoint = endpoint
        self.buffer_bytes = buffer_bytes
        self.timeouts = timeouts
        self.learnt_chunk_bytes: int | None = None  # set: a larger body was refused (413)
        self._accounts: list[Provided] = []
        specs = endpoint.every_credential
        self.http = Http(
            endpoint if region is None else reached_from(endpoint, region),
            [self._presented(number, spec.prefix) for number, spec in enumerate(specs)],
            timeouts=timeouts,
            on_request=on_request,
            sleep=sleep,
            resolve=resolve,
            limiter=limiter,
            breaker=breaker,
        )
        here = endpoint if region is None else endpoint.seen_from(region)
        for spec, read in zip(specs, (credential, *more), strict=True):
            one = replace(here, credentials=spec)
            self._accounts.append(Provided(self.http, one, read, identity_hosts))
        if len(self.http.accounts.all) > len(specs):  # for what none of them is for
            nobody = replace(here, credentials=CredentialSpec())
            self._accounts.append(Provided(self.http, nobody, Credential))
        self.provided = self._accounts[0]
        if not self.provided.recognised:
            self.http.sign = self._told
        self.blobs = Blobs(self.http)
        self.uploads = Uploads(self.http, lambda name: self._of(name, push=True).make_room(name))
        self._manifests = Manifests(self.http, lambda name: self._of(name).lacks(name))
        self._lists = Lists(self.http)
        self._referrers = Referrers(self.http, lambda: self.capabilities.referrers == "fallback")

    def _presented(self, number: int, prefix: str) -> Presented:
        def credential() -> Credential:
            return self._accounts[number].credential()

        def refused() -> bool:
            return self._accounts[number].refused()

        return Presented(credential, refused, prefix)

    def _told(self, headers: Mapping[str, str]) -> bool:
        for account in self._accounts:
            account.told(headers)
        return self.provided.recognised

    def _configured(self) -> list[Account]:
        """Return the first account of each prefix; nobody's is none, where there are others."""
        count = len(self.endpoint.every_credential)
        return [one for one in self.http.accounts.firsts if one.number < count]

    def _of(self, repository: str, *, push: bool = False) -> Provided:
        """Return what the provider adds for the account that a repository belongs to."""
        return self._accounts[self.http.accounts.of(repository, push=push).number]

    @property
    def requests(self) -> int:
        """How many HTTP requests were sent, token requests and redirects included."""
        return self.http.requests

    @property
    def anonymous(self) -> bool:
        """Whether the credential that was presented last is none."""
        return self.http.auth.anonymous

    @property
    def chunk_bytes(self) -> int | None:
        """Bytes of a PATCH that uploads go in; None: they go whole, in one PUT."""
        can = self.capabilities
        if can.uploads == "whole":
            return None
        if can.uploads == "chunked":
            return can.chunk_bytes or self.learnt_chunk_bytes or DEFAULT_CHUNK_BYTES
        if self.learnt_chunk_bytes is None:
            return None
        return min(self.learnt_chunk_bytes, can.chunk_bytes or self.learnt_chunk_bytes)

    def chunk_of(self, rest: int, least: int = 0) -> int:
        """Return the bytes of the next PATCH of `rest`; `least` is what the session asks for."""
        can = self.capabilities
        chunk = self.chunk_bytes or min(rest, can.chunk_bytes or rest)
        return max(chunk, least, can.chunk_minimum_bytes)

    def learn_chunks(self, least: int) -> None:
        """Go in PATCHes from now on, where they are taken: a whole body was too large (413)."""
        self.learnt_chunk_bytes = max(DEFAULT_CHUNK_BYTES, least)

    def answers_within(self, kind: str) -> float:
        """Return the seconds that the quickest answers of lately took; 0.0 when there was none yet.

        `kind` is one of those that `on_request` is told of; before the first of that kind, the
        answers to all count.
        """
        return self.http.times.quickest(kind)

    @property
    def capabilities(self) -> Capabilities:
        """What the registry can do, as far as it is known by now."""
        return self.provided.capabilities

    def ping(self, *, attempts: int = MAX_ATTEMPTS) -> None:
        """Check address, TLS and credentials by GET /v2/; of several, one that is taken is enough."""
        refused: RegistryError | None = None
        for account in self._configured():
            try:
                answer = self.http.request(
                    "GET", "ping", "/v2/", Access("ping", account.prefix), attempts=attempts
                )
                if answer.status == 200:
                    return
                refused = refused or self.http.error(answer, "GET", "/v2/", "ping")
            except (AuthenticationFailed, Denied) as error:
                refused = refused or error
        if refused is not None:
            raise refused

    def check(self) -> None:
        """Ping once, also where the breaker keeps from asking for some seconds more."""
        self.http.breaker.hurry()
        self.ping(attempts=1)

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Say what a tag or digest names, None when it is not there."""
        return self._manifests.head(repository, reference)

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Fetch a manifest, verified; raises ManifestNotFound, InvalidManifest, Corrupt."""
        return self._manifests.get(repository, reference)

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> PutResult:
        """Push a manifest's bytes; raises ManifestBlobUnknown, TagImmutable, Rejected."""
        return self._manifests.put(repository, reference, manifest)

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a tag, its siblings left alone, or a digest; raises ManifestNotFound, Unsupported."""
        if ":" in reference or self.capabilities.tag_delete == "oci":
            self._manifests.delete(repository, reference)
        else:
            self._of(repository, push=True).delete_tag(repository, reference)

    def list_tags(
        self,
        repository: str,
        page_size: int = 1000,
        last: str | None = None,
        *,
        cursor: str | None = None,
    ) -> Iterator[TagPage]:
        """Yield pages of tags; `cursor` is a page's `next`. Raises RepositoryNotFound.

        A list that breaks off raises: what was yielded then is not the whole.
        """
        return self._lists.tags(repository, page_size, last, cursor)

    def list_repositories(
        self, page_size: int = 1000, cursor: str | None = None
    ) -> Iterator[RepositoryPage]:
        """Yield pages of repositories, by the provider's own API where it has a better list.

        Raises Unsupported where there is none.
        """
        accounts = self.http.accounts
        firsts = self._configured()
        lists = [
            RepositoryLists(self._lists, self._accounts[one.number], self.ping, one.prefix)
            for one in firsts
        ]
        if not accounts.several:
            return lists[0].pages(page_size, cursor)
        return of_all(
            lists,
            lambda number, name: accounts.prefix_of(name) == firsts[number].prefix,
            page_size,
            cursor,
        )

    def tags_with_digests(self, repository: str) -> Iterator[Mapping[str, str]] | None:
        """Yield tag to digest, page by page, by the provider's own API; None where it has none.

        Tags may be left out; those told are so. Raises RegistryError.
        """
        if not self.capabilities.digest_lists:
            return None
        lister = self._of(repository).strategies().tags_with_digests
        return None if lister is None else lister.pages(repository)

    def pushed_tags(self, repository: str) -> Iterator[Mapping[str, float]] | None:
        """Yield tag to when it was pushed, page by page, by the provider's own API; None where it has none.

        The seconds are good for comparing with each other. Raises RegistryError.
        """
        lister = self._of(repository).strategies().pushed
        return None if lister is None else lister.pages(repository)

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List what is attached to a manifest; None where the registry has no referrers API."""
        return self._referrers.of(repository, digest)

    def head_blob(self, repository: str, digest: Digest) -> int | None:
        """Say the blob's size, None when it is not there; no proof that it can be read."""
        return self.blobs.head(repository, digest)

    def probe_blob(self, repository: str, digest: Digest, size: int) -> bool:
        """Prove by reading its last byte that the blob is there."""
        return self.blobs.probe(repository, digest, size)

    def read_blob(self, repository: str, digest: Digest, size: int, limit: int) -> bytes:
        """Read a blob of at most `limit` bytes, verified; raises BlobNotFound, Corrupt, Rejected."""
        return self.blobs.read(repository, digest, size, limit)

    def mount_blob(
        self, repository: str, digest: Digest, from_repository: str
    ) -> Mounted | UploadSession | None:
        """Mount a blob: MOUNTED, or a session to use or cancel, or None where it is refused.

        Nothing is mounted from what belongs to another account: its token is not this request's.
        """
        accounts = self.http.accounts
        if accounts.prefix_of(repository) != accounts.prefix_of(from_repository):
            return None
        if not may_mount(self.capabilities.mount, repository, from_repository):
            return None
        return self.uploads.mount(repository, digest, from_repository)

    def start_upload(self, repository: str) -> UploadSession:
        """Open an upload session."""
        return self.uploads.start(repository)

    def cancel_upload(self, session: UploadSession) -> None:
        """Give a session up; never raises."""
        self.uploads.cancel(session)

    def put_blob(
        self, repository: str, digest: Digest, data: bytes, session: UploadSession | None = None
    ) -> None:
        """Upload a blob that is in memory."""
        self.uploads.put_small(repository, digest, data, session)

    def leaves_out(self, repository: str, digest: Digest) -> bool:
        """Whether it is made without a blob that its images name; no registry is, some layouts are (docs/adr/0025)."""
        del repository, digest
        return False

    def only_names(self, repository: str, tag: str) -> bool:
        """Whether a tag is told of here that it could not be read by: only a layout has such (docs/adr/0025)."""
        del repository, tag
        return False

    def learn_left_out(
        self,
        repository: str,
        source: RegistryClient,
        source_repository: str,
        each: Callable[[Sequence[Digest], Callable[[Digest], None]], object],
    ) -> None:
        """Learn from a source what is left out of a repository here; nothing is left out of a registry.

        `each` does something for several digests, at once where the source is far.
        """

    def close(self) -> None:
        """Close the kept connections."""
        for account in self._accounts:
            account.close()
        self.http.close()
