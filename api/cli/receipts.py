"""transship receipts: have a server sign what it committed, and check offline what another one signed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from api.cli import exits
from api.cli.connection import Connection, connect
from api.cli.options import DATA, JSON
from service.errors import InvalidConfiguration

if TYPE_CHECKING:
    from service.model.receipt import Header
    from service.model.receipt_signature import ReceiptKey

SIGNATURE = "Transship-Signature"


@click.group()
def receipts() -> None:
    """Have a server sign what it committed; check offline what another one signed."""


@receipts.command("make")
@click.argument("executions", metavar="[EXECUTION]...", nargs=-1)
@click.option("--rule", help="Of all ended runs of this rule that are kept, instead.")
@click.option("--migration", help="Of all ended runs of this migration that are kept, instead.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the receipt goes; its signature lies beside it, with .sig at its end.",
)
@DATA
@JSON
def make_receipt(
    executions: tuple[str, ...],
    rule: str | None,
    migration: str | None,
    output: Path,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write the receipt of ended runs and its signature: one line for each name that was committed."""
    of = [("execution", one) for one in executions]
    others = [("rule", rule), ("migration", migration)]
    named = [(kind, name) for kind, name in others if name is not None]
    if bool(of) + len(named) != 1:
        raise click.UsageError("name executions, or --rule NAME, or --migration NAME")
    with connect(data) as server:
        header = fetch(server, of or named, output)
    _tell(header, output, as_json)


@receipts.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The public key in PEM, as `receipts key` of the other side printed it.",
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The signature's file, where it is not FILE.sig.",
)
@JSON
def verify_receipt(file: Path, key: Path, signature: Path | None, as_json: bool) -> None:
    """Hold a receipt to a public key, offline. Exit 2: it is not as it was signed."""
    from service.model.receipt_signature import verify

    header = verify(file, read_key(key), signature)
    _tell(header, file, as_json)


@receipts.command("key")
@DATA
@JSON
def show_key(data: Path | None, as_json: bool) -> None:
    """Print the public key that receipts made here are checked with: give it to who receives them."""
    found = _key(data)
    if as_json:
        exits.print_json(found)
        return
    click.echo(found["public_key"], nl=False)
    click.echo(f"transship: receipts name it {found['instance']}", err=True)


def fetch(server: Connection, of: Sequence[tuple[str, str]], output: Path) -> Header:
    """Write a server's receipt and hold it to the server's key; returns its header.

    `of`: what it is of, as the API is asked: ("execution", ID) as often as wanted, ("rule", NAME) ...
    """
    from service.model.receipt_signature import verify
    from service.replication.receipts import save

    with tempfile.TemporaryDirectory(prefix="transship-receipt-") as folder:
        fresh = Path(folder) / "receipt"
        headers = server.download(f"/receipts?{urlencode(of)}", fresh)
        save(fresh, headers.get(SIGNATURE, ""), output)
    return verify(output, server.ask("GET", "/receipts/key")["public_key"])


def read_key(path: Path) -> str:
    """Return the text of a key's file. Raises InvalidConfiguration."""
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidConfiguration(
            f"{path} cannot be read: {reason}", field="--key", hint="name a public key in PEM"
        ) from None


def lasting_key(data: Path | None) -> None:
    """Refuse, before any work, receipts of a command whose key would go with its temporary folder."""
    if not lasts(data):
        raise InvalidConfiguration(
            "the key that signs the receipt would be gone when this command ends",
            field="--receipt",
            hint="give --data DIR, which keeps it, or set TRANSSHIP_RECEIPT_KEY_FILE; `transship receipts key` "
            "prints its public half",
        )


def lasts(data: Path | None) -> bool:
    """Whether the key of a command's receipts is there after it."""
    return data is not None or bool(os.environ.get("TRANSSHIP_RECEIPT_KEY_FILE"))


def _key(data: Path | None) -> dict[str, Any]:
    """Ask the server for its key; without one, take it from the data folder or the setting."""
    own = os.environ.get("TRANSSHIP_RECEIPT_KEY_FILE", "")
    keys = None if data is None else data / "secret.keys"
    try:
        with connect(data) as server:
            found: dict[str, Any] = server.ask("GET", "/receipts/key")
            return found
    except InvalidConfiguration:
        if not own and (keys is None or not keys.is_file()):
            raise
    from service.model.receipt_signature import ReceiptKey
    from service.store.keyring import KeyRing

    key = (
        ReceiptKey.from_file(own)
        if own
        else ReceiptKey.from_secret(KeyRing.from_file(keys or "").first)
    )
    return _shown(key)


def _shown(key: ReceiptKey) -> dict[str, Any]:
    return {"algorithm": "ed25519", "instance": key.instance, "public_key": key.public_pem}


def _tell(header: Header, file: Path, as_json: bool) -> None:
    if as_json:
        exits.print_json(
            {
                "schema": 1,
                "file": str(file),
                "valid": True,
                "instance": header.instance,
                "made": header.made,
                "executions": list(header.executions),
                "entries": header.entries,
            }
        )
        return
    click.echo(f"{file}: {header.entries} copies, signed by {header.instance}, as of {header.made}")
    sys.stdout.flush()
