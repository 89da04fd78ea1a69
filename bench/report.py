"""Write the tables of docs/explanation/performance.md from bench/results: `python -m bench.report`.

What people wrote stands outside of the two marks and stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.results import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_WORDS = {True: "yes", False: "**no**", None: "no figure"}


def render(results: list[dict[str, Any]]) -> str:
    """The part of the page between the marks."""
    lines: list[str] = []
    if results:
        lines += ["### The aims", "", *_aims(results), ""]
    for result in results:
        lines += [f"### {result['scenario']}: {result['title']}", ""]
        for table in result["tables"]:
            lines += [f"{table['title']}.", "", *_table(table["columns"], table["rows"]), ""]
        lines += [f"- {note}" for note in result["notes"]]
        lines += [""] if result["notes"] else []
        lines += [_provenance(result), ""]
    return "\n".join(lines)


def _aims(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [result["scenario"], aim["what"], aim["aim"], aim["found"], _WORDS[aim["reached"]]]
        for result in results
        for aim in result["aims"]
    ]
    return _table(["", "figure", "aim", "found", "reached"], rows)


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows),
    ]


def _provenance(result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in result["versions"].items())
    rounds = result["facts"].get("rounds")
    return (
        f"<sub>{machine['date']}, commit {machine['commit']}, {machine['cores']} cores "
        f"({machine['processor']}), {machine['memory_gib']} GiB, Python {machine['python']}"
        + (f"; {rounds} rounds, A B A B" if rounds else "")
        + (f"; {versions}" if versions else "")
        + "</sub>"
    )


def write_page() -> None:
    """Replace what stands between the marks."""
    paths = [path for path in sorted(RESULTS.glob("*.json")) if "-quick" not in path.stem]
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = render([json.loads(path.read_text()) for path in paths])
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


if __name__ == "__main__":
    write_page()
