"""`transship copy SRC DST` as a rule of one tag between two registries made up for it."""

from __future__ import annotations

import ipaddress

from api.engine.oneshot import Job
from service.errors import InvalidReference
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.reference import Reference
from service.model.rule import Destination, NameFilter, Selection, SyncRule

DOCKER_HUB = ("docker.io", "registry-1.docker.io")


def single_copy(source: str, destination: str, *, referrers: bool = True) -> Job:
    """Return the job. Raises InvalidReference naming the argument that is not a reference."""
    origin = _parse(source, "SOURCE")
    target = _parse(destination, "DESTINATION")
    registries = {_name(reference): _endpoint(reference) for reference in (origin, target)}
    tag = str(origin.digest) if origin.digest else str(origin.tag)
    keeps_digest = origin.digest is not None and target.tag is None
    rule = SyncRule(
        name="copy",
        source=_name(origin),
        select=(
            Selection(
                repositories=NameFilter(include=(origin.repository,)),
                tags=NameFilter(include=(tag,)),
            ),
        ),
        destinations=(
            Destination(
                registry=_name(target),
                repository=target.repository,
                tag="{tag}" if keeps_digest else str(target.tag),
            ),
        ),
        referrers=referrers,
        on_empty="fail",
    )
    return Job(list(registries.values()), [rule])


def _parse(text: str, argument: str) -> Reference:
    try:
        return Reference.parse(text)
    except InvalidReference as error:
        raise InvalidReference(
            f"{argument} {text!r}: {error.message}", field=argument, hint=error.hint
        ) from None


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
