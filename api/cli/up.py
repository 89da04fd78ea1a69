"""transship up: the whole service on one machine."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from api.engine.up import Addresses, Up


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Directory of the database, the keys, the admin token and the logs.",
)
@click.option("--listen", default="127.0.0.1:8470", show_default=True, help="Of API and console.")
@click.option("--flower-listen", default="127.0.0.1:5555", show_default=True, help="Of Flower.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True)
def up(data: Path, listen: str, flower_listen: str, workers: int) -> None:
    """Run API, console, scheduler, workers, Redis, SQLite and Flower on this machine."""
    stopped = wait_for_signal()
    engine = Up(data, listen=listen, flower_listen=flower_listen, workers=workers)
    try:
        tell(engine.start())
        click.echo("press Ctrl-C to stop", err=True)
        stopped.wait()
        click.echo("stopping: running copies get a moment to finish", err=True)
    finally:
        engine.stop()


def wait_for_signal() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: event.set())
    return event


def tell(addresses: Addresses) -> None:
    """Print where everything is."""
    click.echo(f"console and API  {addresses.api}/")
    click.echo(f"OpenAPI          {addresses.api}/openapi.json")
    click.echo(f"Flower           {addresses.flower}/  (user admin, the token is the password)")
    click.echo(f"admin token      {addresses.token_file}")
    click.echo(f"data and logs    {addresses.data}")
