"""transship gateway, and the tokens that its clients log in with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part
from api.cli.processes import become
from api.engine.data_dir import DataDir


@click.command()
@click.option(
    "-f", "--file", "path", envvar="TRANSSHIP_GATEWAY_FILE", required=True, type=click.Path(),
    help="transship.yaml whose `gateway:` says what is served.",
)  # fmt: skip
@click.option("--region", envvar="TRANSSHIP_REGION", default="local", show_default=True)
@click.option(
    "--listen", envvar="TRANSSHIP_GATEWAY_LISTEN", default="127.0.0.1:8480", show_default=True,
    metavar="HOST:PORT",
)  # fmt: skip
@click.option(
    "--dir", "folder", envvar="TRANSSHIP_GATEWAY_DIR", type=click.Path(file_okay=False),
    help="Folder of its own: what it knows, and blobs that it keeps.",
)  # fmt: skip
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data folder of a `transship up` on this machine, whose registries and rules it serves by.",
)
def gateway(path: str, region: str, listen: str, folder: str | None, data: Path | None) -> None:
    """Serve images under one name from the nearest registry that has them, until SIGTERM."""
    if data is not None:
        engine = DataDir(data)
        os.environ["TRANSSHIP_DATABASE_URL"] = engine.database_url
        os.environ["TRANSSHIP_SECRET_KEY_FILE"] = str(engine.key_file)
        folder = folder or str(engine.path / "gateway")
    if folder:
        os.environ["TRANSSHIP_GATEWAY_DIR"] = folder
    os.environ["TRANSSHIP_GATEWAY_FILE"] = path
    os.environ["TRANSSHIP_REGION"] = region
    os.environ["TRANSSHIP_GATEWAY_LISTEN"] = listen
    become("api.gateway.main")


@click.group()
def pull_tokens() -> None:
    """See to the tokens that clients of gateways log in with."""


@pull_tokens.command("create")
@click.argument("name")
@click.option(
    "--repository", "repositories", multiple=True, required=True, metavar="GLOB",
    help="Names at the gateway that it may pull, such as team-a/**; may be repeated.",
)  # fmt: skip
@click.option("--expires-in", metavar="DURATION", help="30d, 12h; without it, it never expires.")
@DATA
@JSON
def create_pull_token(
    name: str,
    repositories: tuple[str, ...],
    expires_in: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print its text, which is shown once: `docker login` takes it as the password."""
    wanted: dict[str, object] = {"name": name, "repositories": list(repositories)}
    if expires_in is not None:
        wanted["expires_in"] = expires_in
    with connect(data) as server:
        made = server.ask("POST", "/pull-tokens", wanted)
    if as_json:
        exits.print_json(made)
    else:
        click.echo(made["token"])


@pull_tokens.command("ls")
@DATA
@JSON
def list_pull_tokens(data: Path | None, as_json: bool) -> None:
    """List pull tokens by name, revoked and expired ones too; never their texts."""
    with connect(data) as server:
        tables.show(
            server.items("/pull-tokens"),
            as_json,
            (
                ("NAME", lambda t: t["name"]),
                ("REPOSITORIES", lambda t: t["repositories"]),
                ("EXPIRES", lambda t: t["expires_at"] or ""),
                ("REVOKED", lambda t: t["revoked_at"] or ""),
            ),
        )


@pull_tokens.command("revoke")
@click.argument("name")
@DATA
@JSON
def revoke_pull_token(name: str, data: Path | None, as_json: bool) -> None:
    """End a token's life: gateways that reach the database refuse it within 5 s."""
    path = f"/pull-tokens/{part(name)}"
    with connect(data) as server:
        server.ask("DELETE", path)
        if as_json:
            exits.print_json(server.ask("GET", path))
    click.echo(f"pull token {name} is revoked", err=True)
