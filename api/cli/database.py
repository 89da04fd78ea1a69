"""The database's life: transship db upgrade, check, backup, restore, move."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from api.cli import exits
from api.cli.options import JSON
from service.errors import InvalidConfiguration, StoreUnavailable
from service.settings import Settings

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.store.portable import TableSum

F = TypeVar("F", bound=Callable[..., Any])

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder of a `transship up` on this machine; else TRANSSHIP_DATABASE_URL.",
)
FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
KEYS_APART = "the secret key file is not in it: keep that, too, and apart from it"


@click.group()
def db() -> None:
    """Look after the database.

    Exit codes: 0 done, 1 something is not as it should be, 2 refused before anything was written,
    3 the database does not answer.
    """


def _answers(command: F) -> F:
    """Have a database that does not answer end the command with its own code."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except StoreUnavailable as error:
            exits.tell(error)
            sys.exit(exits.UNKNOWN)

    return cast("F", run)


@db.command()
@DATA
@JSON
@_answers
def upgrade(data: Path | None, as_json: bool) -> None:
    """Create the tables, or bring them to this version, all at once.

    Back up first. Processes of the version before may go on; those of this version start afterwards.
    """
    from service.store.schema import HEAD, create_or_upgrade

    with _open(data) as services:
        before = create_or_upgrade(services.database, _tell)
        document = {"schema": 1, "database": _shown(services), "before": before, "revision": HEAD}
    _answer(as_json, document, f"the database is at revision {HEAD}")


@db.command()
@click.option(
    "--backup",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Look at this backup instead: whether it can be restored.",
)
@DATA
@JSON
@_answers
def check(file: Path | None, data: Path | None, as_json: bool) -> None:
    """Look the database over: version, integrity, settings, secrets, audit log.

    It may be in use. Exit 1 when something is not as it should be, 2 when it is not at this version.
    """
    if file is not None:
        _check_backup(file, as_json)
        return
    from service.store.check import check as look_over
    from service.store.schema import HEAD, check_schema

    with _open(data, there=True) as services:
        check_schema(services.database)
        findings = look_over(services.database, services.keyring, tell=_tell)
        shown = _shown(services)
    good = all(one.ok for one in findings)
    document = {
        "schema": 1,
        "database": shown,
        "revision": HEAD,
        "ok": good,
        "checks": [
            {"name": one.name, "ok": one.ok, "message": one.message, "hint": one.hint}
            for one in findings
        ],
    }
    lines = [f"the database is at revision {HEAD}"]
    for one in findings:
        lines.append(f"{'ok ' if one.ok else 'BAD'} {one.name}: {one.message}")
        lines += [f"    {one.hint}"] if one.hint else []
    _answer(as_json, document, "\n".join(lines))
    sys.exit(exits.AS_THE_RULE_SAYS if good else exits.NOT_AS_THE_RULE_SAYS)


def _check_backup(file: Path, as_json: bool) -> None:
    from service.errors import InvalidInput
    from service.store.backup_file import verify

    try:
        manifest = verify(file, _tell)
    except InvalidInput as error:
        exits.tell(error)
        sys.exit(exits.NOT_AS_THE_RULE_SAYS)
    document = {"schema": 1, "ok": True, **_contents(file, manifest)}
    _answer(
        as_json,
        document,
        f"{file} is whole: {manifest.rows:,} rows of revision {manifest.revision}, made "
        f"{document['made_at']}",
    )


@db.command()
@FILE
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@DATA
@JSON
@_answers
def backup(file: Path, force: bool, data: Path | None, as_json: bool) -> None:
    """Back the database up into FILE, while everything runs on.

    One file for either kind of database, with a checksum of each table; it can be restored into
    either, by this version and later ones. The secret key file is not in it.
    """
    from service.store.backup import back_up

    with _open(data, there=True) as services:
        manifest = back_up(services.database, file, overwrite=force, tell=_tell)
    document = {"schema": 1, **_contents(file, manifest), "warnings": [KEYS_APART]}
    _answer(
        as_json,
        document,
        f"{file}: {manifest.rows:,} rows of {len(manifest.tables)} tables, revision "
        f"{manifest.revision}, {document['bytes']:,} bytes\n{KEYS_APART}",
    )


@db.command()
@FILE
@click.option("--force", is_flag=True, help="Replace all that the database holds.")
@DATA
@JSON
@_answers
def restore(file: Path, force: bool, data: Path | None, as_json: bool) -> None:
    """Restore the backup FILE into an empty database, while nothing runs.

    All or nothing. Afterwards nothing is believed that may have changed since: blobs are proved anew,
    what was to be deleted is looked for anew, and each rule that runs by itself runs once.
    """
    from service.store.restore import restore as restore_into

    with _open(data) as services:
        found = restore_into(
            services.database,
            file,
            dead_after_seconds=services.settings.dead_after_seconds,
            replace=force,
            tell=_tell,
        )
        shown = _shown(services)
    after = found.aftermath
    warnings = ["tokens and secrets are those of the backup: revoke again what was revoked since"]
    document = {
        "schema": 1,
        "database": shown,
        **_contents(file, found.manifest),
        "executions_going_on": after.executions_going_on,
        "rules_to_run": after.rules_to_run,
        "ledgers_raised": after.ledgers_raised,
        "deletions_cancelled": after.deletions_cancelled,
        "warnings": warnings,
    }
    _answer(
        as_json,
        document,
        f"restored {found.rows:,} rows of {document['made_at']}\n"
        f"  {after.executions_going_on} executions go on, {after.rules_to_run} rules run once, "
        f"{after.deletions_cancelled} deletions begin anew, no proof in {after.ledgers_raised} "
        f"registries is believed\n"
        f"  {warnings[0]}\n"
        "  next: `transship db check`, then start the processes",
    )


