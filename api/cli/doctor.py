"""transship doctor: what a registry can do, and what Transship does about what it cannot."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, part
from service.errors import InvalidConfiguration, NetworkError
from service.registry.doctor import SCRATCH, SECOND

LOOK_SECONDS = 0.2


@click.command()
@click.argument("registry")
@click.option("-f", "--file", type=click.Path(), help="transship.yaml: ask from this machine.")
@click.option(
    "--repository",
    default=SCRATCH,
    show_default=True,
    help="Scratch repository that is written to, and NAME-mount beside it.",
)
@click.option(
    "--from", "region", metavar="REGION", help="Have a worker of this region look, by its address."
)
@click.option("--no-write", is_flag=True, help="Try only what writes nothing.")
@DATA
@JSON
def doctor(
    registry: str,
    file: str | None,
    repository: str,
    region: str | None,
    no_write: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Find out what a registry can do, and say what Transship does about it.

    REGISTRY is a name on the server, or in the file. Exits with 3 when it cannot be spoken to, or no
    worker of the region has answered in time.
    """
    if file is not None and region is not None:
        raise click.UsageError(
            "--from asks a worker of a server; with -f this machine looks, from TRANSSHIP_REGION"
        )
    if not no_write:
        click.echo(
            f"writing small things into {repository} and {repository}{SECOND} of {registry}, "
            "and deleting them again where it lets us",
            err=True,
        )
    if file is not None:
        found = _here(registry, file, repository, write=not no_write)
    else:
        body = {"repository": repository, "write": not no_write}
        with connect(data) as server:
            found = _there(server, registry, body, region)
    if as_json:
        exits.print_json(found)
    else:
        _print(found)
    reached = any(one["name"] == "ping" and one["result"] == "yes" for one in found["findings"])
    sys.exit(exits.AS_THE_RULE_SAYS if reached else exits.UNKNOWN)


def _there(
    server: Connection, name: str, body: dict[str, Any], region: str | None
) -> dict[str, Any]:
    """Have the server examine a registry, or a worker of a region.

    Raises NetworkError when no worker has answered in time, or could not look.
    """
    path = f"/registries/{part(name)}/examination"
    if region is None:
        found: dict[str, Any] = server.ask("POST", path, body)
        return found
    asked = server.ask("POST", path, {**body, "from": region})
    while asked["state"] in {"pending", "running"}:
        time.sleep(LOOK_SECONDS)
        asked = server.ask("GET", f"{path}s/{asked['id']}")
    if asked["state"] == "ended":
        return dict(asked)
    if asked["state"] == "failed":
        raise NetworkError(
            f"the worker of region {region} could not look: {asked['reason']}", hint=asked["hint"]
        )
    if asked.get("reason"):
        raise NetworkError(asked["reason"], hint=asked["hint"])
    if asked["worker"]:
        raise NetworkError(
            f"the worker {asked['worker']} of region {region} took it and did not answer in time",
            hint="look at its log, and try again",
        )
    raise NetworkError(
        f"no worker of region {region} took it in time",
        hint="they are busy, or do not reach their queue: `transship regions show` has its depth",
    )


def _here(name: str, file: str, repository: str, *, write: bool) -> dict[str, Any]:
    """Examine a registry of a file from this machine."""
    from api.config_file import load_file
    from service.model.reference import validate_repository
    from service.registry import credentials
    from service.registry.doctor import examine
    from service.registry.opening import open_client
    from service.replication.examine import told, written_to
    from service.settings import Settings

    validate_repository(repository)
    endpoints = {one.name: one for one in load_file(file).registries}
    if name not in endpoints:
        raise InvalidConfiguration(
            f"{file} has no registry named {name}",
            hint=f"it has {', '.join(sorted(endpoints)) or 'none'}",
        )
    endpoint, settings = endpoints[name], Settings.from_env()
    region = settings.region
    host = endpoint.seen_from(region).host
    first, *more = credentials.readers(
        endpoint, host, lambda _place: None, helpers=settings.allowed_helpers
    )
    client = open_client(
        endpoint, first, more=more, region=region, identity_hosts=settings.identity_hosts
    )
    try:
        found = examine(client, repository, write=write)
    finally:
        client.close()
    return {
        "schema": 1,
        "registry": name,
        "written": written_to(repository, write=write),
        "findings": told(found),
    }


def _print(found: dict[str, Any]) -> None:
    reached = any(one["name"] == "ping" and one["result"] == "yes" for one in found["findings"])
    for one in found["findings"]:
        if not reached and one["result"] == "unknown":
            continue  # nothing else was tried
        click.echo(f"{one['name']:16} {one['result']:8} {one['means'] or one['detail']}")
        if one["means"] and one["detail"]:
            click.echo(f"{'':25} ({one['detail']})")
