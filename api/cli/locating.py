"""transship where and wait: where an image is, and the gate before a deployment."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from api.cli import exits, tables
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, SECONDS
from service.errors import InvalidInput, NetworkError, ServerError

LOOK_SECONDS = 1.0
NEVER = frozenset({"not wanted"})
"""States of a registry that no waiting changes."""


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--source", help="The registry that REF is of, when several rules take its name.")
@click.option("--in", "places", multiple=True, help="A registry or group; may be repeated.")
@click.option("--prove", is_flag=True, help="Ask the registries, down to a byte of every blob.")
@DATA
@JSON
def where(
    reference: str,
    source: str | None,
    places: tuple[str, ...],
    prove: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Say where an image is: one row a registry, whole, copying, stale, hole, blocked, and why.

    REF is [REGISTRY/]REPOSITORY:TAG[@DIGEST], as the source names it.
    """
    with connect(data) as server:
        found = _locations(server, reference, source, places, prove=prove)
    if as_json:
        exits.print_json(found)
        return
    tables.show(
        found["locations"],
        False,
        [
            ("REGISTRY", lambda row: row["registry"]),
            ("STATE", lambda row: row["state"]),
            ("NAME THERE", _name_there),
            ("WHY", lambda row: row["why"]),
        ],
    )


def _name_there(row: dict[str, Any]) -> str:
    if not row["repository"]:
        return ""
    separator = "@" if ":" in row["reference"] else ":"
    return f"{row['repository']}{separator}{row['reference']}"


@click.command()
@click.argument("reference", metavar="REF[@DIGEST]")
@click.option(
    "--in", "places", multiple=True, required=True, help="A registry or group; may be repeated."
)
@click.option("--source", help="The registry that REF is of, when several rules take its name.")
@click.option(
    "--timeout",
    type=SECONDS,
    default="5m",
    show_default=True,
    help="How long to wait: 30s, 5m, 1h.",
)
@DATA
@JSON
def wait(
    reference: str,
    places: tuple[str, ...],
    source: str | None,
    timeout: float,
    data: Path | None,
    as_json: bool,
) -> None:
    """Wait until every named registry serves an image whole: the gate before a deployment.

    Exit code 0: each one does, and was asked; 1: one cannot without somebody's help; 3: the time
    ran out, and the work goes on.
    """
    deadline = time.monotonic() + timeout
    last = ""
    with connect(data) as server:
        while True:
            found = _asked(server, reference, source, places)
            rows = found["locations"]
            line = ", ".join(f"{row['registry']} {row['state']}" for row in rows)
            if line != last:
                last = line
                click.echo(line, err=True)
            code = _verdict(rows)
            if code is None and time.monotonic() >= deadline:
                code = exits.UNKNOWN
            if code is not None:
                break
            time.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        sources = _sources(server, rows)
    if as_json:
        exits.print_json(found)
    for row in rows:
        if row["state"] not in {"whole", "source"}:
            why = sources.get(row["registry"], row["why"])
            click.echo(f"{row['registry']}: {row['state']}: {why}", err=True)
    sys.exit(code)


def _sources(server: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what to say of the registries that are only where a rule's images come from."""
    asked = {row["registry"] for row in rows if row["state"] in NEVER}
    rules: dict[str, str] = {}
    for rule in server.items("/rules") if asked else ():
        rules.setdefault(rule["effective"]["source"], rule["name"])
    return {
        name: f"it is the source of rule {rules[name]}, and nothing brings images there: name where "
        f"they go with --in, or add --source {name} to wait for it there"
        for name in asked & set(rules)
    }


def _asked(
    server: Connection, reference: str, source: str | None, places: Sequence[str]
) -> dict[str, Any]:
    """Look in SQL first; ask the registries when that leaves anything to ask them for."""
    known = _locations(server, reference, source, places, prove=False)
    if all(row["state"] in {"copying", *NEVER} for row in known["locations"]):
        return known
    return _locations(server, reference, source, places, prove=True)


def _verdict(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the exit code, or None while waiting may help."""
    states = [row["state"] for row in rows]
    if all(state in {"whole", "source"} for state in states):
        return exits.AS_THE_RULE_SAYS
    if any(state in NEVER or state in {"blocked", "hole"} for state in states):
        return exits.NOT_AS_THE_RULE_SAYS
    return None


def _locations(
    server: Connection,
    reference: str,
    source: str | None,
    places: Sequence[str],
    *,
    prove: bool,
) -> dict[str, Any]:
    registry, repository, name, digest = _parse(reference)
    if registry and source is None and _is_registry(server, registry):
        source = registry
    elif registry:
        repository = f"{registry}/{repository}"
    pairs = [("source", source), ("digest", digest), ("prove", "true" if prove else None)]
    query = [(key, value) for key, value in pairs if value]
    query += [("in", place) for place in places]
    path = f"/images/{quote(repository)}/{quote(name, safe=':')}/locations"
    found: dict[str, Any] = server.ask("GET", f"{path}?{urlencode(query)}")
    return found


def _parse(text: str) -> tuple[str, str, str, str]:
    """Return the first part, the other parts, tag or digest, and the digest that is wanted."""
    rest, _, digest = text.partition("@")
    path, _, tag = rest.rpartition(":") if ":" in rest.rpartition("/")[2] else (rest, "", "")
    if not path or not (tag or digest):
        raise InvalidInput(
            f"{text[:200]!r} names no image", hint="write REPOSITORY:TAG, or REPOSITORY@sha256:..."
        )
    first, _, others = path.partition("/")
    if not others:
        first, others = "", first
    return first, others, tag or digest, digest if tag else ""


def _is_registry(server: Connection, name: str) -> bool:
    try:
        server.ask("GET", f"/registries/{quote(name, safe='')}")
    except (NetworkError, ServerError):
        raise
    except InvalidInput:
        return False
    return True
