"""Which format files are of, by their shape, where nobody has said it.

Nothing is guessed: image-transfer and image-syncer write the same lines with other meanings, and who has such files says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.importers import harbor, image_syncer, image_transfer, lists, ocync, regsync, skopeo
from api.importers.files import File, read
from api.importers.gathered import are_logins
from service.errors import InvalidConfiguration, InvalidFields

_SYNCER, _TRANSFER = image_syncer.FORMAT, image_transfer.FORMAT
_HINT = "say it: transship import FORMAT FILE..."
_BY_KEYS = (
    (ocync.FORMAT, frozenset({"mappings"})),
    (regsync.FORMAT, frozenset({"sync"})),
    (regsync.FORMAT, frozenset({"creds", "version"})),
)
_IMAGES = frozenset({"images", "images-by-tag-regex", "images-by-semver"})
_POLICY = frozenset({"src_registry", "dest_registry", "dest_namespace", "filters"})


def recognise(paths: Sequence[str]) -> str:
    """Return the format that all of the files can be of. Raises InvalidConfiguration, and InvalidFields."""
    possible = {path: _formats(path) for path in paths}
    for path, forms in possible.items():
        if not forms:
            raise InvalidConfiguration(
                f"{path}: of no format that is known by its shape", field="FORMAT", hint=_HINT
            )
    common = set.intersection(*(set(forms) for forms in possible.values()))
    if len(common) == 1:
        return common.pop()
    told = "; ".join(f"{path}: {' or '.join(sorted(forms))}" for path, forms in possible.items())
    why = "may be of several formats" if common else "are not of one format"
    raise InvalidConfiguration(f"the files {why}: {told}", field="FORMAT", hint=_HINT)


def _formats(path: str) -> frozenset[str]:
    """Return the formats that a file may be of."""
    try:
        document = read(path).document
    except InvalidFields:
        if _is_list(read(path, plain=True)):
            return frozenset({lists.FORMAT})
        raise
    if isinstance(document, str):
        return frozenset({lists.FORMAT})
    if isinstance(document, list):
        return frozenset({harbor.FORMAT} if any(map(_of_harbor, document)) else ())
    return _of_map(document) if isinstance(document, dict) else frozenset()


def _of_map(document: dict[str, Any]) -> frozenset[str]:
    for form, keys in _BY_KEYS:
        if keys <= document.keys():
            return frozenset({form})
    if _of_harbor(document):
        return frozenset({harbor.FORMAT})
    if any(isinstance(document.get(key), dict) for key in ("auth", "images")):
        return frozenset({_SYNCER})
    values = list(document.values())
    if any(isinstance(value, dict) and _IMAGES & value.keys() for value in values):
        return frozenset({skopeo.FORMAT})
    if document and document.keys() <= {"ccr", "tcr"} and all(isinstance(v, dict) for v in values):
        return frozenset({_TRANSFER})
    if are_logins(document):
        return frozenset({_SYNCER, _TRANSFER})
    if not values or not all(isinstance(value, str | list | None) for value in values):
        return frozenset()
    if any(isinstance(v, list) for v in values) or any("@" in k or ":/" in k for k in document):
        return frozenset(
            {_SYNCER}
        )  # there several destinations, digests and expressions alone can stand
    if any(not value for value in values):
        return frozenset({_TRANSFER})  # there alone a line needs no target
    return frozenset({_SYNCER, _TRANSFER})


def _of_harbor(value: Any) -> bool:
    """Whether it is a replication policy, or a registry, as Harbor's API gives them."""
    if not isinstance(value, dict):
        return False
    return bool(_POLICY & value.keys()) or {"id", "type", "url"} <= value.keys()


def _is_list(file: File) -> bool:
    """Whether what is no YAML may be lines of references."""
    lines = [line.strip() for line in file.text.splitlines()]
    said = [line for line in lines if line and not line.startswith("#")]
    return bool(said) and all("/" in line and line[0] not in "{[\"'&*!|>%@`" for line in said)
