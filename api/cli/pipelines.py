"""transship pipelines, promote, promotions: images from stage to stage, through gates."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

from api.cli import exits, tables
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON, SECONDS, part
from api.cli.promotion_words import tell, tell_pipeline, words
from service.errors import InvalidConfiguration

LOOK_SECONDS = 0.3
IDENTITY = click.argument("identity", metavar="ID")
TIMEOUT = click.option(
    "--timeout",
    type=SECONDS,
    help="How long to wait: 30s, 5m, 1h; then exit 3, and the promotion goes on.",
)
WAIT = click.option(
    "--wait", is_flag=True, help="Wait until it is placed, or comes to nothing: exit 1."
)


@click.group()
def pipelines() -> None:
    """Say which stages images pass on their way to production, and which gates stand before each."""


@pipelines.command("ls")
@DATA
@JSON
def list_pipelines(data: Path | None, as_json: bool) -> None:
    """List pipelines by name."""
    with connect(data) as server:
        tables.show(
            server.items("/pipelines"),
            as_json,
            (
                ("NAME", lambda p: p["name"]),
                ("PROJECT", lambda p: p["effective"]["project"]),
                ("STAGES", lambda p: [stage["name"] for stage in p["stages"]]),
            ),
        )


pipelines.add_command(list_pipelines, "list")


@pipelines.command("show")
@click.argument("name")
@DATA
@JSON
def show_pipeline(name: str, data: Path | None, as_json: bool) -> None:
    """Show a pipeline's stages and gates."""
    with connect(data) as server:
        tell_pipeline(server.ask("GET", f"/pipelines/{part(name)}"), as_json=as_json)


@pipelines.command("put")
@click.argument("name")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Its document in YAML or JSON: stages, secret_env, ...",
)
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the secret that signs what it posts; it is stored sealed.",
)
@DATA
@JSON
def put_pipeline(
    name: str, path: Path, secret_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Create or replace a pipeline; `transship apply` does so from a transship.yaml."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path} is no YAML: {error}", field=str(path)) from error
    if secret_file is not None and isinstance(document, dict):
        document["secret"] = secret_file.read_text("utf-8").strip()
    if isinstance(document, dict) and "pipelines" in document:
        raise InvalidConfiguration(
            f"{path} is a whole transship.yaml, and not the one pipeline",
            field="--file",
            hint=f"transship apply -f {path}; here the file has stages: [...] at its top",
        )
    with connect(data) as server:
        found = server.ask("PUT", f"/pipelines/{part(name)}", document)
    tell_pipeline(found, as_json=as_json)


@pipelines.command("delete")
@click.argument("name")
@DATA
def delete_pipeline(name: str, data: Path | None) -> None:
    """Forget a pipeline; what it has promoted stays, and its history."""
    with connect(data) as server:
        server.ask("DELETE", f"/pipelines/{part(name)}")
    click.echo(f"pipeline {name} is forgotten; what it has promoted stays", err=True)


