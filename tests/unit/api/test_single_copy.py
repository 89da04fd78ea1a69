"""What the two arguments of `transship copy` become: registries, a repository, a tag or a digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.engine.single_copy import single_copy
from service.errors import InvalidReference

DIGEST = "sha256:" + "0" * 64
HERE = Path().absolute()


@pytest.mark.parametrize(
    ("text", "url", "repository", "reference"),
    [
        ("oci:/mnt/disk/My App:v1", "oci:/mnt/disk/My App", "my-app", "v1"),
        ("oci:/mnt/disk", "oci:/mnt/disk", "disk", "latest"),
        ("oci:app:v1", f"oci:{HERE}/app", "app", "v1"),
        ("oci:/mnt/disk//team/app:v1", "oci:/mnt/disk", "team/app", "v1"),
        ("oci:/mnt/disk//team/app", "oci:/mnt/disk", "team/app", "latest"),
        (f"oci:/mnt/disk//app@{DIGEST}", "oci:/mnt/disk", "app", DIGEST),
        (f"oci:/mnt/disk//app:v1@{DIGEST}", "oci:/mnt/disk", "app", DIGEST),
        (f"oci:/mnt/a@b/disk@{DIGEST}", "oci:/mnt/a@b/disk", "disk", DIGEST),
        ("oci:/mnt/a@b/disk:v1", "oci:/mnt/a@b/disk", "disk", "v1"),
        ("oci:/mnt/c:d/disk:v1", "oci:/mnt/c:d/disk", "disk", "v1"),
        ("east.example/team/app:v1", "https://east.example", "team/app", "v1"),
    ],
)
def test_a_source(text: str, url: str, repository: str, reference: str) -> None:
    job = single_copy(text, "west.example/x:y")

    (rule,), source = job.rules, job.registries[0]
    assert source.url == url
    (entry,) = rule.select
    assert entry.repositories.include == (repository,)
    assert entry.tags is not None
    assert entry.tags.include == (reference,)
    assert (rule.destinations[0].repository, rule.destinations[0].tag) == ("x", "y")


@pytest.mark.parametrize(
    "text",
    [
        "oci:",
        "oci:/",
        "oci://app:v1",
        "oci:/mnt/disk//../app:v1",
        "oci:/mnt/../disk:v1",
        "oci:/mnt/disk//app:-v1",
        "oci:/mnt/disk//APP:v1",
        "oci:/mnt/disk@sha256:x",
        "oci:/mnt/di\nsk:v1",
    ],
)
def test_what_names_no_layout_is_told_with_its_argument(text: str) -> None:
    with pytest.raises(InvalidReference, match="DESTINATION"):
        single_copy("east.example/x:y", text)
