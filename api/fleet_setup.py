"""What a fleet needs once before its first start: `python -m api.fleet_setup files|database DIR`.

`files` makes the key of secrets at rest and the passwords of database and Flower where there are none;
`database` brings the schema to this version and writes a first admin token to DIR/admin_token.
Both may be run again at any time and then change nothing.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from service.bootstrap import open_services
from service.errors import NotFoundInStore, TransshipError
from service.settings import Settings
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade

ADMIN = "admin"


def make_files(directory: Path) -> None:
    """Make the secrets that all processes share; existing ones stay."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "secrets").mkdir(mode=0o700, exist_ok=True)
    write_new_key(directory / "secret_keys")
    password_file = directory / "postgres_password"
    # PostgreSQL's image reads this as a user of its own; the volume is seen by the fleet only.
    _write_once(password_file, secrets.token_urlsafe(32), 0o644)
    password = password_file.read_text("ascii").strip()
    _write_once(directory / "flower_password", secrets.token_urlsafe(24), 0o600)
    _write_once(directory / "pgpass", f"*:*:*:*:{password}", 0o600)


def make_database(directory: Path, settings: Settings) -> None:
    """Bring the schema to this version and see to a first admin token."""
    services = open_services(settings, check=False)
    try:
        create_or_upgrade(services.database)
        token_file = directory / "admin_token"
        try:
            services.tokens.get(ADMIN)
        except NotFoundInStore:
            _write_once(token_file, f"tsp_{secrets.token_urlsafe(32)}", 0o600)
            services.tokens.create(ADMIN, "admin", text=token_file.read_text("ascii").strip())
    finally:
        services.close()


def _write_once(path: Path, text: str, mode: int) -> None:
    """Write a file that is either not there or whole, whenever this process dies."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), mode)
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def main(arguments: list[str]) -> int:
    """Run one of the two steps; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in {"files", "database"}:
        sys.stderr.write("usage: python -m api.fleet_setup files|database DIR\n")
        return 2
    directory = Path(arguments[1])
    try:
        if arguments[0] == "files":
            make_files(directory)
        else:
            make_database(directory, Settings.from_env())
    except TransshipError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
