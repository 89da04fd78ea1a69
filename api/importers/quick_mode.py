"""image-transfer's files of its quick mode: API keys, and the login of the registry to leave (peers-cli.md 2.1)."""

from __future__ import annotations

from typing import Any

from api.engine.tencent import ApiKey
from api.importers.files import read
from service.errors import FieldProblem, InvalidFields

_HINT = "write ccr: {secretId: ..., secretKey: ...}, and tcr likewise where it is another account"


def keys(path: str) -> tuple[ApiKey, ApiKey]:
    """Return the API keys of CCR and TCR; where one is missing, the other one is meant for both.

    Raises InvalidConfiguration and InvalidFields, which tell file and line and never a value.
    """
    file = read(path)
    document = file.document
    if not isinstance(document, dict) or not document or set(document) - {"ccr", "tcr"}:
        raise _wrong(path, "", "not a map of ccr and tcr", 1)
    found = {
        name: _key(path, name, value, file.at(name).line or 1) for name, value in document.items()
    }
    return found.get("ccr") or found["tcr"], found.get("tcr") or found["ccr"]


def login(path: str, host: str) -> tuple[str, str]:
    """Return user and password of a registry's host, out of a security file. Raises as `keys` does."""
    file = read(path)
    document = file.document
    entry = document.get(host) if isinstance(document, dict) else None
    if not isinstance(entry, dict):
        raise _wrong(path, host, "is not there, and it is the registry to leave", 1)
    user, password = entry.get("username"), entry.get("password")
    if not _is_text(user) or not _is_text(password):
        line = file.at(host).line or 1
        raise _wrong(path, host, "needs username and password, both texts", line)
    return str(user), str(password)


def _key(path: str, name: str, value: Any, line: int) -> ApiKey:
    parts = (value.get("secretId"), value.get("secretKey")) if isinstance(value, dict) else ()
    if len(parts) != 2 or not all(_is_text(part) for part in parts):
        raise _wrong(path, name, "needs secretId and secretKey, both texts", line)
    return ApiKey(str(parts[0]), str(parts[1]))


def _is_text(value: Any) -> bool:
    """Whether a value is a text; an account's number may stand without its quotes."""
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def _wrong(path: str, field: str, message: str, line: int) -> InvalidFields:
    return InvalidFields((FieldProblem(field, message, _HINT, line),), source=path)
