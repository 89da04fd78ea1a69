"""transship flows: what a push has set off, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import connect
from api.cli.options import DATA, JSON, part


@click.group()
def flows() -> None:
    """Follow what one execution has set off over chained rules."""


@flows.command("show")
@click.argument("execution")
@DATA
@JSON
def show_flow(execution: str, data: Path | None, as_json: bool) -> None:
    """List the executions of a flow, given any of them, with the seconds from its beginning."""
    with connect(data) as server:
        found = server.ask("GET", f"/flows/{part(execution)}")
    if as_json:
        exits.print_json(found)
        return
    tables.show(
        [{**hop, "flow": flow["id"]} for flow in found["items"] for hop in flow["hops"]],
        as_json=False,
        columns=(
            ("FLOW", lambda h: h["flow"]),
            ("EXECUTION", lambda h: h["execution"]),
            ("RULE", lambda h: h["rule"]),
            ("WAY", _way),
            ("STATE", lambda h: h["state"]),
            ("SECONDS", lambda h: "" if h["seconds"] is None else f"{h['seconds']:.1f}"),
        ),
    )


def _way(hop: dict[str, Any]) -> str:
    return f"{hop['source']} -> {', '.join(hop['destinations']) or '(nothing copied)'}"
