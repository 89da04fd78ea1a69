"""`transship copy SRC DST` as a rule of one tag between two registries made up for it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from api.engine.oneshot import Job
from api.schemas.words import layout_path
from service.errors import InvalidInput, InvalidReference
from service.model.digest import Digest
from service.model.endpoint import LAYOUT, CredentialSpec, RegistryEndpoint
from service.model.reference import Reference, validate_repository, validate_tag
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.registry.layout.repositories import plain_name

DOCKER_HUB = ("docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two arguments: a registry that is made up for it, and what is named there."""

    endpoint: RegistryEndpoint
    repository: str
    tag: str | None
    digest: Digest | None


def single_copy(source: str, destination: str, *, referrers: bool = True) -> Job:
    """Return the job. Raises InvalidReference naming the argument that is not a reference."""
    origin = _parse(source, "SOURCE")
    target = _parse(destination, "DESTINATION")
    registries = {side.endpoint.name: side.endpoint for side in (origin, target)}
    tag = str(origin.digest) if origin.digest else str(origin.tag)
    keeps_digest = origin.digest is not None and target.tag is None
    rule = SyncRule(
        name="copy",
        source=origin.endpoint.name,
        select=(
            Selection(
                repositories=NameFilter(include=(origin.repository,)),
                tags=NameFilter(include=(tag,)),
            ),
        ),
        destinations=(
            Destination(
                registry=target.endpoint.name,
                repository=target.repository,
                tag="{tag}" if keeps_digest else str(target.tag),
            ),
        ),
        referrers=referrers,
        on_empty="fail",
    )
    return Job(list(registries.values()), [rule])


def _parse(text: str, argument: str) -> _Side:
    try:
        if text.startswith(LAYOUT):
            return _of_layout(text)
        reference = Reference.parse(text)
        return _Side(_endpoint(reference), reference.repository, reference.tag, reference.digest)
    except InvalidInput as error:
        raise InvalidReference(
            f"{argument} {text!r}: {error.message}", field=argument, hint=error.hint
        ) from None


def _of_layout(text: str) -> _Side:
    """Read oci:PATH:TAG of a plain layout, as skopeo writes it, or oci:PATH//REPOSITORY:TAG of one of many.

    @DIGEST may follow, or stand in the place of :TAG; without both it is the tag latest.
    """
    whole = text.removeprefix(LAYOUT)
    rest, at, written = whole.rpartition("@")
    has_digest = bool(at) and written.partition(":")[0] in ("sha256", "sha512")
    digest = Digest.parse(written) if has_digest else None
    rest = rest if has_digest else whole
    path, many, name = rest.rpartition("//")
    named = name if many else rest
    before, colon, tag = named.rpartition(":")
    chosen = None if digest else "latest"
    if colon and "/" not in tag:
        named, chosen = before, validate_tag(tag)
    if not (path if many else named):
        raise InvalidReference(
            "a layout's path is missing", hint="oci:PATH:TAG, or oci:PATH//REPOSITORY:TAG"
        )
    place = layout_path(f"{LAYOUT}{Path(path if many else named).absolute()}")
    repository = validate_repository(named) if many else plain_name(place)
    url = f"{LAYOUT}{place}"
    return _Side(RegistryEndpoint(name=url, url=url), repository, chosen, digest)


def _name(reference: Reference) -> str:
    return f"{reference.scheme or ''}{'://' if reference.scheme else ''}{reference.registry}"


def _endpoint(reference: Reference) -> RegistryEndpoint:
    host = DOCKER_HUB[1] if reference.registry == DOCKER_HUB[0] else reference.registry
    scheme = reference.scheme or ("http" if _is_loopback(host) else "https")
    return RegistryEndpoint(
        name=_name(reference),
        url=f"{scheme}://{host}",
        credentials=CredentialSpec(docker_config=True),
    )


def _is_loopback(host: str) -> bool:
    """Whether the registry is on this machine: there, as with docker, http needs not be written."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
