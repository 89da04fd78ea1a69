"""Make receipts: the committed copies of ended executions, written and signed (docs/adr/0024)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import Conflict, InvalidConfiguration, InvalidReference
from service.model.receipt import SUFFIX, Entry, Header, entry_line, header_line, instant, split
from service.model.receipt_signature import ReceiptKey
from service.replication.report import spell
from service.settings import Settings
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.keyring import KeyRing
from service.store.receipts import Confirmed, ReceiptStore

MOST_EXECUTIONS = 1000


@dataclass(frozen=True, slots=True)
class Made:
    """A receipt that lies in a file, with its signature in Base64."""

    path: Path
    signature: str
    header: Header


def key_of(settings: Settings, keyring: KeyRing | None) -> ReceiptKey:
    """Return the key that signs receipts: the setting's, else one derived from the first secret key.

    Raises InvalidConfiguration when there is neither.
    """
    if settings.receipt_key_file:
        return ReceiptKey.from_file(settings.receipt_key_file)
    if keyring is None:
        raise InvalidConfiguration(
            "there is no key to sign receipts with",
            field="TRANSSHIP_RECEIPT_KEY_FILE",
            hint="point TRANSSHIP_RECEIPT_KEY_FILE, or TRANSSHIP_SECRET_KEY_FILE, at a key file",
        )
    return ReceiptKey.from_secret(keyring.first)


class Receipts:
    """Makes receipts of what a store knows."""

    def __init__(self, executions: ExecutionStore, store: ReceiptStore, key: ReceiptKey) -> None:
        self._executions = executions
        self._store = store
        self._key = key

    @contextmanager
    def made(self, identities: Sequence[str]) -> Iterator[Made]:
        """Make the receipt of executions in a temporary folder, which goes with the context.

        The same executions give the same bytes. Raises NotFoundInStore, Conflict for an execution that has not
        ended, for none at all and for too many, and for copies between registries that have no names.
        """
        records = [self._ended(one) for one in dict.fromkeys(identities)]
        if not records:
            raise Conflict(
                "there is no ended execution to tell of", hint="run the rule to its end first"
            )
        if len(records) > MOST_EXECUTIONS:
            raise Conflict(
                f"{len(records)} executions are more than one receipt tells of: {MOST_EXECUTIONS}",
                hint="name fewer of them, and make several receipts",
            )
        records.sort(key=lambda one: one.id)
        with tempfile.TemporaryDirectory(prefix="transship-receipt-") as folder:
            path = Path(folder) / "receipt"
            header = self._write(records, path)
            yield Made(path, self._key.sign(path), header)

    def _ended(self, identity: str) -> ExecutionRecord:
        record = self._executions.get(identity)
        if not record.state.ended:
            raise Conflict(
                f"execution {identity} has not ended", hint="stop it first, or wait for it"
            )
        return record

    def _write(self, records: Sequence[ExecutionRecord], path: Path) -> Header:
        entries = path.with_name("entries")
        count = 0
        with entries.open("wb") as file:
            for one in self._store.confirmed([record.id for record in records]):
                file.write(entry_line(_entry(one)))
                count += 1
        header = Header(
            self._key.instance,
            instant(max(record.finished_at or record.created_at for record in records)),
            tuple(record.id for record in records),
            count,
        )
        with path.open("wb") as file, entries.open("rb") as body:
            file.write(header_line(header))
            shutil.copyfileobj(body, file, 1 << 20)
        entries.unlink()
        return header


def save(made: Path, signature: str, path: Path) -> None:
    """Put a receipt and its signature where they are wanted, each whole or not at all.

    Raises InvalidConfiguration when the folder does not take them.
    """
    try:
        with suppress(FileNotFoundError):
            path.with_name(path.name + SUFFIX).unlink()
        beside = path.with_name(f".{path.name}.new")
        shutil.copyfile(made, beside)
        beside.replace(path)
        beside.write_text(f"{signature}\n", "ascii")
        beside.replace(path.with_name(path.name + SUFFIX))
    except OSError as error:
        raise InvalidConfiguration(
            f"{path} cannot be written: {error.strerror}", hint="name a file in a folder of yours"
        ) from None


def _entry(one: Confirmed) -> Entry:
    source, destination = spell(*one.source), spell(*one.destination)
    for place in (source, destination):
        try:
            split(place)
        except InvalidReference:
            raise Conflict(
                f"{place} has an address in the place of a registry's name, and receipts tell no addresses",
                hint="copy it by a rule of a file: `transship sync -f FILE`",
            ) from None
    return Entry(
        source, destination, one.digest, one.bytes, one.route, instant(one.at), one.attempts
    )
