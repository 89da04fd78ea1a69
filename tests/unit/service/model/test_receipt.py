"""Receipts offline: what they say, and that nothing that was changed is believed."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import InvalidConfiguration, InvalidReceipt
from service.model.receipt import (
    Entry,
    Header,
    Receipt,
    entry_line,
    header_line,
    instant,
)
from service.model.receipt_signature import ReceiptKey, fingerprint, verify

KEY = ReceiptKey.from_secret(b"k" * 32)
OTHER = ReceiptKey.from_secret(b"o" * 32)
ENTRY = Entry(
    source="east/team/app:1.2",
    destination="west/mirror/team/app:1.2",
    digest="sha256:" + "ab" * 32,
    bytes=1234,
    route=("east", "hub", "west"),
    at=instant(1.5),
    attempts=1,
)
HEADER = Header(KEY.instance, instant(2.0), ("e1", "e2"), 3)
ENTRIES = [
    ENTRY,
    replace(ENTRY, destination="west/mirror/team/app:1.3", bytes=0),
    replace(ENTRY, destination="west/mirror/team/app-b@sha256:" + "cd" * 32),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "r.jsonl", [header_line(HEADER), *map(entry_line, ENTRIES)])


def write(path: Path, lines: list[bytes], key: ReceiptKey = KEY) -> Path:
    path.write_bytes(b"".join(lines))
    path.with_name(path.name + ".sig").write_text(f"{key.sign(path)}\n")
    return path


def test_what_was_written_is_read(path: Path) -> None:
    receipt = Receipt(path)

    assert receipt.header == HEADER
    assert list(receipt) == ENTRIES
    assert verify(path, KEY.public_pem) == HEADER


def test_openssl_believes_the_signature(path: Path, tmp_path: Path) -> None:
    """What shares no code with us judges alike."""
    assert shutil.which("openssl")
    (tmp_path / "key.pem").write_text(KEY.public_pem)
    sig = tmp_path / "raw.sig"
    sig.write_bytes(base64.b64decode((tmp_path / "r.jsonl.sig").read_text()))
    words = (
        f"openssl pkeyutl -verify -pubin -inkey {tmp_path}/key.pem -rawin -in {path} -sigfile {sig}"
    )

    assert subprocess.run(words.split(), check=False, capture_output=True).returncode == 0
    path.write_bytes(path.read_bytes().replace(b"1234", b"1235"))
    assert subprocess.run(words.split(), check=False, capture_output=True).returncode != 0


def test_any_changed_byte_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for at in sorted(chance.sample(range(len(whole)), 60)):
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InvalidReceipt) as caught:
            verify(path, KEY.public_pem)
        assert caught.value.hint, f"byte {at}"


@pytest.mark.parametrize("left", [0, 1, 60, 400, -1, -40])
def test_receipt_that_was_cut_off_is_refused(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(InvalidReceipt) as caught:
        verify(path, KEY.public_pem)

    assert "cut off" in caught.value.hint


def test_receipt_cut_between_two_lines_is_refused(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))

    with pytest.raises(InvalidReceipt, match=r"tells of 3 entries, here are 2") as caught:
        verify(path, KEY.public_pem)

    assert "cut off" in caught.value.hint


def test_other_keys_are_told_apart_from_changes(path: Path) -> None:
    with pytest.raises(InvalidReceipt, match="is not of this key") as caught:
        verify(path, OTHER.public_pem)

    assert KEY.instance in caught.value.message
    assert "receipts key" in caught.value.hint
    assert fingerprint(OTHER.public_pem) == OTHER.instance


def test_receipt_that_another_key_signed_in_our_name_is_refused(tmp_path: Path) -> None:
    forged = write(
        tmp_path / "r.jsonl", [header_line(HEADER), *map(entry_line, ENTRIES)], key=OTHER
    )

    with pytest.raises(InvalidReceipt, match="is not what was signed"):
        verify(forged, KEY.public_pem)


@pytest.mark.parametrize("text", [None, "", "no base64", base64.b64encode(b"short").decode()])
def test_missing_and_broken_signatures_are_refused(path: Path, text: str | None) -> None:
    beside = path.with_name("r.jsonl.sig")
    beside.unlink()
    if text is not None:
        beside.write_text(text)

    with pytest.raises(InvalidReceipt) as caught:
        verify(path, KEY.public_pem)

    assert str(beside) in caught.value.message
    assert "transship receipts make" in caught.value.hint


Change = Callable[[list[bytes]], list[bytes]]
WRONG: dict[str, tuple[Change, str]] = {
    "no receipt": (lambda _: [b'{"a": 1}\n'], ":1: this is no receipt"),
    "a later version": (
        lambda lines: [lines[0].replace(b'receipt":1', b'receipt":2'), *lines[1:]],
        ":1: a receipt of version 2",
    ),
    "twin keys": (
        lambda lines: [lines[0], lines[1].replace(b"{", b'{"bytes":0,', 1), *lines[2:]],
        ":2: not strict JSON: twin key",
    ),
    "a key of nobody": (
        lambda lines: [lines[0], lines[1].replace(b"{", b'{"x":0,', 1), *lines[2:]],
        ":2: 'x' is no key",
    ),
    "a key that is missing": (
        lambda lines: [*lines[:2], lines[2].replace(b'"attempts":1', b'"at2":1'), lines[3]],
        ":3: attempts is missing",
    ),
    "order": (lambda lines: [lines[0], lines[2], lines[1], lines[3]], ":3: west/mirror"),
    "the same twice": (lambda lines: [lines[0], lines[1], lines[1], lines[3]], ":3: west/mirror"),
    "a digest": (
        lambda lines: [*lines[:3], lines[3].replace(b"sha256:ab", b"sha256:AB", 1)],
        ":4: digest: not a digest",
    ),
    "a number below 0": (
        lambda lines: [*lines[:1], lines[1].replace(b":1234", b":-1"), *lines[2:]],
        ":2: bytes is no number",
    ),
    "a way to elsewhere": (
        lambda lines: [*lines[:1], lines[1].replace(b'"hub","west"', b'"hub"'), *lines[2:]],
        ":2: route does not lead",
    ),
    "an address": (
        lambda lines: [*lines[:1], lines[1].replace(b'"west/', b'"10.1.0.5:443/'), *lines[2:]],
        ":2: destination: not the name of a registry",
    ),
    "a long line": (
        lambda lines: [*lines[:1], b" " * (65 * 1024) + lines[1], *lines[2:]],
        ":2: a line of more than",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_lines_are_named_even_when_they_are_signed(path: Path, name: str) -> None:
    change, said = WRONG[name]
    write(path, change(path.read_bytes().splitlines(keepends=True)))

    with pytest.raises(InvalidReceipt) as caught:
        verify(path, KEY.public_pem)

    assert f"{path}{said}" in caught.value.message
    assert caught.value.hint


def test_key_is_the_same_from_the_same_secret_and_no_other() -> None:
    again = ReceiptKey.from_secret(b"k" * 32)

    assert again.public_pem == KEY.public_pem
    assert OTHER.public_pem != KEY.public_pem
    assert "PRIVATE" not in KEY.public_pem


def test_key_files_that_are_none_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "key.pem"
    for algorithm in ("ed25519", "x25519"):
        words = ["openssl", "genpkey", "-algorithm", algorithm, "-out", str(made)]
        subprocess.run(words, check=True, capture_output=True)
        if algorithm == "ed25519":
            assert ReceiptKey.from_file(made).instance.startswith("ed25519:")
        else:
            with pytest.raises(InvalidConfiguration, match="no Ed25519 private key"):
                ReceiptKey.from_file(made)
    made.write_text(KEY.public_pem)
    for path in (made, tmp_path / "nowhere"):
        with pytest.raises(InvalidConfiguration) as caught:
            ReceiptKey.from_file(path)
        assert "openssl genpkey" in caught.value.hint
