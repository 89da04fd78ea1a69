"""What imported files say, in lines that a test can hold against what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.config_file import load_text
from api.importers.build import Imported
from api.importers.formats import Options, import_files


def imported(folder: Path, form: str, *texts: str, options: Options | None = None) -> Imported:
    """Import files of these texts; the result is read as transship.yaml, so that it is valid in every test."""
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.yaml"
        path.write_text(text)
        paths.append(str(path))
    found = import_files(form, paths, options or Options())
    load_text(found.text())
    return found


def lines(found: Imported) -> list[str]:
    """Return a line for each entry: `registry/repository[tags] -> registry/repository:tag`, and its conditions."""
    said = []
    for rule in found.document["rules"]:
        destination = rule["destinations"][0]
        for entry in rule["select"]:
            to = {
                **{k: v for k, v in destination.items() if k != "registry"},
                **entry.get("to", {}),
            }
            end = f"{destination['registry']}/{to['repository']}" + (
                f":{to['tag']}" if "tag" in to else ""
            )
            more = {k: v for k, v in entry.items() if k in ("types", "platforms")}
            said.append(
                f"{rule['source']}/{_names(entry['repositories'])}[{_names(entry.get('tags', ['*']))}] -> {end}"
                + (f" {more}" if more else "")
            )
    return said


def _names(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return " ".join(
        f"{key}={_names(one) if isinstance(one, list) else one}" for key, one in value.items()
    )


def told(found: Imported, weight: str) -> list[str]:
    """Return the notes of a weight: `file:line key`."""
    return [
        f"{Path(n.place.file).name}:{n.place.line} {n.key}"
        for n in found.notes
        if n.weight == weight
    ]


def rules(found: Imported, *keys: str) -> Sequence[dict[str, Any]]:
    """Return these keys of each rule."""
    return [{key: rule[key] for key in keys if key in rule} for rule in found.document["rules"]]
