"""Regular expressions that a glob can say: what is excluded is described by globs here."""

from __future__ import annotations

import re

from service.errors import InvalidReference

_SIMPLE = re.compile(r"(?:[A-Za-z0-9_/-]|\\[.\-_/]|\.\*|\.)*")
_TOKEN = re.compile(r"\\(.)|(\.\*)|(\.)|([A-Za-z0-9_/-])")


def glob_of(expression: str, *, slashes: bool) -> list[str]:
    """Return globs for the expression between `^` and `$`, put around it as text: `a|b` is `^a` or `b$`.

    `slashes`: whether `.*` goes over the parts of a name. Raises InvalidReference for what no glob says.
    """
    parts = expression.split("|")
    anything = "**" if slashes else "*"
    globs = []
    for number, part in enumerate(parts):
        if not _SIMPLE.fullmatch(part):
            raise InvalidReference(
                f"deny: {expression!r} is no glob, and only globs exclude here: write the rule by hand"
            )
        glob = "".join(
            found[1] or (anything if found[2] else "?" if found[3] else found[4])
            for found in _TOKEN.finditer(part)
        )
        before = "" if number == 0 else anything
        after = "" if number == len(parts) - 1 else anything
        globs.append(f"{before}{glob}{after}")
    return globs
