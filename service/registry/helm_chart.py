"""A Helm chart's archive as the OCI artifact that `helm push` makes of it.

Sources: helm.sh/docs/topics/charts (Chart.yaml), helm.sh/docs/topics/registries ("The Helm chart manifest"), and helm's
pkg/registry (annotations). One thing differs: there is no org.opencontainers.image.created, which helm takes from the
file's time, so that the same archive has the same digest wherever and whenever it is converted.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import yaml

from service.errors import InvalidManifest
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_MANIFEST

CONFIG_TYPE = "application/vnd.cncf.helm.config.v1+json"
CONTENT_TYPE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
MAX_FILE_BYTES = 1 << 20
"""Of Chart.yaml and requirements.yaml."""
MAX_UNPACKED_BYTES = 100 << 20  # helm's own bound
MAX_FILES = 20_000

_TITLE = "org.opencontainers.image."
_TEXTS = (
    "name",
    "home",
    "version",
    "description",
    "icon",
    "apiVersion",
    "condition",
    "tags",
    "appVersion",
    "kubeVersion",
    "type",
)
_ORDER = (
    "name", "home", "sources", "version", "description", "keywords", "maintainers", "icon", "apiVersion", "condition",
    "tags", "appVersion", "deprecated", "annotations", "kubeVersion", "dependencies", "type",
)  # fmt: skip
_AS_WRITTEN = frozenset({"version", "apiVersion", "type"})


class Readable(Protocol):
    """What an archive is read from, once and forwards."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


class Chart(NamedTuple):
    """A converted chart: its manifest, and the config that the manifest names; the layer is the archive."""

    manifest: Manifest
    config: bytes
    layer: Descriptor

    def config_digest(self) -> Digest:
        """Return the digest of the config."""
        return Digest.of(self.config)


class _Yaml(yaml.SafeLoader):
    """YAML as helm reads it: dates are texts."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_metadata(archive: Readable) -> dict[str, Any]:
    """Return what Chart.yaml of an archive says, as helm keeps it in the config of an artifact.

    The archive is read to the end of its last file, in pieces, and nothing of it is kept but Chart.yaml. Raises
    InvalidManifest for what is no chart's archive, or would unpack to over 100 MiB.
    """
    files = _files(archive)
    if "Chart.yaml" not in files:
        raise InvalidManifest("the archive has no Chart.yaml")
    told = _object(files["Chart.yaml"], "Chart.yaml")
    told["apiVersion"] = told.get("apiVersion") or "v1"
    if told["apiVersion"] == "v1" and "requirements.yaml" in files:
        told.update(_object(files["requirements.yaml"], "requirements.yaml"))
    metadata = _metadata(told)
    for member in ("name", "version"):
        if not metadata.get(member):
            raise InvalidManifest(f"Chart.yaml has no {member}")
    return metadata


def convert(metadata: Mapping[str, Any], digest: Digest, size: int) -> Chart:
    """Return the artifact of a chart's archive with this digest and size in bytes."""
    config = _json(metadata)
    layer = Descriptor(CONTENT_TYPE, digest, size)
    document = {
        "schemaVersion": 2,
        "config": _entry(Descriptor(CONFIG_TYPE, Digest.of(config), len(config))),
        "layers": [_entry(layer)],
        "annotations": dict(sorted(_annotations(metadata).items())),
    }
    return Chart(parse_manifest(_json(document), OCI_MANIFEST), config, layer)


def _files(archive: Readable) -> dict[str, bytes]:
    """Return the two files of a chart's own folder that matter."""
    found: dict[str, bytes] = {}
    unpacked = 0
    try:
        unzipped = gzip.GzipFile(
            fileobj=cast("Any", archive), mode="rb"
        )  # reads helm's own headers
        with unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
            for count, member in enumerate(tar):
                unpacked += member.size
                if unpacked > MAX_UNPACKED_BYTES or count >= MAX_FILES:
                    raise InvalidManifest("the archive unpacks to more than a chart may have")
                folder, _, name = member.name.removeprefix("./").partition("/")
                if folder and name in ("Chart.yaml", "requirements.yaml") and member.isfile():
                    if member.size > MAX_FILE_BYTES:
                        raise InvalidManifest(f"{name} of the archive has over 1 MiB")
                    file = tar.extractfile(member)
                    found[name] = file.read() if file is not None else b""
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise InvalidManifest(f"it is no archive of a chart: {type(error).__name__}") from None
    return found


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = yaml.load(data.removeprefix(b"\xef\xbb\xbf"), _Yaml)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidManifest(f"{name} of the archive is no YAML object")
    return value


def _metadata(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that helm knows, in its order, without those that are empty."""
    known: dict[str, Any] = {
        name: _text(told.get(name)) if name in _AS_WRITTEN else _clean(told.get(name))
        for name in _TEXTS
    }
    known["sources"] = [_clean(one) for one in _list(told.get("sources"))]
    known["keywords"] = [_clean(one) for one in _list(told.get("keywords"))]
    known["maintainers"] = [
        _full({name: _clean(one.get(name)) for name in ("name", "email", "url")})
        for one in _list(told.get("maintainers"))
        if isinstance(one, dict)
    ]
    known["deprecated"] = told.get("deprecated") is True
    annotations = told.get("annotations")
    if isinstance(annotations, dict):
        known["annotations"] = {
            key: _text(value)
            for key, value in sorted((_text(k), v) for k, v in annotations.items())
        }
    known["dependencies"] = [
        _dependency(one) for one in _list(told.get("dependencies")) if isinstance(one, dict)
    ]
    return _full({name: known.get(name) for name in _ORDER})


def _dependency(told: Mapping[str, Any]) -> dict[str, Any]:
    rest = {
        "condition": _clean(told.get("condition")),
        "tags": [_clean(one) for one in _list(told.get("tags"))],
        "enabled": told.get("enabled") is True,
        "import-values": [_imported(one) for one in _list(told.get("import-values"))],
        "alias": _text(told.get("alias")),
    }
    version = _clean(told.get("version"))
    return {
        "name": _clean(told.get("name")),
        **({"version": version} if version else {}),
        "repository": _clean(told.get("repository")),
        **_full(rest),
    }


def _imported(value: Any) -> Any:
    """Return an entry of import-values: a text, or texts by name."""
    if isinstance(value, dict):
        return {key: _text(one) for key, one in sorted((_text(k), v) for k, v in value.items())}
    return _text(value)


def _annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    authors = ", ".join(
        one.get("name", "") + (f" ({one['email']})" if one.get("email") else "")
        for one in metadata.get("maintainers", ())
    )
    found = {
        "description": metadata.get("description", ""),
        "title": metadata["name"],
        "version": metadata["version"],
        "url": metadata.get("home", ""),
        "source": next(iter(metadata.get("sources", ())), ""),
        "authors": authors,
    }
    own = {f"{_TITLE}{name}": text for name, text in found.items() if text.strip()}
    fixed = {f"{_TITLE}title", f"{_TITLE}version"}
    return {**own, **{k: v for k, v in metadata.get("annotations", {}).items() if k not in fixed}}


def _text(value: Any) -> str:
    """Return a scalar as helm writes it into a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else ""


def _clean(value: Any) -> str:
    """Return a text with spaces in place of what parts lines, and without what cannot be printed."""
    return "".join(
        " " if one.isspace() else one for one in _text(value) if one.isspace() or one.isprintable()
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _full(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _json(value: Any) -> bytes:
    """Return JSON as Go writes it, which helm's digests are of."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for one in "<>&\u2028\u2029":
        text = text.replace(one, f"\\u{ord(one):04x}")
    return text.encode()
