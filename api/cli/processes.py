"""One process each, for a fleet: worker, scheduler, api, flower. Settings come from the environment."""

from __future__ import annotations

import os
import sys

import click


def become(module: str, *words: str) -> None:
    """Turn this process into another of ours: its pid is the one that a supervisor knows."""
    os.execv(sys.executable, [sys.executable, "-m", module, *words])  # noqa: S606 - our own module


@click.command()
@click.option("--region", envvar="TRANSSHIP_REGION", default="local", show_default=True)
@click.option("--urgent", is_flag=True, help="Only what is urgent, and commits: slots kept free.")
def worker(region: str, urgent: bool) -> None:
    """Copy for one region until SIGTERM."""
    become("workers.main", "worker", "--region", region, *(["--urgent"] if urgent else []))


@click.command()
def scheduler() -> None:
    """Start due rules, send work, find what nobody holds."""
    become("workers.main", "scheduler")


@click.command()
def api() -> None:
    """Serve the API and the console on TRANSSHIP_LISTEN."""
    become("api.serve")


@click.command()
def flower() -> None:
    """Serve Flower, read-only, on TRANSSHIP_FLOWER_LISTEN."""
    become("workers.flower")
