"""Every importer with the catalogue of reliability.md 5 G: told by line, or refused; never a crash, never in silence."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.config_file import load_text
from api.importers.build import Imported
from api.importers.formats import Options, import_files
from api.importers.recognise import recognise
from service.errors import InvalidConfiguration, InvalidFields, InvalidInput

SECRET = "hunter2-s3cret"
OPTIONS = Options(to="to.example/mirror", here="harbor.example")
DIGEST = "sha256:" + "0" * 64

GOOD: dict[str, list[Any]] = {
    "image-transfer": [
        {"a.example": {"username": "u", "password": SECRET, "insecure": True}},
        {"a.example/team/app:v1": "b.example/mirror/app", "a.example/team/all": "b.example/all"},
    ],
    "image-syncer": [
        {
            "auth": {"a.example": {"username": "u", "password": SECRET, "insecure": False}},
            "images": {
                "a.example/team/app:v1,v2": "b.example/mirror/app",
                f"a.example/team/pinned@{DIGEST}": ["b.example/pinned"],
                "a.example/team/re:/^v.*$/": "b.example/re",
            },
        }
    ],
    "regsync": [
        {
            "version": 1,
            "creds": [{"registry": "a.example", "user": "u", "pass": SECRET, "reqPerSec": 5, "tls": "enabled"}],
            "defaults": {"interval": "60m", "parallel": 2, "referrers": True, "ratelimit": {"min": 100, "retry": "15m"}},
            "sync": [
                {"source": "a.example/x:v1", "target": "b.example/x:v1", "type": "image"},
                {
                    "source": "a.example/y",
                    "target": "b.example/y",
                    "type": "repository",
                    "tags": {"allow": ["v.*"], "deny": ["v0"], "semverRange": [">=1.0"]},
                    "tagSets": [{"allow": ["w"]}],
                    "platforms": ["linux/amd64"],
                },
                {"source": "a.example", "target": "b.example/all", "type": "registry", "repos": {"allow": ["t/.*"], "deny": ["t/x"]}, "schedule": "0 1 * * *"},
            ],
        }
    ],
    "skopeo": [
        {
            "a.example": {
                "images": {"app": ["v1", DIGEST], "all": []},
                "images-by-tag-regex": {"re": "^v"},
                "images-by-semver": {"sem": ">=1.0"},
                "credentials": {"username": "u", "password": SECRET},
                "tls-verify": False,
                "cert-dir": "/certs",
            }
        }
    ],
    "harbor": [
        [
            {
                "name": "policy",
                "src_registry": None,
                "dest_registry": {"id": 3, "name": "tcr", "type": "docker-registry", "url": "https://b.example", "insecure": False, "credential": {"type": "basic", "access_key": "u", "access_secret": SECRET}},
                "dest_namespace": "mirror",
                "dest_namespace_replace_count": 1,
                "filters": [{"type": "name", "value": "library/**"}, {"type": "tag", "value": "v*", "decoration": "matches"}],
                "trigger": {"type": "scheduled", "trigger_settings": {"cron": "0 0 2 * * *"}},
                "override": True,
                "speed": 100,
                "enabled": True,
            }
        ],
        [{"id": 3, "name": "tcr", "type": "docker-registry", "url": "https://b.example", "credential": {"access_key": "u", "access_secret": SECRET}}],
    ],
    "ocync": [
        {
            "global": {"cache": 1},
            "registries": {
                "a": {"url": "a.example", "auth_type": "basic", "credentials": {"username": "u", "password": SECRET}, "max_concurrent": 5},
                "b": {"url": "b.example", "auth_type": "anonymous"},
            },
            "target_groups": {"prod": ["b"]},
            "defaults": {"source": "a", "targets": "prod", "tags": {"semver": ">=1.0", "sort": "semver", "latest": 3, "min_tags": 2}},
            "mappings": [
                {"from": "team/app", "to": "app", "tags": {"glob": "v*", "exclude": "*-x", "include": ["latest"]}, "platforms": ["linux/amd64"], "artifacts": {"enabled": True}},
                {"from": "team/web", "targets": ["b"]},
            ],
        }
    ],
}  # fmt: skip

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "a/../b",
    "../../etc/passwd",
    "\u202egnp.exe",
    "a\nb: c",
    "{{ env `HOME` }}",
    "${HOME}",
    "$HOME",
    "x" * 5000,
    "(a+)+$",
    "[",
    "https://u:p@evil.example/x",
    "bücher.example/app",
    [],
    [None],
    [1, "x", {}],
    ["x"],
    [[["x"]]],
    {},
    {"x": 1},
    {"x": {"y": ["z"]}},
    {1: 2},
    {None: "x"},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, the whole first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()  # fmt: skip
    for key, one in items:
        yield from places(one, (*path, key))


def with_odd(document: Any, path: tuple[Any, ...], odd: Any) -> Any:
    changed = copy.deepcopy(document)
    if not path:
        return odd
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = odd
    return changed


def said(form: str, folder: Path, texts: list[bytes]) -> Imported | InvalidInput:
    """What an importer makes of files; everything but a plain refusal is an error of the test."""
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.yaml"
        path.write_bytes(text)
        paths.append(str(path))
    found, refused = None, None
    try:
        found = import_files(form, paths, OPTIONS)
    except InvalidInput as error:
        refused = error
    if found is None:
        assert refused is not None
        assert str(refused).strip()
        assert SECRET not in str(refused) + refused.hint
        return refused
    assert SECRET not in found.text() + "".join(str(note) for note in found.notes)
    load_text(found.text())
    return found


def dumped(document: Any) -> bytes:
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode()


@pytest.mark.parametrize("form", GOOD)
def test_the_good_files_are_good(form: str, tmp_path: Path) -> None:
    found = said(form, tmp_path, [dumped(one) for one in GOOD[form]])

    assert isinstance(found, Imported)
    assert found.document["rules"]
    assert SECRET in found.secrets.values()


@pytest.mark.parametrize("form", GOOD)
def test_an_odd_value_at_any_place_is_told_refused_or_taken_and_never_a_crash(
    form: str, tmp_path: Path
) -> None:
    """At each place some of the odd values, others in each run; with EXAMPLES (a night's) all of them."""
    seed = int(os.environ.get("IMPORT_SEED", str(random.randrange(10**6))))
    count = len(ODD) if "EXAMPLES" in os.environ and int(os.environ["EXAMPLES"]) > 1000 else 1
    chosen = random.Random(seed)
    files = GOOD[form]
    texts = [dumped(one) for one in files]
    broken = []
    for number, document in enumerate(files):
        for path in places(document):
            for odd in chosen.sample(ODD, count):
                changed = [*texts]
                changed[number] = dumped(with_odd(document, path, odd))
                try:
                    said(form, tmp_path, changed)
                except Exception as error:
                    broken.append(f"{path} = {odd!r:.40}: {type(error).__name__}: {error}"[:200])
    assert not broken, f"IMPORT_SEED={seed}: {len(broken)}:\n" + "\n".join(broken[:40])


def keyed(document: Any, path: tuple[Any, ...]) -> Any:
    """The document with a key that nobody knows in one of its maps; None where it is no map of known keys."""
    at = document
    for key in path:
        at = at[key]
    return with_odd(document, path, {**at, "surprise": "x"}) if isinstance(at, dict) else None


NAMES_OF_THEIR_OWN = {
    "image-transfer": {()},
    "image-syncer": {("auth",), ("images",)},
    "skopeo": {(), ("a.example", "images"), ("a.example", "images-by-tag-regex"), ("a.example", "images-by-semver")},
    "ocync": {("registries",), ("target_groups",), ("global",)},
    "regsync": {("defaults", "ratelimit")},
    "harbor": {(0, "filters", 0), (0, "filters", 1), (0, "trigger"), (0, "trigger", "trigger_settings"), (0, "dest_registry", "credential"), (0, "credential")},
}  # fmt: skip
"""Maps whose keys are names, or that are told of as a whole or not looked into."""


@pytest.mark.parametrize("form", GOOD)
def test_a_key_that_nobody_knows_is_told_of_wherever_it_stands(form: str, tmp_path: Path) -> None:
    silent = []
    for number, document in enumerate(GOOD[form]):
        for path in places(document):
            changed = keyed(document, path)
            if changed is None or path in NAMES_OF_THEIR_OWN[form]:
                continue
            texts = [dumped(one) for one in GOOD[form]]
            texts[number] = dumped(changed)
            found = said(form, tmp_path, texts)
            notes = str(found) if isinstance(found, InvalidInput) else [n.key + n.text for n in found.notes]  # fmt: skip
            if "surprise" not in str(notes):
                silent.append(path)
    assert silent == []


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8)
)
REFUSED = {
    "nothing": b"",
    "a NUL": b"a.example/x: b.example/y\0",
    "UTF-16": "a.example/x: b.example/y".encode("utf-16"),
    "Latin-1": "b\xfccher: x".encode("latin-1"),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
    "a bomb of aliases": BOMB,
    "an anchor in a circle": b"a: &a [*a]\n",
    "an object of Python's": b"!!python/object/apply:os.system ['true']\n",
    "a tag of nobody's": b"a: !x y\n",
    "a tab": b"a:\n\tb: c\n",
    "a key twice": b"a.example/x: b.example/y\na.example/x: b.example/z\n",
    "deep nesting": b"[" * 5000,
    "deep maps": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "too many values": b"a: [" + b"1," * 200_001 + b"]",
    "50 MB": b"# " + b"x" * 50_000_000,
    "JSON that ends early": b'{"auth": {"a.example": {"username": "u"',
    "two documents": b"a: b\n---\nc: d\n",
    "a template": b"{{ range .x }}\na: b\n{{ end }}\n",
}
"""Files that no importer takes up, whatever their format."""

