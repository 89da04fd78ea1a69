"""transship migrate by a server: a migration of one wave, from its inventory to the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.options import part
from service.errors import InvalidConfiguration

if TYPE_CHECKING:
    from api.cli.moves import Wanted

WAVE = "all"
LOOK_SECONDS = 0.5
Seen = dict[str, Any]


def move_there(
    wanted: Wanted, source: str, destination: str, name: str | None, timeout: float | None
) -> NoReturn:
    """Have a server move it; ends the process with the exit code."""
    if wanted.local:
        raise click.UsageError("--local needs -f FILE: without a file a server is asked")
    if wanted.on_conflict != "overwrite":
        raise click.UsageError("--on-conflict is with -f: a migration overwrites what differs")
    name = name or f"{source}-to-{destination}"[:40].strip("-._")
    deadline = None if timeout is None else time.monotonic() + timeout
    with connect(wanted.data) as server:
        click.echo(f"transship: engine of {server.url}, migration {name}", err=True)
        path = f"/migrations/{part(name)}"
        server.ask("PUT", path, _document(wanted, source, destination))
        seen = server.ask("POST", f"{path}/inventory")
        seen = _wait(server, path, seen, _surveyed, _survey_words, deadline)
        if seen["inventory"]["state"] != "ended" or wanted.dry_run:
            _end_with_plan(server, path, seen, wanted)
        _refuse_collisions(seen, name)
        seen = server.ask("POST", f"{path}/waves/{WAVE}/start")
        _wait(server, path, seen, _moved, _wave_words, deadline)
        found = server.ask_patiently(f"/reports?{urlencode([('migration', name)])}")
        if wanted.receipt is not None:
            from api.cli.receipts import fetch

            fetch(server, [("migration", name)], wanted.receipt)
    from api.cli.moves import exit_with

    sys.exit(exit_with(found, wanted))


def _document(wanted: Wanted, source: str, destination: str) -> Seen:
    entry: Seen = {"repositories": list(wanted.repositories) or ["**"]}
    if wanted.newest is not None:
        entry["tags"] = {"newest": {"count": wanted.newest, "by": "created"}}
    document: Seen = {"source": source, "destination": destination, "select": [entry]}
    if wanted.template != "{repository}":
        document["namespaces"] = [{"from": "**", "to": wanted.template}]
    return document


def _surveyed(seen: Seen) -> bool:
    return seen["inventory"] is not None and seen["inventory"]["state"] in ("ended", "failed")


def _moved(seen: Seen) -> bool:
    return all(wave["state"] in ("done", "failed") for wave in seen["waves"])


def _survey_words(seen: Seen) -> str:
    look = seen["inventory"] or {"listed": 0, "fleet": {}}
    return f"inventory: {look['listed']} repositories listed, {look['fleet'].get('tags', 0)} tags"


def _wave_words(seen: Seen) -> str:
    progress = seen["waves"][0]["progress"]
    if progress is None:
        return f"wave {WAVE}: {seen['waves'][0]['state']}"
    through = sum(progress[key] for key in ("copied", "unchanged", "skipped", "failed"))
    left = progress["seconds_left"]
    return f"moving: {through} of {through + progress['pending']} tags" + (
        "" if left is None else f", about {left:.0f} s left"
    )


def _wait(
    server: Connection,
    path: str,
    seen: Seen,
    is_over: Callable[[Seen], bool],
    words: Callable[[Seen], str],
    deadline: float | None,
) -> Seen:
    """Look until it is over, and say how far it is; ends the process with exit 3 when the time is up."""
    told = ""
    while not is_over(seen):
        if (now := words(seen)) != told:
            told = now
            click.echo(now, err=True)
        if deadline is not None and time.monotonic() >= deadline:
            click.echo(f"transship: no end in time; {path[1:]} goes on", err=True)
            sys.exit(exits.UNKNOWN)
        time.sleep(LOOK_SECONDS)
        seen = server.ask("GET", path)
    return seen


def _end_with_plan(server: Connection, path: str, seen: Seen, wanted: Wanted) -> NoReturn:
    """Say what the inventory came to, and what is in its way; ends the process."""
    from api.cli.progress import size

    wrong = list(server.items(f"{path}/findings", of="inventory"))
    look = seen["inventory"]
    if wanted.as_json:
        exits.print_json({**seen, "problems": wrong})
    else:
        fleet = look["fleet"]
        click.echo(
            f"{seen['source']} to {seen['destination']}: {fleet.get('repositories', 0)} repositories, "
            f"{fleet.get('tags', 0)} tags, {size(fleet.get('bytes', 0))}, "
            f"{size(fleet.get('unique_bytes', 0))} of it unique"
        )
        for one in wrong:
            what = one["repository"] + (f":{one['tag']}" if one["tag"] else "")
            click.echo(f"problem: {one['kind']}: {what}: {one['reason']}", err=True)
        if look["reason"]:
            click.echo(f"inventory: {look['state']}: {look['reason']}", err=True)
    good = look["state"] == "ended" and not wrong
    sys.exit(exits.AS_THE_RULE_SAYS if good else exits.NOT_AS_THE_RULE_SAYS)


def _refuse_collisions(seen: Seen, name: str) -> None:
    collisions = seen["inventory"]["findings"].get("collision", 0)
    if collisions:
        raise InvalidConfiguration(
            f"{collisions} names at the destination would be written from two names of the source",
            field="--repository",
            hint=f"`transship migrations findings {name}` names them; choose another template",
        )