@click.command()
@click.argument("pipeline")
@click.argument("ref")
@click.option("--to", "stage", required=True, help="The stage that it is to get to.")
@WAIT
@TIMEOUT
@DATA
@JSON
def promote(
    pipeline: str,
    ref: str,
    stage: str,
    wait: bool,
    timeout: float | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Ask for an image to be promoted to a stage of a pipeline.

    REF is REPOSITORY:TAG or REPOSITORY:TAG@DIGEST as it is called at the stage before, without the registry. The tag
    becomes a digest now: that is what is judged and copied, wherever the tag goes meanwhile.
    """
    with connect(data) as server:
        found = server.ask("POST", "/promotions", {"pipeline": pipeline, "ref": ref, "to": stage})
        _shown(server, found, wait, timeout, as_json)


@click.group()
def promotions() -> None:
    """See what is on its way from stage to stage, approve, reject, roll back."""


@promotions.command("ls")
@click.option("--pipeline", help="Only those of this pipeline.")
@click.option("--stage", help="Only those to this stage.")
@click.option("--state", help="Only those in this state: waiting, copying, placed, ...")
@DATA
@JSON
def list_promotions(
    pipeline: str | None,
    stage: str | None,
    state: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """List promotions, the newest first."""
    given = {"pipeline": pipeline, "stage": stage, "state": state}
    with connect(data) as server:
        tables.show(
            server.items("/promotions", **{key: text for key, text in given.items() if text}),
            as_json,
            (
                ("ID", lambda p: p["id"]),
                ("STATE", lambda p: p["state"]),
                ("PIPELINE", lambda p: p["pipeline"]),
                ("TO", lambda p: p["to"]),
                ("NAME THERE", lambda p: _name(p["destination"])),
                ("DIGEST", lambda p: p["digest"]),
                ("BY", lambda p: p["asked_by"]),
                ("CREATED", lambda p: p["created_at"]),
                ("REASON", lambda p: p["reason"]),
            ),
        )


promotions.add_command(list_promotions, "list")


@promotions.command("show")
@IDENTITY
@WAIT
@TIMEOUT
@DATA
@JSON
def show_promotion(
    identity: str, wait: bool, timeout: float | None, data: Path | None, as_json: bool
) -> None:
    """Show a promotion with its gates, who has approved, and its history."""
    with connect(data) as server:
        found = server.ask("GET", _path(identity))
        _shown(server, found, wait, timeout, as_json)


@promotions.command("approve")
@IDENTITY
@click.option("--digest", help="The digest that is approved; else the one that it shows now.")
@DATA
@JSON
def approve(identity: str, digest: str | None, data: Path | None, as_json: bool) -> None:
    """Approve a promotion at the gate that it waits for; each token counts once."""
    with connect(data) as server:
        digest = digest or server.ask("GET", _path(identity))["digest"]
        tell(server.ask("POST", f"{_path(identity)}/approve", {"digest": digest}), as_json=as_json)


@promotions.command("reject")
@IDENTITY
@click.option("--digest", help="The digest that is rejected; else the one that it shows now.")
@click.option("--reason", help="Why; it stands in the history.")
@DATA
@JSON
def reject(
    identity: str, digest: str | None, reason: str | None, data: Path | None, as_json: bool
) -> None:
    """Reject a promotion that waits for its gates."""
    with connect(data) as server:
        said = {"digest": digest or server.ask("GET", _path(identity))["digest"]}
        if reason:
            said["reason"] = reason
        tell(server.ask("POST", f"{_path(identity)}/reject", said), as_json=as_json)


@promotions.command("cancel")
@IDENTITY
@DATA
@JSON
def cancel(identity: str, data: Path | None, as_json: bool) -> None:
    """Take a promotion back that has not ended."""
    with connect(data) as server:
        tell(server.ask("POST", f"{_path(identity)}/cancel"), as_json=as_json)


@promotions.command("rollback")
@IDENTITY
@click.option(
    "--digest", help="The earlier digest; else the one that stood there before this promotion."
)
@WAIT
@TIMEOUT
@DATA
@JSON
def rollback(
    identity: str,
    digest: str | None,
    wait: bool,
    timeout: float | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Bring an earlier digest back to the name that a promotion has placed, through the gates of its stage."""
    with connect(data) as server:
        said = {"digest": digest} if digest else {}
        found = server.ask("POST", f"{_path(identity)}/rollback", said)
        _shown(server, found, wait, timeout, as_json)


def _shown(
    server: Connection, found: dict[str, Any], wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Print a promotion, when it has ended if that is waited for; then it ends the process with what it came to."""
    late, told = False, ""
    if wait:
        found, late, told = _followed(server, found, timeout)
    tell(found, as_json=as_json, told=told)
    if late:
        sys.exit(exits.UNKNOWN)
    if wait and found["state"] != "placed":
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)


def _followed(
    server: Connection, found: dict[str, Any], timeout: float | None
) -> tuple[dict[str, Any], bool, str]:
    """Look until it has ended; returns it then, whether the time ran out before, and the line that was printed last."""
    deadline = None if timeout is None else time.monotonic() + timeout
    told = ""
    while found["state"] in ("waiting", "copying"):
        if (now := words(found)) != told:
            told = now
            click.echo(now, err=True)
        if deadline is not None and time.monotonic() >= deadline:
            return found, True, told
        time.sleep(LOOK_SECONDS)
        found = server.ask("GET", _path(found["id"]))
    return found, False, told


def _name(place: dict[str, Any]) -> str:
    return f"{place['registry']}/{place['repository']}:{place['tag']}"


def _path(identity: str) -> str:
    return f"/promotions/{part(identity)}"
