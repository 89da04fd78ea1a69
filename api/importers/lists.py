"""Plain lists and CSV: `source,destination`, `source destination`, or a source alone with a place to go to."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from api.importers.files import File
from api.importers.gathered import Gathered, Place
from api.importers.references import digest_of, judged, parted, tags_of
from service.errors import InvalidInput, InvalidReference

FORMAT = "list"
MOST_CHARACTERS = 8192
"""In a line; references are far shorter."""


def gather(files: list[File], into: Gathered, default: str = "") -> None:
    """Take up what the files say; `default` is where lines with a source alone go, HOST or HOST/PREFIX."""
    for file in files:
        for number, source, destination in _lines(file, into):
            place = Place(file.name, number)
            try:
                _line(source, destination, place, into, default)
            except InvalidInput as error:
                into.lost(place, source[:120], error.message)


def _lines(file: File, into: Gathered) -> Iterator[tuple[int, str, str]]:
    """Yield line number, source and destination ("": none); comments, empty lines and a CSV's head are passed over."""
    for number, line in enumerate(io.StringIO(file.text), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if len(bare) > MOST_CHARACTERS:
            into.lost(
                Place(file.name, number),
                bare[:40],
                f"a line of more than {MOST_CHARACTERS} characters",
            )
            continue
        cells = (
            next(csv.reader([bare]))
            if "," in bare and " " not in bare.strip('"')
            else bare.replace(",", " ").split()
        )
        cells = [cell.strip() for cell in cells]
        if number == 1 and cells[0].lower() in {"source", "src", "from"}:
            continue
        yield number, cells[0], cells[1] if len(cells) > 1 else ""


def _line(source: str, destination: str, place: Place, into: Gathered, default: str) -> None:
    host, rest = parted(source)
    repository, tags = _split(rest)
    if destination:
        there, target = parted(destination)
        to, names = _split(target)
    elif default:
        base, _, prefix = default.partition("/")
        there, to, names = base, "/".join(filter(None, (prefix, repository))), []
    else:
        raise InvalidReference("no destination: write source,destination, or give --to HOST")
    ends = {"repository": judged(to)}
    if names and names != tags:
        if len(names) != 1 or len(tags) != 1 or names[0].startswith("sha256:"):
            raise InvalidReference("as many tags at the destination as at the source, or none")
        ends["tag"] = names[0]
    entry = {"repositories": [judged(repository)], **({"tags": tags} if tags else {}), "to": ends}
    into.add(host, there, entry, place)


def _split(rest: str) -> tuple[str, list[str]]:
    """Return a repository and its tag or digest; none: all tags."""
    repository, at, digest = rest.partition("@")
    if at:
        return repository.partition(":")[0], [digest_of(digest)]
    repository, colon, tag = rest.partition(":")
    return repository, tags_of(tag) if colon else []
