"""What the migrations commands print."""

from __future__ import annotations

from typing import Any

import click

from api.cli import exits, tables
from api.cli.progress import size


def tell(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a migration with its waves."""
    if as_json:
        exits.print_json(found)
        return
    way = f"{found['source']} to {found['destination']}"
    click.echo(f"migration {found['name']}, {way}: {found['state']}", err=True)
    for kind in ("inventory", "freeze", "proof"):
        if found[kind]:
            click.echo(_look_words(kind, found[kind]), err=True)
    tables.show(
        found["waves"],
        as_json=False,
        columns=(
            ("WAVE", lambda w: w["name"]),
            ("STATE", lambda w: w["state"]),
            ("REPOSITORIES", lambda w: w["fleet"].get("repositories", "")),
            ("TAGS", lambda w: w["fleet"].get("tags", "")),
            ("UNIQUE", lambda w: size_of(w["fleet"].get("unique_bytes"))),
            ("COPIED", lambda w: size_of((w["progress"] or {}).get("bytes_copied"))),
            ("LEFT", lambda w: _left(w["progress"])),
            ("EXECUTION", lambda w: w["execution"] or ""),
            ("REASON", lambda w: w["reason"]),
        ),
    )


def _look_words(kind: str, look: dict[str, Any]) -> str:
    fleet = look["fleet"]
    wrong = ", ".join(f"{count} {name}" for name, count in sorted(look["findings"].items()))
    words = [f"{kind}: {look['state']}"]
    words += [f"{fleet['repositories']} repositories"] if fleet.get("repositories") else []
    words += [f"{fleet['tags']} tags"] if "tags" in fleet else []
    if fleet.get("unique_bytes"):
        words += [f"{size_of(fleet['bytes'])}, {size_of(fleet['unique_bytes'])} of it unique"]
    words += [f"found: {wrong}"] if wrong else []
    words += [look["reason"]] if look["reason"] else []
    return ", ".join(words)


def wave_words(wave: dict[str, Any]) -> str:
    """Say how far a wave is."""
    progress = wave["progress"]
    if progress is None:
        return f"wave {wave['name']} {wave['state']}"
    through = sum(progress[key] for key in ("copied", "unchanged", "skipped", "failed"))
    left = _left(progress)
    return (
        f"wave {wave['name']} {wave['state']}: {through} of {through + progress['pending']} tags, "
        f"{size_of(progress['bytes_copied'])}{f', {left} left' if left else ''}"
    )


def _left(progress: dict[str, Any] | None) -> str:
    if progress is None or progress["seconds_left"] is None:
        return ""
    seconds: float = progress["seconds_left"]
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"


def size_of(count: int | None) -> str:
    """Return bytes as people read them; nothing where they are not known."""
    return "" if count is None else size(count)


def tell_findings(found: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print what a look has found wrong."""
    if not found and not as_json:
        return
    tables.show(
        found,
        as_json,
        (
            ("KIND", lambda f: f["kind"]),
            ("NAME", lambda f: f["repository"] + (f":{f['tag']}" if f["tag"] else "")),
            ("NAME THERE", lambda f: f["destination"] or ""),
            ("REASON", lambda f: f["reason"]),
        ),
    )
