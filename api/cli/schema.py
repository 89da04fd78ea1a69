"""transship schema: what an editor needs to check transship.yaml while it is written."""

from __future__ import annotations

import click

from api.cli import exits


@click.command()
def schema() -> None:
    """Print the JSON Schema of transship.yaml."""
    from api.openapi import config_schema

    exits.print_json(config_schema())
