from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidDigest
from service.model.digest import Digest

HEX = "0123456789abcdef"


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_is_that_of_the_bytes_and_survives_its_text(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest.encoded == hashlib.new(algorithm, data).hexdigest()
    assert Digest.parse(str(digest)) == digest
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.encoded


@given(st.text(alphabet=HEX, min_size=64, max_size=64))
def test_every_64_hex_digits_are_a_sha256(encoded: str) -> None:
    assert str(Digest.parse(f"sha256:{encoded}")) == f"sha256:{encoded}"


@given(st.text(max_size=150))
def test_other_texts_are_refused_and_never_crash(text: str) -> None:
    with contextlib.suppress(InvalidDigest):
        assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        f"sha256:{'a' * 63}",
        f"sha256:{'a' * 65}",
        f"sha256:{'A' * 64}",
        f"sha256:{'g' * 64}",
        f"sha256:{'a' * 64}\n",
        f" sha256:{'a' * 64}",
        f"SHA256:{'a' * 64}",
        f"sha256:sha256:{'a' * 64}",
        f"sha512:{'a' * 64}",
        f"sha256:{'a' * 128}",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256:../../etc/passwd",
        "sha256:" + "\u0661" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


def test_no_value_exists_that_is_no_digest() -> None:
    with pytest.raises(InvalidDigest):
        Digest("sha256", "beef")
    with pytest.raises(InvalidDigest):
        Digest.of(b"", "md5")
