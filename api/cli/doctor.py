"""transship doctor: what a registry can do, and what Transship does about what it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part
from service.errors import InvalidConfiguration
from service.registry.doctor import SCRATCH, SECOND


@click.command()
@click.argument("registry")
@click.option("-f", "--file", type=click.Path(), help="transship.yaml: ask from this machine.")
@click.option(
    "--repository",
    default=SCRATCH,
    show_default=True,
    help="Scratch repository that is written to, and NAME-mount beside it.",
)
@click.option("--no-write", is_flag=True, help="Try only what writes nothing.")
@DATA
@JSON
def doctor(
    registry: str,
    file: str | None,
    repository: str,
    no_write: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Find out what a registry can do, and say what Transship does about it.

    REGISTRY is a name on the server, or in the file. Exits with 3 when it cannot be spoken to.
    """
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
            found = server.ask("POST", f"/registries/{part(registry)}/examination", body)
    if as_json:
        exits.print_json(found)
    else:
        _print(found)
    reached = any(one["name"] == "ping" and one["result"] == "yes" for one in found["findings"])
    sys.exit(exits.AS_THE_RULE_SAYS if reached else exits.UNKNOWN)


def _here(name: str, file: str, repository: str, *, write: bool) -> dict[str, Any]:
    """Examine a registry of a file from this machine."""
    from api.config_file import load_file
    from service.model.reference import validate_repository
    from service.registry import credentials
    from service.registry.client import RegistryClient
    from service.registry.doctor import examine

    validate_repository(repository)
    endpoints = {one.name: one for one in load_file(file).registries}
    if name not in endpoints:
        raise InvalidConfiguration(
            f"{file} has no registry named {name}",
            hint=f"it has {', '.join(sorted(endpoints)) or 'none'}",
        )
    endpoint = endpoints[name]
    client = RegistryClient(
        endpoint,
        lambda: credentials.resolve(endpoint.credentials, endpoint.host, lambda: None),
    )
    try:
        found = examine(client, repository, write=write)
    finally:
        client.close()
    return {
        "schema": 1,
        "registry": name,
        "written": [repository, repository + SECOND] if write else [],
        "findings": [
            {"name": f.name, "result": f.result, "detail": f.detail, "means": f.means}
            for f in found
        ],
    }


def _print(found: dict[str, Any]) -> None:
    reached = any(one["name"] == "ping" and one["result"] == "yes" for one in found["findings"])
    for one in found["findings"]:
        if not reached and one["result"] == "unknown":
            continue  # nothing else was tried
        click.echo(f"{one['name']:16} {one['result']:8} {one['means'] or one['detail']}")
        if one["means"] and one["detail"]:
            click.echo(f"{'':25} ({one['detail']})")
