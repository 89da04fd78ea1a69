"""The formats by name, and which of them a file is by its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from api.importers import harbor, image_syncer, image_transfer, lists, ocync, regsync, skopeo
from api.importers.build import Imported, build
from api.importers.files import File, read
from api.importers.gathered import Gathered
from service.errors import InvalidConfiguration

MOST_TOLD = 20
"""Lines of a report that goes into one error."""


@dataclass(frozen=True)
class Options:
    """What the other tools take on their command lines, and their files do not have."""

    to: str = ""  # HOST or HOST/PREFIX
    here: str = ""  # the Harbor whose policies these are
    scoped: bool = False
    suffix: str = ""
    all_platforms: bool = False
    plain_http: tuple[str, ...] = ()  # hosts
    stored: bool = False  # passwords are named as secrets of a server


def _skopeo(files: list[File], into: Gathered, options: Options) -> None:
    if not options.to:
        raise InvalidConfiguration(
            "skopeo's file does not say where images go",
            field="--to",
            hint="give --to HOST or --to HOST/PREFIX, skopeo's DESTINATION",
        )
    told = skopeo.Options(options.to, options.scoped, options.suffix, options.all_platforms)
    skopeo.gather(files, into, told)


FORMATS: Mapping[str, Callable[[list[File], Gathered, Options], None]] = {
    image_transfer.FORMAT: lambda files, into, o: image_transfer.gather(files, into, o.to),
    image_syncer.FORMAT: lambda files, into, _: image_syncer.gather(files, into),
    regsync.FORMAT: lambda files, into, _: regsync.gather(files, into),
    skopeo.FORMAT: _skopeo,
    harbor.FORMAT: lambda files, into, o: harbor.gather(files, into, o.here),
    ocync.FORMAT: lambda files, into, _: ocync.gather(files, into),
    lists.FORMAT: lambda files, into, o: lists.gather(files, into, o.to),
}


def import_files(form: str, paths: Sequence[str], options: Options = Options()) -> Imported:
    """Read files of one format, in any order, as one configuration.

    Raises InvalidConfiguration and InvalidFields for files that cannot be read at all.
    """
    files = [read(path, plain=form == lists.FORMAT) for path in paths]
    into = Gathered()
    FORMATS[form](files, into, options)
    if not into.mappings:
        raise _nothing(paths, form, into)
    for host in options.plain_http:
        into.registry(host).plain = True
    found = build(into, stored=options.stored)
    if not found.document["rules"]:
        raise _nothing(paths, form, into)
    return found


def _nothing(paths: Sequence[str], form: str, into: Gathered) -> InvalidConfiguration:
    lost = [f"{n.place}: {n.key}: {n.text}" for n in into.notes if n.weight == "lost"]
    more = [f"and {len(lost) - MOST_TOLD} more"] if len(lost) > MOST_TOLD else []
    return InvalidConfiguration(
        f"{', '.join(paths)}: nothing is to be copied",
        hint="; ".join([*lost[:MOST_TOLD], *more]) or f"is this a file of {form}?",
    )
