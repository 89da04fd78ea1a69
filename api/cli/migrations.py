"""transship migrations: move a fleet from one registry to another one in waves, and prove it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

from api.cli import exits, tables
from api.cli.connection import Connection, connect
from api.cli.migration_words import size_of, tell, tell_findings, wave_words
from api.cli.options import DATA, JSON, SECONDS, part
from service.errors import InvalidConfiguration

LOOK_SECONDS = 0.5
NO_WAIT = click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
TIMEOUT = click.option(
    "--timeout", type=SECONDS, help="How long to wait: 30s, 5m; then exit 3, and the work goes on."
)
NAME = click.argument("name")


@click.group()
def migrations() -> None:
    """Move a fleet: see what there is, move it in waves, freeze, move the rest, prove the cut-over."""


@migrations.command("ls")
@DATA
@JSON
def list_migrations(data: Path | None, as_json: bool) -> None:
    """List migrations by name."""
    with connect(data) as server:
        tables.show(
            server.items("/migrations"),
            as_json,
            (
                ("NAME", lambda m: m["name"]),
                ("STATE", lambda m: m["state"]),
                ("SOURCE", lambda m: m["source"]),
                ("DESTINATION", lambda m: m["destination"]),
                ("WAVES", lambda m: len(m["waves"])),
                ("DONE", lambda m: sum(w["state"] == "done" for w in m["waves"])),
            ),
        )


migrations.add_command(list_migrations, "list")


@migrations.command("put")
@NAME
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Its document in YAML or JSON: source, destination, select, namespaces, waves, ...",
)
@DATA
@JSON
def put_migration(name: str, path: Path, data: Path | None, as_json: bool) -> None:
    """Create or replace a migration; nothing is asked of a registry yet."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path} is no YAML: {error}", field=str(path)) from error
    with connect(data) as server:
        tell(server.ask("PUT", f"/migrations/{part(name)}", document), as_json=as_json)


@migrations.command("show")
@NAME
@DATA
@JSON
def show_migration(name: str, data: Path | None, as_json: bool) -> None:
    """Show where a migration and each of its waves stand, with the time that is left."""
    with connect(data) as server:
        tell(server.ask("GET", _path(name)), as_json=as_json)


@migrations.command("plan")
@NAME
@DATA
@JSON
def plan_migration(name: str, data: Path | None, as_json: bool) -> None:
    """Show what would move in which wave, and what is in its way; exit code 1 where something is.

    It is what the newest inventory says: take one first.
    """
    with connect(data) as server:
        found = server.ask("GET", _path(name))
        repositories = list(server.items(f"{_path(name)}/repositories"))
        wrong = list(server.items(f"{_path(name)}/findings", of="inventory"))
    if as_json:
        exits.print_json({**found, "repositories": repositories, "problems": wrong})
    else:
        tell(found, as_json=False)
        tables.show(
            repositories,
            as_json=False,
            columns=(
                ("REPOSITORY", lambda r: r["repository"]),
                ("WAVE", lambda r: r["wave"] or ""),
                ("TAGS", lambda r: r["tags"]),
                ("BYTES", lambda r: size_of(r["bytes"])),
                ("UNIQUE", lambda r: size_of(r["unique_bytes"])),
            ),
        )
        tell_findings(wrong, as_json=False)
    if wrong or not found["inventory"] or found["inventory"]["state"] != "ended":
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)


