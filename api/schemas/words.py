"""Texts that several documents hold to the same grammar: a registry's URL, the name of a secret variable."""

from __future__ import annotations

from dataclasses import fields as fields_of
from urllib.parse import urlsplit

from service.errors import InvalidInput
from service.model.endpoint import LAYOUT
from service.model.reference import validate_host
from service.settings import Settings

MOST_PATH_BYTES = 1024
_VARIABLES = "TRANSSHIP_SECRET_"
_OURS = frozenset(f"TRANSSHIP_{item.name.upper()}" for item in fields_of(Settings))


def normalise_registry_url(text: str) -> str:
    """Return scheme://host[:port], or oci:/path of a directory; raises InvalidInput saying what has to go."""
    return f"{LAYOUT}{layout_path(text)}" if text.startswith(LAYOUT) else normalise_url(text)


def layout_path(text: str) -> str:
    """Return the absolute path of oci:/path, without its detours; raises InvalidInput."""
    path = text.removeprefix(LAYOUT)
    if not path.startswith("/"):
        raise InvalidInput(
            f"{text[:80]!r} is no absolute path", hint="write oci:/path/of/the/directory"
        )
    if not path.isprintable() or len(path.encode()) > MOST_PATH_BYTES or ".." in path.split("/"):
        raise InvalidInput(
            "the path of a layout has printable characters, no .. and at most "
            f"{MOST_PATH_BYTES} bytes"
        )
    clean = f"/{'/'.join(part for part in path.split('/') if part not in ('', '.'))}"
    if clean == "/":
        raise InvalidInput("a layout is a directory of its own", hint="write oci:/path")
    return clean


def normalise_url(text: str) -> str:
    """Return scheme://host[:port]; raises InvalidInput saying what has to go."""
    if text.startswith(LAYOUT):
        raise InvalidInput(
            "a directory is no address", hint="only a registry's url may be oci:/path"
        )
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:80]!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or "://" not in text:
        raise InvalidInput(
            f"{text[:80]!r} does not begin with https://",
            hint="http:// is allowed too, when it is written",
        )
    if "@" in parts.netloc:
        raise InvalidInput(
            "a URL holds no user or password", hint="give them as credentials of the registry"
        )
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise InvalidInput("a registry's URL has no query and no fragment")
    if parts.path not in {"", "/"}:
        raise InvalidInput(
            f"a registry's URL has no path, this one has {parts.path[:80]!r}",
            hint="name a repository's first parts in the rule",
        )
    return f"{parts.scheme}://{validate_host(parts.netloc)}"


def secret_variable(name: str) -> str:
    """Return the name of a variable that may hold a secret; raises InvalidInput."""
    if not name.startswith(_VARIABLES) or not name.isidentifier() or name in _OURS:
        raise InvalidInput(
            f"{name[:80]!r} is not a variable that may hold a secret",
            hint=f"its name begins with {_VARIABLES}",
        )
    return name
