"""The schema: transship db upgrade, transship db check."""

from __future__ import annotations

import click

from service.settings import Settings


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
def upgrade() -> None:
    """Create the tables, or bring them to this version."""
    from service.bootstrap import open_services
    from service.store.schema import HEAD, create_or_upgrade

    services = open_services(Settings.from_env(), check=False)
    create_or_upgrade(services.database)
    services.close()
    click.echo(f"the database is at revision {HEAD}")


@db.command()
def check() -> None:
    """Say whether the database is at this version; exit 2 when it is not."""
    from service.bootstrap import open_services
    from service.store.schema import HEAD

    open_services(Settings.from_env()).close()
    click.echo(f"the database is at revision {HEAD}")