OF_NO_USE = {"an empty document": b"---\n", "a number": b"7", "a list of numbers": b"[1, 2]", "true": b"true", "null in a list": b"[null]"}  # fmt: skip


@pytest.mark.parametrize(("form", "what"), list(zip(itertools.cycle(GOOD), REFUSED, strict=False)))
def test_a_file_that_is_none_is_refused_at_once_with_its_name(
    form: str, what: str, tmp_path: Path
) -> None:
    """All formats read by the same function, so that each kind of file is one format's."""
    error = said(form, tmp_path, [REFUSED[what]])

    assert isinstance(error, InvalidFields), what
    assert "0.yaml" in str(error)


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize("what", OF_NO_USE)
def test_a_file_of_nothing_that_is_known_copies_nothing(
    form: str, what: str, tmp_path: Path
) -> None:
    error = said(form, tmp_path, [OF_NO_USE[what]])

    assert isinstance(error, InvalidInput)
    assert "0.yaml" in str(error)


@pytest.mark.parametrize("form", GOOD)
def test_windows_lines_a_byte_order_mark_and_anchors_change_nothing(
    form: str, tmp_path: Path
) -> None:
    texts = [dumped(one) for one in GOOD[form]]
    plain = said(form, tmp_path, texts)
    windows = said(form, tmp_path, [b"\xef\xbb\xbf" + one.replace(b"\n", b"\r\n") for one in texts])  # fmt: skip
    shared = said(form, tmp_path, [b"x-unused: &u [1]\n" + texts[0], *texts[1:]]) if form == "regsync" else plain  # fmt: skip
    as_json = said(form, tmp_path, [json.dumps(one).encode() for one in GOOD[form]])

    assert isinstance(plain, Imported)
    for other in (windows, shared, as_json):
        assert isinstance(other, Imported)
        assert other.document == plain.document


