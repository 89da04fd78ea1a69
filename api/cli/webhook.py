"""transship registries webhook: have a registry's provider send its events, by the provider's API."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from api.cli import exits
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part


@click.command("webhook")
@click.argument("name")
@click.option("--url", required=True, help="This server, as the registry reaches it: https://HOST.")
@click.option(
    "--rule", "rules", multiple=True, help="For what this rule takes; else all rules that listen."
)
@click.option("--repository", "repositories", multiple=True, help="For this repository.")
@click.option("--role", help="AWS: the ARN of the role that EventBridge sends by.")
@click.option("--remove", is_flag=True, help="Have it send no more.")
@DATA
@JSON
def webhook(
    name: str,
    url: str,
    rules: tuple[str, ...],
    repositories: tuple[str, ...],
    role: str | None,
    remove: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Have a registry's provider send its events here, by the provider's own API.

    One webhook a place (a project, an owner, a repository: as the provider has them); run again, it sets right what is
    not as it should be, and gives the current secret of the hook. Exits with 1 when a place failed.
    """
    body = {"url": url, "remove": remove}
    given = {"rules": list(rules), "repositories": list(repositories), "role": role}
    with connect(data) as server:
        path = f"/registries/{part(name)}/hook/registration"
        found = server.ask("POST", path, {**body, **{k: v for k, v in given.items() if v}})
    if as_json:
        exits.print_json(found)
    else:
        for one in found["places"]:
            click.echo(f"{one['place']:40} {one['result']:10} {one['reason']}".rstrip())
        click.echo(f"{found['provider']} sends to {found['address']}", err=True)
    failed = any(one["result"] == "failed" for one in found["places"])
    sys.exit(exits.NOT_AS_THE_RULE_SAYS if failed else exits.AS_THE_RULE_SAYS)
