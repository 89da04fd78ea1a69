"""Kinds of registries that the sample can be: where real ones differ, as data.

What each flag means was probed at the real programs; tests/integration/test_registry_probe.py holds
the sample and docker-registry to one list.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of registry. The defaults are what OCI 1.1 asks for."""

    name: str = "oci-1.1"
    referrers_api: bool = True
    pages_tags: bool = True  # n and last are heeded, tags are sorted
    deletes_tags: bool = True  # DELETE of a tag leaves the manifest
    resumes_uploads: bool = True  # a cut upload goes on at its offset; otherwise it is lost
    checks_chunk_ranges: bool = True  # Content-Range of a PATCH is heeded
    single_post: bool = True  # POST ?digest= with a body stores it
    anonymous_mounts: bool = False  # mount without `from`
    checks_sizes: bool = True  # a manifest's sizes are held against the blobs
    narrow_head: bool = False  # HEAD heeds Accept as GET does
    keeps_sha512: bool = True  # otherwise such blobs are kept, and told, by sha256
    sparse_indexes: bool = False  # an index may name manifests that are not here
    too_large: int = 413  # status for a manifest above 4 MiB


OCI_1_1 = Profile()
DISTRIBUTION_2 = Profile(
    name="distribution-2.8.2",
    referrers_api=False,
    pages_tags=False,
    deletes_tags=False,
    resumes_uploads=False,
    checks_chunk_ranges=False,
    single_post=False,
    checks_sizes=False,
    narrow_head=True,
    keeps_sha512=False,
    too_large=400,
)
PROFILES = {profile.name: profile for profile in (OCI_1_1, DISTRIBUTION_2)}
