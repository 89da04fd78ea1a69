"""Commands that ask a server for regions and the links between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part
from api.cli.progress import size


@click.group()
def regions() -> None:
    """See where registries stand and workers run, and what waits for whom."""


@regions.command("ls")
@DATA
@JSON
def list_regions(data: Path | None, as_json: bool) -> None:
    """List regions by name, those that are merely in use, too.

    QUEUED are messages in Redis, WAITING copies that no worker has taken, OLDEST the age of the oldest
    execution that has one.
    """
    with connect(data) as server:
        tables.show(
            server.items("/regions"),
            as_json,
            (
                ("NAME", lambda r: r["name"]),
                ("JURISDICTION", lambda r: r["effective"].get("jurisdiction")),
                ("WORKERS", _workers),
                ("SLOTS", lambda r: r["workers"]["slots"]),
                ("QUEUED", _queued),
                ("WAITING", lambda r: r["queue"]["waiting"]),
                ("OLDEST", _oldest),
                ("STANDING", lambda r: "" if r["declared"] else "not declared"),
            ),
        )


def _workers(region: dict[str, Any]) -> int | str:
    """Return how many there are; of a region without any, whose work others do, whose they are."""
    if region["workers"]["processes"] or region["served_by"] == region["name"]:
        return int(region["workers"]["processes"])
    return f"of {region['served_by']}"


def _queued(region: dict[str, Any]) -> int | None:
    depths = [region["queue"][name]["depth"] for name in ("urgent", "commit", "copy")]
    return None if None in depths else sum(depths)


def _oldest(region: dict[str, Any]) -> str:
    seconds = region["queue"]["oldest_seconds"]
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


@regions.command("show")
@click.argument("name")
@DATA
def show_region(name: str, data: Path | None) -> None:
    """Print one region as JSON, with its live workers and queues."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/regions/{part(name)}"))


@regions.command("delete")
@click.argument("name")
@DATA
def delete_region(name: str, data: Path | None) -> None:
    """Forget a region that no registry and no link names."""
    with connect(data) as server:
        server.ask("DELETE", f"/regions/{part(name)}")
    click.echo(f"region {name} is forgotten", err=True)


@click.group()
def links() -> None:
    """See what joins regions: bandwidth and cost, one direction each."""


@links.command("ls")
@DATA
@JSON
def list_links(data: Path | None, as_json: bool) -> None:
    """List links by name."""
    with connect(data) as server:
        tables.show(
            server.items("/links"),
            as_json,
            (
                ("NAME", lambda link: link["name"]),
                ("FROM", lambda link: link["from"]),
                ("TO", lambda link: link["to"]),
                ("BANDWIDTH", lambda link: link.get("bandwidth")),
                ("COST PER GIB", lambda link: link.get("cost_per_gib")),
                ("CROSSED", lambda link: size(link["crossed_bytes"])),
            ),
        )


@links.command("show")
@click.argument("name", metavar="FROM:TO")
@DATA
def show_link(name: str, data: Path | None) -> None:
    """Print one link as JSON."""
    with connect(data) as server:
        exits.print_json(server.ask("GET", f"/links/{part(name)}"))


@links.command("delete")
@click.argument("name", metavar="FROM:TO")
@DATA
def delete_link(name: str, data: Path | None) -> None:
    """Forget a link."""
    with connect(data) as server:
        server.ask("DELETE", f"/links/{part(name)}")
    click.echo(f"link {name} is forgotten", err=True)
