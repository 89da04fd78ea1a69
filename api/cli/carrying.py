"""--since: what goes into a layout that is carried, and what the other side has by its receipts (docs/adr/0025)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from service.errors import InvalidConfiguration, InvalidReceipt

if TYPE_CHECKING:
    from api.engine.oneshot import Job
    from service.registry.layout.folder import Folder

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def since_options(command: _Command) -> _Command:
    """Add what leaves out of a layout what the other side has confirmed."""
    for option in reversed((
        click.option("--since", type=_FILE, multiple=True, metavar="RECEIPT",
                     help="Leave out of a layout (oci:/path) what this receipt of the other side confirms; may be repeated."),
        click.option("--since-key", type=_FILE, metavar="PEM",
                     help="Public key that the receipts are signed with: `transship receipts key` there."),
        click.option("--since-unverified", is_flag=True,
                     help="Believe the receipts without a key. Whoever could write them can have images left out."),
    )):  # fmt: skip
        command = option(command)
    return command


@contextlib.contextmanager
def carrying(
    job: Job, receipts: tuple[Path, ...] = (), key: Path | None = None, *, unverified: bool = False
) -> Iterator[None]:
    """Have the layouts that a job writes leave out what receipts confirm, and say so at its end.

    Raises InvalidConfiguration and InvalidReceipt before anything is written.
    """
    folders = _written_layouts(job)
    if not receipts:
        if key is not None or unverified:
            raise click.UsageError("--since-key and --since-unverified go with --since RECEIPT")
        _refuse_partial(folders)
        yield
        return
    if not folders:
        raise InvalidConfiguration(
            "--since leaves images out of a layout, and no destination is one",
            field="--since",
            hint="a registry with url: oci:/path, or copy to oci:PATH:TAG",
        )
    if (key is None) != unverified:
        raise InvalidConfiguration(
            "--since needs the key that the receipt is signed with",
            field="--since-key",
            hint="--since-key FILE with what `transship receipts key` prints at the other side, or --since-unverified",
        )
    from service.registry.layout import left_out

    confirmed, told = _confirmed(receipts, key)
    for folder in folders:
        left_out.begin(folder, confirmed, told)
    try:
        yield
    finally:
        for folder in folders:
            left_out.end(folder)


def _written_layouts(job: Job) -> list[Folder]:
    named = {d.registry for rule in job.rules for d in rule.destinations if d.registry}
    groups = {d.group for rule in job.rules for d in rule.destinations if d.group}
    found = [
        one
        for one in job.registries
        if one.layout is not None and (one.name in named or groups.intersection(one.groups))
    ]
    return [_folder(job, one.name) for one in found]


def _folder(job: Job, name: str) -> Folder:
    from service.registry.layout.folder import Folder

    return next(Folder(one.layout or "", name) for one in job.registries if one.name == name)


def _refuse_partial(folders: list[Folder]) -> None:
    """Refuse to go on without --since with a layout that was made with it: it would stay a part."""
    from service.registry.layout.left_out import FILE, SINCE

    for folder in folders:
        if any(folder.is_there() and folder.size(parts) is not None for parts in ((FILE,), SINCE)):
            raise InvalidConfiguration(
                f"{folder.root} was made with --since, and leaves out what a receipt confirms",
                field="--since",
                hint="give --since again, or another directory for a layout that has everything",
            )


def _confirmed(
    receipts: tuple[Path, ...], key: Path | None
) -> tuple[dict[str, dict[str, str]], list[dict[str, Any]]]:
    """Return repository to tag to digest, the newest receipt's word last, and how the layout names the receipts."""
    import hashlib

    from service.model.receipt import Receipt, split
    from service.model.receipt_signature import verify

    confirmed: dict[str, dict[str, str]] = {}
    told = []
    pem = None if key is None else key.read_text("utf-8", "replace")
    if pem is None:
        click.echo(
            "transship: --since-unverified: the receipts are believed as they are; nobody has vouched for them",
            err=True,
        )
    for receipt in sorted((Receipt(path) for path in receipts), key=lambda one: one.header.made):
        if pem is not None:
            verify(receipt.path, pem)
        count = 0
        for entry in receipt:
            _, repository, reference = split(entry.source)
            if ":" not in reference:
                confirmed.setdefault(repository, {})[reference] = entry.digest
                count += 1
        if not count:
            raise InvalidReceipt(
                f"{receipt.path} confirms no tag", hint="make it of the run that read the layout"
            )
        with receipt.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        told.append(
            {
                "sha256": digest,
                "instance": receipt.header.instance,
                "made": receipt.header.made,
                "verified": pem is not None,
            }
        )
    return confirmed, told


def check_layouts(source: str, destination: str, job: Job) -> None:
    """Hold `oci:PATH:TAG` of a copy to what it means: a plain layout, which is begun where nothing is, as skopeo does.

    Raises InvalidConfiguration where the directory has something else.
    """
    from service.registry.layout.repositories import is_plain, start_plain

    for text, field in ((source, "SOURCE"), (destination, "DESTINATION")):
        if not text.startswith("oci:") or "//" in text:
            continue
        is_source = field == "SOURCE"
        name = job.rules[0].source if is_source else str(job.rules[0].destinations[0].registry)
        folder = _folder(job, name)
        if is_source and (not folder.is_there() or is_plain(folder)):
            continue
        if not is_source and start_plain(folder):
            continue
        raise InvalidConfiguration(
            f"{folder.root} is there and is no OCI image layout",
            field=field,
            hint="another directory; or oci:PATH//REPOSITORY:TAG for a layout of many repositories",
        )
