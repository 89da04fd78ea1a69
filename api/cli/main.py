"""The transship command: loads only the command that is called, and turns errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import traceback
from keyword import iskeyword
from pathlib import Path
from typing import Any

import click

from api.cli import exits
from service.errors import TransshipError

COMMANDS = {
    "copy": "api.cli.jobs",
    "sync": "api.cli.jobs",
    "plan": "api.cli.looking",
    "verify": "api.cli.looking",
    "validate": "api.cli.jobs",
    "import": "api.cli.importing",
    "schema": "api.cli.schema",
    "up": "api.cli.up",
    "demo": "api.cli.demo",
    "worker": "api.cli.processes",
    "scheduler": "api.cli.processes",
    "api": "api.cli.processes",
    "flower": "api.cli.processes",
    "gateway": "api.cli.gateway",
    "pull-tokens": "api.cli.gateway",
    "db": "api.cli.database",
    "tokens": "api.cli.server",
    "registries": "api.cli.server",
    "rules": "api.cli.server",
    "executions": "api.cli.runs",
    "migrate": "api.cli.migrating",
    "receipts": "api.cli.receipts",
    "report": "api.cli.reporting",
    "flows": "api.cli.flows",
    "deletions": "api.cli.deletions",
    "release": "api.cli.release",
    "replicas": "api.cli.replicas",
    "migrations": "api.cli.migrations",
    "pipelines": "api.cli.pipelines",
    "promote": "api.cli.pipelines",
    "promotions": "api.cli.pipelines",
    "apply": "api.cli.declare",
    "diff": "api.cli.declare",
    "export": "api.cli.declare",
    "regions": "api.cli.regions",
    "links": "api.cli.regions",
    "projects": "api.cli.governance",
    "secrets": "api.cli.governance",
    "webhooks": "api.cli.governance",
    "audit": "api.cli.governance",
    "where": "api.cli.locating",
    "wait": "api.cli.locating",
    "doctor": "api.cli.doctor",
    "check-config": "api.cli.check_config",
    "completion": "api.cli.completion",
}


GARBAGE = 20_000
"""Objects between two looks for garbage. What a start loads is none: looking at it 200 times takes 50 ms."""


class Lazy(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        del ctx
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        attribute = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one gets a hint."""
        if args and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="transship", prog_name="transship")
def cli() -> None:
    """Replicate container images and other OCI artifacts between registries."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; ends in SystemExit with one of the codes of api.cli.exits.

    As the program itself (without `arguments`) it ends the process at once: taking 500 modules down
    takes 30 ms, and a finished command has closed what it opened.
    """
    gc.set_threshold(GARBAGE)
    try:
        _run(arguments)
    except SystemExit as end:
        if arguments is None and _nothing_runs():
            _leave(end)
        raise


def _nothing_runs() -> bool:
    return all(one.daemon or one is threading.main_thread() for one in threading.enumerate())


def _leave(end: SystemExit) -> None:
    """End the process with a SystemExit's code, unless it is one that Python explains."""
    if end.code is None or isinstance(end.code, int):
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # Python's own end says what is wrong
        os._exit(end.code or 0)


def _run(arguments: list[str] | None) -> None:
    try:
        cli.main(args=arguments, prog_name="transship", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(exits.REFUSED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(exits.INTERRUPTED)
    except TransshipError as error:
        exits.tell(error)
        sys.exit(exits.of_error(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)
    except Exception as error:  # noqa: BLE001 - the last net below a command
        where = traceback.extract_tb(error.__traceback__)[-1]
        click.echo(
            f"transship: {type(error).__name__}: {error}\n"
            f"  this is a fault in Transship, at {Path(where.filename).name}:{where.lineno}; "
            "please report it",
            err=True,
        )
        sys.exit(exits.UNKNOWN)
    sys.exit(0)
