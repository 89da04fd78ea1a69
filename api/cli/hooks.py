"""transship registries hook: where and with which secret a registry sends its events."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.hook_guides import GUIDES, likely_provider


@click.command("hook")
@click.argument("name")
@click.option(
    "--provider", type=click.Choice(sorted(GUIDES)), help="Who sends; else what the URL suggests."
)
@click.option("--rotate", is_flag=True, help="Make a new secret; the one before holds on.")
@click.option("--retire", is_flag=True, help="End the secret before the current one.")
@click.option("--remove", is_flag=True, help="Take no more events of this registry.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder of a `transship up` on this machine; else TRANSSHIP_URL and TRANSSHIP_TOKEN.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def hook(
    name: str,
    provider: str | None,
    rotate: bool,
    retire: bool,
    remove: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Have a registry send its events: print the address, once the secret, and how to configure it."""
    if rotate + retire + remove > 1:
        raise click.UsageError("--rotate, --retire and --remove exclude each other")
    with connect(data) as server:
        path = f"/registries/{quote(name, safe='')}/hook"
        if remove:
            server.ask("DELETE", path)
            click.echo(f"events of {name} are taken no more", err=True)
            return
        kind = provider or likely_provider(
            server.ask("GET", f"/registries/{quote(name, safe='')}")["url"]
        )
        found = _change(server, path, rotate=rotate, retire=retire)
        url = f"{server.url}/hooks/{kind}/{name}"
    if as_json:
        exits.print_json({**found, "provider": kind, "url": url})
        return
    _print(found, kind, url)


def _change(server: Connection, path: str, *, rotate: bool, retire: bool) -> dict[str, Any]:
    found: dict[str, Any]
    if rotate:
        found = server.ask("POST", f"{path}/rotation", {})
    elif retire:
        found = server.ask("DELETE", f"{path}/previous")
    else:
        found = server.ask("PUT", path, {})
        if "secret" not in found:
            found = server.ask("GET", path)
    return found


def _print(found: dict[str, Any], kind: str, url: str) -> None:
    guide = GUIDES[kind]
    secret = found.get("secret", "SECRET")
    click.echo(f"events of   {found['registry']}, as {kind} sends them")
    click.echo(f"address     {url}{f'/{secret}' if guide.in_address else ''}")
    if "secret" in found:
        click.echo(f"secret      {secret}  (shown this once)")
    else:
        click.echo("secret      shown when it was made; --rotate makes another")
    if found["previous"]:
        click.echo("            the one before holds, too: end it by --retire")
    click.echo(f"last event  {found['received_at'] or 'none yet'}")
    if found["notice"]:
        click.echo(f"to do       {found['notice']}")
    address = f"{url}/{secret}" if guide.in_address else url
    click.echo(f"\n{kind}: {guide.steps.format(url=address, secret=secret)}")
    click.echo("\nA sender of your own signs instead of sending the secret: docs/how-to/events.md,")
    click.echo("headers X-Transship-Timestamp and X-Transship-Signature.")
    click.echo("\nRules listen with `trigger: {event: true}`. This server must be reachable from")
    click.echo(
        f"the registry as {url.partition('/hooks/')[0]}; put its public name there if it differs."
    )
