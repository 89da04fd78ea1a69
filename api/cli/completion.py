"""transship completion: what a shell needs to complete our commands."""

from __future__ import annotations

import click

from service.errors import EngineError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: `source <(transship completion bash)`."""
    from click.shell_completion import get_completion_class

    from api.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise EngineError(f"there is no completion for {shell}")
    click.echo(found(cli, {}, "transship", "_TRANSSHIP_COMPLETE").source())