@db.command()
@click.option("--to", "url", required=True, help="SQLAlchemy URL of an empty database.")
@DATA
@JSON
@_answers
def move(url: str, data: Path | None, as_json: bool) -> None:
    """Move the database to another one, SQLite to PostgreSQL or back, while nothing runs.

    Everything arrives, counted and compared, or nothing does; the old database stays as it is. Keep a
    password out of the URL: postgresql+psycopg://USER@HOST/NAME?passfile=FILE.
    """
    from service.store.database import Database
    from service.store.move import move as move_to

    with _open(data, there=True) as services:
        try:
            target = Database(url)
        except Exception as error:
            raise InvalidConfiguration(
                "--to is no URL of a database",
                hint="sqlite:////path/file.db or postgresql+psycopg://USER@HOST/NAME?passfile=FILE",
            ) from error
        try:
            sums = move_to(
                services.database,
                target,
                dead_after_seconds=services.settings.dead_after_seconds,
                tell=_tell,
            )
        finally:
            target.close()
        shown, goal = _shown(services), target.url.render_as_string()
    rows = sum(table.rows for table in sums.values())
    document = {
        "schema": 1,
        "from": shown,
        "to": goal,
        "rows": rows,
        "tables": _tables(sums),
        "set": {"TRANSSHIP_DATABASE_URL": goal},
    }
    _answer(
        as_json,
        document,
        f"moved {rows:,} rows of {len(sums)} tables, counted and compared\n"
        f"  next: set TRANSSHIP_DATABASE_URL={goal} for every process, then start them\n"
        f"  {shown} is as it was: put it away, so that nothing starts with it",
    )


@db.command()
@DATA
@JSON
@_answers
def reseal(data: Path | None, as_json: bool) -> None:
    """Seal all stored secrets with the first key of the key file, while everything runs.

    Afterwards older keys can be taken out of the file. Exit 1 when a value opens with no key; the others are
    sealed all the same. Called again it finds nothing to do.
    """
    from service.store.schema import check_schema
    from service.store.sealed import reseal as seal_anew

    with _open(data, there=True) as services:
        check_schema(services.database)
        if services.keyring is None:
            raise InvalidConfiguration(
                "TRANSSHIP_SECRET_KEY_FILE is not set",
                field="TRANSSHIP_SECRET_KEY_FILE",
                hint="set it to the key file of this installation, the new key in its first line",
            )
        found = seal_anew(services.database, services.keyring, tell=_tell)
    document = {
        "schema": 1,
        "values": found.all,
        "resealed": found.resealed,
        "closed": list(found.closed),
    }
    text = f"{found.resealed} of {found.all} sealed anew with the first key"
    if found.closed:
        text += f"; no key opens: {', '.join(found.closed)}"
    else:
        text += "; older keys can be taken out of the file"
    _answer(as_json, document, text)
    sys.exit(exits.NOT_AS_THE_RULE_SAYS if found.closed else exits.AS_THE_RULE_SAYS)


# ---- what they share -----------------------------------------------------------------------------


@contextlib.contextmanager
def _open(data: Path | None, *, there: bool = False) -> Iterator[Services]:
    """Open the database of the environment, or of a data folder; `there`: do not create one."""
    from sqlalchemy.exc import DBAPIError

    from service.bootstrap import open_services

    settings = Settings.from_env()
    if data is not None:
        from api.engine.data_dir import DataDir

        folder = DataDir(data)
        if not there:
            folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = str(folder.key_file) if folder.key_file.exists() else ""
        settings = Settings.from_env(database_url=folder.database_url, secret_key_file=keys)
    services = open_services(settings, check=False)
    try:
        if there:
            _refuse_missing(services)
        yield services
    except DBAPIError as error:
        raise InvalidConfiguration(
            f"the database cannot be read: {error.orig}",
            hint="is it one of Transship's? If its file is damaged, restore the last good backup: "
            "`transship db restore FILE`",
        ) from error
    finally:
        services.close()


def _refuse_missing(services: Services) -> None:
    """Refuse a SQLite file that is not there: opening it would make one."""
    database = services.database
    if database.is_sqlite and not Path(database.url.database or "").is_file():
        raise InvalidConfiguration(
            f"there is no database {database.url.database}",
            field="TRANSSHIP_DATABASE_URL",
            hint="name the one that is meant, with --data DIR for a `transship up`",
        )


def _shown(services: Services) -> str:
    """Return the database's address without its password."""
    return services.database.url.render_as_string()


def _contents(file: Path, manifest: Any) -> dict[str, Any]:
    made = datetime.fromtimestamp(manifest.made_at, UTC)
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "revision": manifest.revision,
        "made_at": made.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "rows": manifest.rows,
        "tables": _tables(manifest.tables),
    }


def _tables(sums: Mapping[str, TableSum]) -> dict[str, dict[str, Any]]:
    return {
        name: {"rows": table.rows, "checksum": table.checksum}
        for name, table in sorted(sums.items())
    }


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _answer(as_json: bool, document: dict[str, Any], text: str) -> None:
    if as_json:
        exits.print_json(document)
    else:
        click.echo(text)