LISTS = {
    "nothing": b"",
    "a NUL": b"a.example/x b.example/y\0",
    "UTF-16": "a.example/x b.example/y".encode("utf-16"),
    "an image": b"\x89PNG\r\n" + bytes(range(256)),
    "5 MB": b"a.example/x b.example/y\n" * 250_000,
    "a line of a megabyte": b"a.example/" + b"x" * 1_000_000,
    "a quote that does not end": b'"a.example/x,b.example/y\n',
    "a cell of a megabyte": b'a.example/x,"' + b"y" * 1_000_000 + b'"',
    "a path": b"../../etc/passwd /etc/shadow\n",
    "a user in the address": b"https://u:p@a.example/x b.example/x\n",
    "writing from right to left": "a.example/\u202ex b.example/x\n".encode(),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_is_none_is_refused_by_line(what: str, tmp_path: Path) -> None:
    error = said("list", tmp_path, [LISTS[what]])

    assert isinstance(error, InvalidInput)
    assert "0.yaml" in f"{error}{error.hint}"
    assert "u:p" not in f"{error}{error.hint}"


def test_a_list_keeps_its_good_lines(tmp_path: Path) -> None:
    lines = [b"a.example/x b.example/x", b"\xe2\x80\xae bad", b"a.example/y:v1,b.example/y"]

    found = said("list", tmp_path, [b"\xef\xbb\xbf" + b"\r\n".join(lines)])

    assert isinstance(found, Imported)
    assert len(found.document["rules"][0]["select"]) == 2
    assert [n.place.line for n in found.notes if n.weight == "lost"] == [2]


AMBIGUOUS = {"image-transfer"}
"""Formats whose lines another one writes, too, with another meaning."""


@pytest.mark.parametrize("form", GOOD)
def test_a_format_is_known_by_the_shape_of_its_files_in_any_order(
    form: str, tmp_path: Path
) -> None:
    paths = []
    for number, document in enumerate(GOOD[form]):
        paths.append(str(tmp_path / f"{number}.yaml"))
        Path(paths[-1]).write_bytes(dumped(document))

    if form in AMBIGUOUS:
        with pytest.raises(InvalidConfiguration, match="image-syncer or image-transfer") as caught:
            recognise(paths)
        assert "transship import FORMAT" in caught.value.hint
    else:
        assert recognise(paths) == form
        assert recognise(paths[::-1]) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a.example/x b.example/y\nc.example/x:v1 d.example/y\n", "list"),
        ("source,destination\na.example/x,b.example/y\n", "list"),
        ("# what goes\na.example/x: ", "image-transfer"),
        (f"a.example/x@{DIGEST}: b.example/x", "image-syncer"),
        ("a.example/x: [b.example/x, c.example/x]", "image-syncer"),
        ("a.example: {images: {}}", "skopeo"),
        ("tcr: {secretId: x, secretKey: y}", "image-transfer"),
        ("version: 1\ncreds: []", "regsync"),
        ("[{id: 1, type: harbor, url: 'https://x.example'}]", "harbor"),
    ],
)
def test_shapes(text: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)

    assert recognise([str(path)]) == form


@pytest.mark.parametrize("text", ["7", "a: 7", "version: 1", "{}", "[]", "a: {b: {c: d}}"])
def test_what_has_no_known_shape_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)

    with pytest.raises(InvalidConfiguration, match=r"x\.yaml"):
        recognise([str(path)])


def test_files_of_two_formats_are_told_apart(tmp_path: Path) -> None:
    for name in ("regsync", "skopeo"):
        (tmp_path / name).write_bytes(dumped(GOOD[name][0]))

    with pytest.raises(InvalidConfiguration, match="not of one format") as caught:
        recognise([str(tmp_path / "regsync"), str(tmp_path / "skopeo")])

    assert "skopeo: skopeo" in caught.value.message
