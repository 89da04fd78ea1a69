"""How a source's name becomes a destination's name: templates with a few placeholders.

`{host}` and `{registry}` are the source's address and name; `{repository}` its whole path and
`{repository[1:]}` the path without its first part; `{namespace}` all parts but the last, `{name}`
the last; `{tag}` the tag; `{digest}` the digest's hex digits (a tag may hold no colon).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import InvalidConfiguration
from service.model.reference import validate_repository, validate_tag

PLACEHOLDERS = ("host", "registry", "repository", "namespace", "name", "tag", "digest")
_SLICE = re.compile(r"repository\[(\d{1,3}):\]")
_MAX_TEMPLATE = 512


@dataclass(frozen=True, slots=True)
class _Part:
    """A literal text, or a placeholder; `skip` path parts are left out at the front."""

    text: str
    placeholder: bool = False
    skip: int = 0


@functools.lru_cache(maxsize=1024)
def _parse(template: str) -> tuple[_Part, ...]:
    if not template:
        raise InvalidConfiguration("the template is empty", hint='write "{repository}" or "{tag}"')
    if len(template) > _MAX_TEMPLATE:
        raise InvalidConfiguration(f"the template is longer than {_MAX_TEMPLATE} characters")
    parts: list[_Part] = []
    position = 0
    while position < len(template):
        opening = template.find("{", position)
        literal = template[position:] if opening < 0 else template[position:opening]
        if "}" in literal:
            raise InvalidConfiguration(f"the template {template!r} has an unmatched '}}'")
        if literal:
            parts.append(_Part(literal))
        if opening < 0:
            break
        closing = template.find("}", opening)
        if closing < 0:
            raise InvalidConfiguration(f"the template {template!r} has an unmatched '{{'")
        parts.append(_placeholder(template, template[opening + 1 : closing]))
        position = closing + 1
    return tuple(parts)


def _placeholder(template: str, name: str) -> _Part:
    if name in PLACEHOLDERS:
        return _Part(name, placeholder=True)
    if sliced := _SLICE.fullmatch(name):
        return _Part("repository", placeholder=True, skip=int(sliced[1]))
    known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
    raise InvalidConfiguration(
        f"the template {template!r} has the unknown placeholder {{{name}}}",
        hint=f"known are {known} and {{repository[n:]}}",
    )


def placeholders(template: str) -> frozenset[str]:
    """Return the names of the placeholders used; raises InvalidConfiguration for a broken one."""
    return frozenset(part.text for part in _parse(template) if part.placeholder)


def render(
    template: str,
    *,
    host: str,
    registry: str,
    repository: str,
    tag: str,
    digest: str | None = None,
) -> str:
    """Fill the template in; the result is not judged here (render_repository and render_tag do).

    Raises InvalidConfiguration for an unknown placeholder, for a `{repository[n:]}` that leaves
    nothing, and for a `{digest}` that is not known.
    """
    namespace, _, name = repository.rpartition("/")
    values: Mapping[str, str | None] = {
        "host": host,
        "registry": registry,
        "repository": repository,
        "namespace": namespace,
        "name": name,
        "tag": tag,
        "digest": digest.partition(":")[2] if digest else None,
    }
    return "".join(
        _value(template, part, values) if part.placeholder else part.text
        for part in _parse(template)
    )


def _value(template: str, part: _Part, values: Mapping[str, str | None]) -> str:
    value = values[part.text]
    if value and part.skip:
        value = "/".join(value.split("/")[part.skip :])
    if not value:
        whose = f"{values['repository']}:{values['tag']}"
        raise InvalidConfiguration(
            f"the template {template!r} gives nothing for {{{part.text}"
            f"{f'[{part.skip}:]' if part.skip else ''}}} of {whose}"
        )
    return value


def render_repository(
    template: str,
    *,
    host: str,
    registry: str,
    repository: str,
    tag: str,
    digest: str | None = None,
) -> str:
    """Return the repository at the destination.

    Raises InvalidConfiguration as render does, and InvalidReference for a result outside the
    distribution specification's grammar of names.
    """
    return validate_repository(
        render(
            template, host=host, registry=registry, repository=repository, tag=tag, digest=digest
        )
    )


def render_tag(
    template: str,
    *,
    host: str,
    registry: str,
    repository: str,
    tag: str,
    digest: str | None = None,
) -> str:
    """Return the tag at the destination; raises as render_repository does."""
    return validate_tag(
        render(
            template, host=host, registry=registry, repository=repository, tag=tag, digest=digest
        )
    )


def keeps_repository(template: str) -> bool:
    """Whether the template leaves every repository's name as it is."""
    parts = _parse(template)
    spelled = "".join(f"{{{part.text}}}" if part.placeholder else part.text for part in parts)
    whole = not any(part.skip for part in parts)
    return whole and spelled in {"{repository}", "{namespace}/{name}"}


def is_one_to_one(template: str, placeholder: str) -> bool:
    """Whether two values of the placeholder never give one name, whatever else differs between them."""
    varying = [
        (part.text, part.skip)
        for part in _parse(template)
        if part.placeholder and part.text not in {"host", "registry"}
    ]
    return varying == [(placeholder, 0)]


def keeps_tag(template: str) -> bool:
    """Whether the template leaves every tag as it is."""
    return _parse(template) == (_Part("tag", placeholder=True),)
