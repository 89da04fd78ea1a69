"""transship release: stage a set of images everywhere, flip all of their tags at once, and back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from api.cli import exits, tables
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, SECONDS, part

LOOK_SECONDS = 0.25
WORKING = frozenset(
    {
        "resolving",
        "staging",
        "proving",
        "preparing",
        "flipping",
        "checking",
        "setting_back",
        "rolling_back",
    }
)
NO_WAIT = click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
TIMEOUT = click.option(
    "--timeout", type=SECONDS, help="How long to wait: 30s, 5m; then exit 3, and the work goes on."
)


@click.group()
def release() -> None:
    """Stage images at all destinations of a rule by digest, then flip all of their tags in one pass.

    No sync moves a tag of a release until it is deleted.
    """


@release.command("create")
@click.argument("name")
@click.option("--rule", required=True, help="Whose source, destinations and names it has.")
@click.option(
    "--image",
    "images",
    multiple=True,
    help="REPOSITORY:TAG[@DIGEST] or REPOSITORY@DIGEST; may be repeated. Without one: all that the "
    "rule takes.",
)
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def create_release(
    name: str,
    rule: str,
    images: tuple[str, ...],
    no_wait: bool,
    timeout: float | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Copy images to every destination by digest, and prove them there; no tag moves yet."""
    body: dict[str, Any] = {"name": name, "rule": rule}
    body |= {"images": list(images)} if images else {}
    with connect(data) as server:
        made = server.ask("POST", "/releases", body)
        _follow(server, made, "staged", no_wait=no_wait, timeout=timeout, as_json=as_json)


@release.command("list")
@click.option("--rule", help="Only those of this rule.")
@DATA
@JSON
def list_releases(rule: str | None, data: Path | None, as_json: bool) -> None:
    """List releases by name."""
    query = {"rule": rule} if rule else {}
    with connect(data) as server:
        tables.show(
            server.items("/releases", **query),
            as_json,
            (
                ("NAME", lambda r: r["name"]),
                ("STATE", lambda r: r["state"]),
                ("RULE", lambda r: r["rule"]),
                ("IMAGES", lambda r: r["images"]),
                ("TAGS", lambda r: sum(r["tags"].values())),
                ("WINDOW", _window),
                ("CHANGED", lambda r: r["changed_at"]),
                ("REASON", lambda r: r["reason"]),
            ),
        )


@release.command("show")
@click.argument("name")
@DATA
@JSON
def show_release(name: str, data: Path | None, as_json: bool) -> None:
    """Print a release with each of its tags at each destination, and what it was before."""
    with connect(data) as server:
        found = server.ask("GET", f"/releases/{part(name)}")
        tags = list(server.items(f"/releases/{part(name)}/tags"))
    if as_json:
        exits.print_json({**found, "items": tags})
        return
    click.echo(_told(found), err=True)
    tables.show(
        tags,
        as_json=False,
        columns=(
            ("REGISTRY", lambda t: t["registry"]),
            ("NAME", lambda t: t["repository"] + (f":{t['tag']}" if t["tag"] else "")),
            ("DIGEST", lambda t: _short(t["digest"])),
            ("BEFORE", lambda t: _before(t["previous"])),
            ("STATE", lambda t: t["state"]),
            ("REASON", lambda t: t["reason"]),
        ),
    )


@release.command("stage")
@click.argument("name")
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def stage_release(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Copy and prove a release's images again, after that has failed."""
    _act(name, "stage", "staged", data, no_wait=no_wait, timeout=timeout, as_json=as_json)


@release.command("flip")
@click.argument("name")
@NO_WAIT
@TIMEOUT
@DATA
@JSON
def flip_release(
    name: str, no_wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Move all tags of a staged release in one pass; when one cannot be moved, all are set back."""
    _act(name, "flip", "flipped", data, no_wait=no_wait, timeout=timeout, as_json=as_json)


@release.command("rollback")
@click.argument("name")
@NO_WAIT
@TIMEOUT
@DATA
@JSON
@click.option(
    "--force", is_flag=True, help="Do not look first whether all can go back: take what can be got."
)
def roll_release_back(
    name: str,
    no_wait: bool,
    timeout: float | None,
    data: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Give all tags of a flipped release the digests that they had before.

    It looks first whether these are still there, in all regions; where one is not, nothing moves.
    """
    _act(
        name,
        "rollback",
        "rolled_back",
        data,
        no_wait=no_wait,
        timeout=timeout,
        as_json=as_json,
        body={"force": True} if force else None,
    )


@release.command("delete")
@click.argument("name")
@DATA
def delete_release(name: str, data: Path | None) -> None:
    """Forget a release, and let its rule move its tags again."""
    with connect(data) as server:
        server.ask("DELETE", f"/releases/{part(name)}")
    click.echo(f"release {name} is forgotten; its tags are the rule's again", err=True)


def _act(
    name: str,
    action: str,
    wanted: str,
    data: Path | None,
    *,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
    body: dict[str, Any] | None = None,
) -> None:
    with connect(data) as server:
        begun = server.ask("POST", f"/releases/{part(name)}/{action}", body)
        _follow(server, begun, wanted, no_wait=no_wait, timeout=timeout, as_json=as_json)


def _follow(
    server: Connection,
    found: dict[str, Any],
    wanted: str,
    *,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Say where a release is until it is at rest; ends the process with the code of what it came to."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    while found["state"] in WORKING and not no_wait:
        words = _progress(server, found)
        if words != told:
            told = words
            click.echo(words, err=True)
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(LOOK_SECONDS)
        found = server.ask("GET", f"/releases/{part(found['name'])}")
    if as_json:
        exits.print_json(found)
    else:
        click.echo(_told(found), err=True)
    if found["state"] in WORKING:
        sys.exit(exits.AS_THE_RULE_SAYS if no_wait else exits.UNKNOWN)
    sys.exit(exits.AS_THE_RULE_SAYS if found["state"] == wanted else exits.NOT_AS_THE_RULE_SAYS)


def _progress(server: Connection, found: dict[str, Any]) -> str:
    """Say what a release is at, and how many of its copies are through while it is staged."""
    words = f"{found['state'].replace('_', ' ')} ..."
    if found["state"] != "staging" or not found["execution"]:
        return words
    copies = server.ask("GET", f"/executions/{part(found['execution'])}")["copies"]
    total = sum(copies.values())
    return f"staging {total - copies['pending']} of {total} copies ..." if total else words


def _told(found: dict[str, Any]) -> str:
    """Say in one line what a release has come to."""
    tags = ", ".join(f"{count} {state}" for state, count in sorted(found["tags"].items()))
    window = _window(found)
    words = [f"release {found['name']} is {found['state'].replace('_', ' ')}"]
    words += [f"tags: {tags}"] if tags else []
    words += [f"window: {window}"] if window else []
    words += [found["reason"]] if found["reason"] else []
    return "; ".join(words)


def _window(found: dict[str, Any]) -> str:
    seconds = found["window_seconds"]
    return "" if seconds is None else f"{seconds:g} s"


def _short(digest: str) -> str:
    return digest[:19]


def _before(previous: str | None) -> str:
    if previous is None:
        return ""
    return _short(previous) if previous else "not there"
