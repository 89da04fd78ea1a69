"""A client of a directory: what RegistryClient asks a registry, it asks an OCI image layout.

PATH/REPOSITORY/{oci-layout,index.json} is a layout of each repository, and PATH/blobs is of all of them; or PATH is a
plain layout of one repository. No request is sent, so none is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.errors import (
    Corrupt,
    InvalidManifest,
    ManifestBlobUnknown,
    ManifestNotFound,
    RegistryError,
    RepositoryNotFound,
)
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint, TLSOptions
from service.model.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from service.model.media_types import MANIFEST_TYPES, OCI_MANIFEST
from service.model.provider import OF_LAYOUTS, Capabilities
from service.model.reference import validate_tag
from service.registry.client import RegistryClient
from service.registry.http import MAX_ATTEMPTS
from service.registry.layout.blobs import LayoutBlobs, LayoutUploads, left_out
from service.registry.layout.folder import Folder
from service.registry.layout.index import SUBJECT, Index
from service.registry.layout.left_out import LeftOutParts
from service.registry.layout.repositories import Repositories
from service.registry.results import ManifestHead, PutResult, RepositoryPage, TagPage

NOWHERE = "http://layout.invalid"
"""What the parts that would send requests are given: no such host can exist (RFC 6761)."""


class LayoutClient(RegistryClient):
    """Reads and writes one layout. For any number of threads and processes."""

    asking_is_free = True

    def __init__(
        self, endpoint: RegistryEndpoint, credential: Callable[[], Credential], **options: Any
    ) -> None:
        """`options` are RegistryClient's. Nothing is looked at yet."""
        nobody = replace(
            endpoint,
            url=NOWHERE,
            provider="generic",
            endpoints=(),
            credentials=CredentialSpec(),
            more_credentials=(),
            tls=TLSOptions(),
            proxy=None,
        )
        options.pop("more", None)
        super().__init__(nobody, credential, **options)
        self.endpoint = endpoint
        self.folder = Folder(endpoint.layout or "", endpoint.name)
        self.repositories = Repositories(self.folder, endpoint.name)
        self.left_out = LeftOutParts(self.folder, endpoint.name)
        self.blobs = LayoutBlobs(self.http, self.folder, self.repositories, self.left_out)
        self.uploads = LayoutUploads(self.http, self.folder, self.repositories)
        self._subjects: dict[Digest, tuple[Digest | None, Descriptor]] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What a layout can do."""
        return OF_LAYOUTS

    def ping(self, *, attempts: int = MAX_ATTEMPTS) -> None:
        """Check that the directory is there, or may be made by the first write, and whether it is one to be read."""
        del attempts
        if not self.folder.may_be_made():
            self.folder.require()
        self.repositories.plain  # noqa: B018 - raises for what may not be read

    def check(self) -> None:
        """Do what `ping` does."""
        self.ping()

    # ---- manifests -------------------------------------------------------------------------------

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Say what a tag or digest names, None when it is not there.

        A tag that is left out names what the other side has confirmed.
        """
        if ":" in reference:
            try:
                manifest = self.get_manifest(repository, reference)
            except ManifestNotFound:
                return None
            return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))
        entry = self._entry(repository, validate_tag(reference))
        if entry is not None:
            return ManifestHead(entry.digest, entry.media_type, entry.size)
        digest = self.left_out.confirmed_tag(repository, reference)
        if digest is None:
            digest = self.left_out.tags.get(repository, {}).get(reference)
        return None if digest is None else ManifestHead(Digest.parse(digest), OCI_MANIFEST, 0)

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Read a manifest, verified; raises ManifestNotFound, LeftOut, InvalidManifest, Corrupt."""
        if ":" in reference:
            digest = Digest.parse(reference)
            index = self.repositories.index(repository)
            entry = index.digests.get(reference) if index is not None else None
            if entry is not None and entry.media_type not in MANIFEST_TYPES:
                entry = None  # somebody listed the bytes as something else
        else:
            entry = self._entry(repository, validate_tag(reference))
            if entry is None:
                if reference in self.left_out.tags.get(repository, {}):
                    raise left_out(self.name, f"{repository}:{reference}")
                raise self._not_found(repository, reference)
            digest = entry.digest
        return self._read(repository, digest, entry, None if ":" in reference else reference)

    def _entry(self, repository: str, tag: str) -> Descriptor | None:
        index = self.repositories.index(repository)
        return None if index is None else index.tags.get(tag)

    def _read(
        self,
        repository: str,
        digest: Digest,
        entry: Descriptor | None,
        tag: str | None = None,
    ) -> Manifest:
        """Read what a digest names; an entry says its media type, and that it is a manifest."""
        found = self.repositories.find_blob(repository, digest)
        if found is None:
            if self.left_out.has_left_out(repository, digest):
                raise left_out(self.name, f"{repository}@{digest}")
            if tag is not None:  # no tag that went: one that lost what it names
                raise self.blobs.corrupt(
                    repository, digest, f"nothing, and index.json has it as {tag}"
                )
            raise self._not_found(repository, str(digest))
        parts, size = found
        if size > MAX_MANIFEST_BYTES and entry is None:
            raise self._not_found(repository, str(digest))
        raw = self.folder.read(parts, MAX_MANIFEST_BYTES)
        try:
            return parse_manifest(raw or b"", None if entry is None else entry.media_type, digest)
        except Corrupt:
            raise self.blobs.corrupt(
                repository, digest, "other bytes than its digest names"
            ) from None
        except InvalidManifest as error:
            if entry is None:  # a config, or what else is JSON
                raise self._not_found(repository, str(digest)) from None
            raise InvalidManifest(
                f"{self.name}/{repository}@{digest}: {error.message}",
                field=error.field,
                hint=error.hint,
            ) from None

    def _not_found(self, repository: str, reference: str) -> ManifestNotFound:
        return ManifestNotFound(
            f"{self.name}: {self.folder.root} has no {reference} of {repository}",
            registry=self.name,
        )

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> PutResult:
        """Write a manifest's very bytes, and list it under its tag or as a root.

        Raises ManifestBlobUnknown when a blob that it names is not there, Rejected, LayoutFailed.
        """
        tag = None if ":" in reference else validate_tag(reference)
        for blob in manifest.blobs():
            if self.blobs.head(repository, blob.digest) != blob.size:
                raise ManifestBlobUnknown(
                    f"{self.name}: {repository}@{manifest.digest} names {blob.digest}, which is not there",
                    registry=self.name,
                )
        place = self.repositories.blob_places(repository, manifest.digest)[0]
        if self.folder.size(place) is None or self.folder.read(place, MAX_MANIFEST_BYTES) != manifest.raw:  # fmt: skip
            self.folder.replace(place, manifest.raw)
        self.repositories.change(repository, lambda index: index.put(manifest, tag))
        return PutResult(manifest.digest, subject_stored=True)

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Take a tag, or a manifest with its tags, out of the index; blobs stay. Raises ManifestNotFound."""
        index = self.repositories.index(repository)

        def take(index: Index) -> bool:
            if ":" in reference:
                return index.remove_digest(reference)
            return index.remove_tag(reference)

        there = index is not None and (reference in index.digests or reference in index.tags)
        removed = there and bool(self.repositories.change(repository, take))
        if ":" not in reference:
            removed = self.left_out.forget_tag(repository, reference) or removed
        if not removed:
            raise self._not_found(repository, reference)

    # ---- lists -----------------------------------------------------------------------------------

    def list_tags(
        self,
        repository: str,
        page_size: int = 1000,
        last: str | None = None,
        *,
        cursor: str | None = None,
    ) -> Iterator[TagPage]:
        """Yield pages of tags, sorted, those left out included; raises RepositoryNotFound."""
        index = self.repositories.index(repository)
        names = {
            *self.left_out.tags.get(repository, {}),
            *self.left_out.confirmed_tags(repository),
            *(index.tags if index is not None else ()),
        }
        if index is None and not names:
            where = (
                self.folder.root
                if self.folder.is_there()
                else f"{self.folder.root}, which is not there,"
            )
            raise RepositoryNotFound(
                f"{self.name}: {where} has no repository {repository}", registry=self.name
            )  # fmt: skip
        for page, following in _pages(sorted(names), page_size, cursor or last):
            yield TagPage(page, following)

    def list_repositories(
        self, page_size: int = 1000, cursor: str | None = None
    ) -> Iterator[RepositoryPage]:
        """Yield pages of repositories, sorted, those left out included; raises LayoutFailed."""
        names = sorted({*self.repositories.names(), *self.left_out.tags})
        for page, following in _pages(names, page_size, cursor):
            yield RepositoryPage(page, following)

    def tags_with_digests(self, repository: str) -> Iterator[Mapping[str, str]] | None:
        """Yield tag to digest, all at once; None while what is asked for is noted one by one (--since)."""
        if self.left_out.running:
            return None
        index = self.repositories.index(repository)
        tags = {tag: str(entry.digest) for tag, entry in index.tags.items()} if index else {}
        return iter([{**self.left_out.tags.get(repository, {}), **tags}])

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List what the index has with this subject."""
        index = self.repositories.index(repository)
        found = []
        for entry in index.descriptors() if index is not None else ():
            if entry.media_type not in MANIFEST_TYPES:
                continue
            subject, described = self._subject(repository, entry)
            if subject == digest:
                found.append(described)
        return tuple(found)

    def _subject(self, repository: str, entry: Descriptor) -> tuple[Digest | None, Descriptor]:
        """Return what a listed manifest is attached to, and how a list of referrers describes it.

        One that cannot be read is what its entry says: who wants it is told when it is read itself.
        """
        known = self._subjects.get(entry.digest)
        if known is None:
            try:
                manifest = self._read(repository, entry.digest, entry)
            except (RegistryError, InvalidManifest):
                said = entry.annotations.get(SUBJECT)
                return (None if said is None else Digest.parse(said)), entry
            subject = None if manifest.subject is None else manifest.subject.digest
            known = self._subjects[entry.digest] = (subject, manifest.descriptor())
        return known

    # ---- what is left out ------------------------------------------------------------------------

    def leaves_out(self, repository: str, digest: Digest) -> bool:
        """Whether the layout was made without a blob, so that it has to be at the other side."""
        return self.left_out.has_left_out(repository, digest) and (
            self.repositories.find_blob(repository, digest) is None
        )

    def only_names(self, repository: str, tag: str) -> bool:
        """Whether a tag is left out, and no command with --since is at work that wants it to be.

        Who copies into the layout without one wants what is not there, whatever another side has.
        """
        return (
            tag in self.left_out.tags.get(repository, {})
            and not self.left_out.running
            and self._entry(repository, tag) is None
        )

    def learn_left_out(
        self,
        repository: str,
        source: RegistryClient,
        source_repository: str,
        each: Callable[[Sequence[Digest], Callable[[Digest], None]], object],
    ) -> None:
        """Learn from the source which blobs are left out of a repository (--since)."""
        self.left_out.learn(
            repository, lambda digest: source.get_manifest(source_repository, str(digest)), each
        )


def _pages(
    names: list[str], page_size: int, after: str | None
) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield pages of a sorted list behind a name, each with the cursor of the next one."""
    start = 0 if after is None else bisect_right(names, after)
    while True:
        page = tuple(names[start : start + page_size])
        start += page_size
        more = start < len(names)
        yield page, page[-1] if more else None
        if not more:
            return
