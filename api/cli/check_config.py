"""transship check-config: whether this environment is fit for a fleet."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from api.cli.options import JSON

MARKS = {"ok": "ok      ", "warning": "warning ", "refused": "REFUSED "}


@click.command("check-config")
@JSON
def check_config(as_json: bool) -> None:
    """Judge what TRANSSHIP_* variables say, the Redis and the database: whether they are fit for a fleet.

    Refuses weak or open secrets, a Redis that anybody may write to or that throws keys away, a database that
    answers before it has written, and switches of tests. Writes nothing. Exit codes: 0 nothing is refused,
    1 something is.
    """
    from service.replication.check_config import REFUSED
    from service.replication.check_config import check_config as look
    from service.settings import Settings

    found = look(Settings.from_env())
    refused = [one for one in found if one.result == REFUSED]
    if as_json:
        click.echo(
            json.dumps({"schema": 1, "fit": not refused, "checks": [asdict(one) for one in found]})
        )
    else:
        for one in found:
            hint = f" ({one.hint})" if one.hint else ""
            click.echo(f"{MARKS[one.result]} {one.name}: {one.detail}{hint}")
        click.echo(f"{len(found)} looked at, {len(refused)} refused", err=True)
    sys.exit(1 if refused else 0)