@migrations.command("inventory")
@NAME
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def take_inventory(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Look at what there is: repositories, tags, bytes, bytes that are unique; and deal it out to the waves."""
    _survey(name, "inventory", "inventory", data, no_wait, timeout, as_json)


@migrations.command("freeze")
@NAME
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def freeze_migration(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Note what every tag of the source names now, to be proved in the end; nobody should push from here on."""
    _survey(name, "freeze", "freeze", data, no_wait, timeout, as_json)


@migrations.command("prove")
@NAME
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def prove_migration(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Prove the cut-over: each frozen tag by its final name, to its last blob; exit code 1 where it is refused.

    What was pushed to the source after the freeze refuses it, too: freeze again, and move the delta.
    """
    _survey(name, "prove", "proof", data, no_wait, timeout, as_json)


@migrations.command("start")
@NAME
@click.argument("wave")
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def start_wave(
    name: str, wave: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Start a wave, or start it again after it has failed; the waves before it have to have ended."""
    with connect(data) as server:
        found = server.ask("POST", f"{_path(name)}/waves/{part(wave)}/start")
        _follow_waves(server, found, [wave], no_wait, timeout, as_json)


@migrations.command("delta")
@NAME
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def run_delta(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Run every wave once more after the freeze, for what has changed since."""
    with connect(data) as server:
        found = server.ask("POST", f"{_path(name)}/delta")
        waves = [wave["name"] for wave in found["waves"]]
        _follow_waves(server, found, waves, no_wait, timeout, as_json)


@migrations.command("pause")
@NAME
@DATA
@JSON
def pause_migration(name: str, data: Path | None, as_json: bool) -> None:
    """Pause a migration: within five seconds it sends no request to either registry."""
    with connect(data) as server:
        tell(server.ask("POST", f"{_path(name)}/pause"), as_json=as_json)


@migrations.command("resume")
@NAME
@DATA
@JSON
def resume_migration(name: str, data: Path | None, as_json: bool) -> None:
    """Go on with a migration where it stood."""
    with connect(data) as server:
        tell(server.ask("POST", f"{_path(name)}/resume"), as_json=as_json)


@migrations.command("findings")
@NAME
@click.option(
    "--of",
    "kind",
    type=click.Choice(["inventory", "freeze", "proof"]),
    help="Of which look; the newest one when left out.",
)
@DATA
@JSON
def list_findings(name: str, kind: str | None, data: Path | None, as_json: bool) -> None:
    """List what a look has found wrong; exit code 1 where there is something."""
    with connect(data) as server:
        found = list(server.items(f"{_path(name)}/findings", **({"of": kind} if kind else {})))
    tell_findings(found, as_json=as_json)
    if found:
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)


@migrations.command("rollback-list")
@NAME
@DATA
@JSON
def list_rollback(name: str, data: Path | None, as_json: bool) -> None:
    """List what stood under each name at the destination before the migration wrote there."""
    with connect(data) as server:
        tables.show(
            server.items(f"{_path(name)}/rollback"),
            as_json,
            (
                ("NAME", lambda b: f"{b['repository']}:{b['tag']}"),
                ("BEFORE", lambda b: b["before"] or "absent"),
                ("WRITTEN", lambda b: b["written"] or ""),
            ),
        )


@migrations.command("delete")
@NAME
@DATA
def delete_migration(name: str, data: Path | None) -> None:
    """Forget a migration and its rules; what it wrote stays."""
    with connect(data) as server:
        server.ask("DELETE", _path(name))
    click.echo(f"migration {name} is forgotten; what it wrote stays", err=True)


# ---- waiting -------------------------------------------------------------------------------------


def _survey(
    name: str,
    action: str,
    kind: str,
    data: Path | None,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Have a look taken, and say what it came to; ends the process with its exit code."""
    with connect(data) as server:
        found = server.ask("POST", f"{_path(name)}/{action}")
        found, late = _wait(
            server,
            found,
            lambda m: m[kind]["state"] in ("ended", "failed"),
            lambda m: (
                f"{kind}: {m[kind]['listed']} of {m[kind]['fleet'].get('repositories', 0)}"
                f" repositories, {m[kind]['fleet'].get('tags', 0)} tags"
            ),
            no_wait,
            timeout,
        )
        ended = found[kind]["state"] == "ended"
        wrong = list(server.items(f"{_path(name)}/findings", of=kind)) if ended else []
    if as_json:
        exits.print_json({**found, "findings": wrong})
    else:
        tell(found, as_json=False)
        tell_findings(wrong, as_json=False)
    if late or no_wait:
        sys.exit(exits.UNKNOWN if late else exits.AS_THE_RULE_SAYS)
    good = found["proved"] if kind == "proof" else ended and not wrong
    sys.exit(exits.AS_THE_RULE_SAYS if good else exits.NOT_AS_THE_RULE_SAYS)


def _follow_waves(
    server: Connection,
    found: dict[str, Any],
    names: list[str],
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Say how far waves are until they have ended; ends the process with what they came to."""

    def mine(one: dict[str, Any]) -> list[dict[str, Any]]:
        return [wave for wave in one["waves"] if wave["name"] in names]

    found, late = _wait(
        server,
        found,
        lambda m: all(wave["state"] in ("done", "failed") for wave in mine(m)),
        lambda m: "; ".join(wave_words(wave) for wave in mine(m)),
        no_wait,
        timeout,
    )
    tell(found, as_json=as_json)
    if late or no_wait:
        sys.exit(exits.UNKNOWN if late else exits.AS_THE_RULE_SAYS)
    good = all(wave["state"] == "done" for wave in mine(found))
    sys.exit(exits.AS_THE_RULE_SAYS if good else exits.NOT_AS_THE_RULE_SAYS)


def _wait(
    server: Connection,
    found: dict[str, Any],
    is_over: Any,
    words: Any,
    no_wait: bool,
    timeout: float | None,
) -> tuple[dict[str, Any], bool]:
    """Look until it is over; returns the migration then, and whether the time ran out before."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    while not no_wait and not is_over(found):
        if (now := words(found)) != told:
            told = now
            click.echo(now, err=True)
        if deadline is not None and time.monotonic() >= deadline:
            return found, True
        time.sleep(LOOK_SECONDS)
        found = server.ask("GET", _path(found["name"]))
    return found, False


def _path(name: str) -> str:
    return f"/migrations/{part(name)}"
