from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidReference
from service.model.digest import Digest
from service.model.reference import (
    Reference,
    digest_tag,
    is_digest_tag,
    validate_repository,
    validate_tag,
)

DIGEST = Digest.of(b"x")

# The grammar as the distribution specification prints it, independent of the product's own.
SPEC_NAME = re.compile(
    r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
SPEC_TAG = re.compile(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")

components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True)
hosts = st.sampled_from(["r.example", "localhost", "r.example:5000", "10.0.0.1:80", "[::1]:5000"])


@given(st.text(alphabet="ab01._-/A:@ \n\u00e9", max_size=20))
def test_repositories_are_what_the_specification_says(text: str) -> None:
    if SPEC_NAME.match(text):
        assert validate_repository(text) == text
    else:
        with pytest.raises(InvalidReference):
            validate_repository(text)


@given(st.text(alphabet="aZ09._-:/ \n\u00e9", max_size=140))
def test_tags_are_what_the_specification_says(text: str) -> None:
    if SPEC_TAG.match(text):
        assert validate_tag(text) == text
    else:
        with pytest.raises(InvalidReference):
            validate_tag(text)


@given(
    hosts,
    repositories,
    st.none() | tags,
    st.none() | st.just(DIGEST),
    st.sampled_from([None, "http", "https"]),
)
def test_a_reference_survives_its_text(
    host: str, repository: str, tag: str | None, digest: Digest | None, scheme: str | None
) -> None:
    written = Reference(host, repository, tag, digest, scheme)  # type: ignore[arg-type]
    read = Reference.parse(str(written))
    if tag is None and digest is None:
        assert read.tag == "latest"
    else:
        assert read == written


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        read = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("registry-1.docker.io/user/app", "docker.io/user/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("R.Example/app", "r.example/app:latest"),
        ("http://10.0.0.1:5000/a/b:v", "http://10.0.0.1:5000/a/b:v"),
        ("https://east/app", "https://east/app:latest"),
        ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a:latest"),
        (f"r.example/a@{DIGEST}", f"r.example/a@{DIGEST}"),
        (f"r.example/a:v1@{DIGEST}", f"r.example/a:v1@{DIGEST}"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
    ],
)
def test_references_are_read_as_people_write_them(text: str, expected: str) -> None:
    assert str(Reference.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/a",
        "a/",
        "r.example/",
        "r.example/UP",
        "r.example/a//b",
        "r.example/a/../b",
        "r.example/a..b",
        "r.example/a___b",
        "r.example/-a",
        "r.example/a/%2e%2e/b",
        f"r.example/{'a' * 256}",
        "r.example/a:",
        "r.example/a:-x",
        "r.example/a:.x",
        f"r.example/a:{'x' * 129}",
        "r.example/a:x/y",
        "r.example/a:b:c",
        "r.example/a:\u00e9",
        "r.example/a:latest%00",
        "r.example/a@sha256:beef",
        "r.example/a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "r.example:0/a",
        "r.example:65536/a",
        "r.example:x/a",
        "[::g]:5000/a",
        "r_x.example/a:b/c",
        "ftp://r.example/a",
        "http://r.example",
        "https://u:secretword@r.example/a",
        "u:secretword@r.example/a",
        "u:secretword@r.example:5000",
        "r.example/a b",
        "r.example/a\n",
    ],
)
def test_what_is_no_reference_is_refused_without_showing_passwords(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "secretword" not in caught.value.message


def test_what_is_wrong_is_named() -> None:
    faults = {
        "": "empty",
        "a" * 256: "256 characters",
        "a/B": "upper-case",
        "a//b": "empty part",
        "a/b_": "'b_'",
    }
    for text, words in faults.items():
        with pytest.raises(InvalidReference, match=words):
            validate_repository(text)


def test_digest_tags_are_told_from_images() -> None:
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(b"x", algorithm)
        assert is_digest_tag(digest_tag(digest))
        assert is_digest_tag(digest_tag(digest, ".sig"))
        assert len(digest_tag(digest)) == 71
    for tag in ("latest", "sha256", "sha256-beef", f"sha256-{'a' * 64}-x", f"sha256-{'A' * 64}"):
        assert not is_digest_tag(tag)


def test_the_digest_is_what_counts_where_both_are_given() -> None:
    assert Reference.parse(f"r.example/a:v1@{DIGEST}").target == str(DIGEST)
    assert Reference.parse("r.example/a:v1").target == "v1"
