"""Makes the README's picture of a run: `make pictures` runs the demo on a terminal and draws it.

The demo runs on a pseudo-terminal of its own; pyte keeps the screen that a person would see, and
one moment of the progress bar is kept with the end below it.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 112, 30
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "demo.svg"
BAR = re.compile(r"copying .* (\d+)/(\d+) ")


def record() -> list[str]:
    """Run the demo and return the lines to draw."""
    main, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from api.cli.main import main; main()", "demo", "--exit"],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
    )
    os.close(child)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    moment = ""
    while True:
        if not select.select([main], [], [], 60)[0]:
            raise SystemExit("the demo says nothing for a minute")
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
        for line in screen.display:
            found = BAR.search(line)
            if found and int(found[1]) < int(found[2]):
                moment = line.rstrip()
    if process.wait() != 0:
        raise SystemExit(f"the demo ended with {process.returncode}")
    lines = [line.rstrip() for line in screen.display if line.strip()]
    at = next(number for number, line in enumerate(lines) if BAR.search(line))
    return ["$ make run", *lines[:at], moment, *lines[at:]]


def draw(lines: list[str]) -> str:
    """Return the lines as an SVG of a terminal; paths of this machine become short ones."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        shown = re.sub(r"/tmp/transship-demo-\w+", "/tmp/transship-demo", line)
        text = Text(shown, no_wrap=True, overflow="crop")
        text.highlight_regex(r"━+", "green")
        text.highlight_regex(r"^\$ .*", "bold")
        text.highlight_regex(r"https?://\S+", "cyan")
        text.highlight_regex(r"\bsucceeded\b", "green")
        console.print(text)
    svg = console.export_svg(title="transship demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> int:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(record()), encoding="utf-8")
    print(PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
